# Copyright 2026 voxtral_ros maintainers
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""
The training sentences: everyday language, speeches, novels, requests, voice and robot commands.

    python -m training.sentences --sources build/training/sources --out build/training

Writes sentences.txt and heldout.txt: lower case, letters and apostrophes only, 2 to 22 words,
every word in the pronunciation lexicon. Sentences that share five words in a row with a text in
the `--exclude` files (manifests of real test recordings) are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
import gzip
import html
import json
from pathlib import Path
import random
import re

from training.commands import command, number_words
from training.household_requests import requests
from training.intent_templates import expand_intents

from voxtral_ros.evaluation.manifest import read_table

N_HELD_OUT = 1000
N_COMMANDS = 40_000
N_INTENTS = 15_000
N_REQUESTS = 30_000
REQUEST_TIMES = 3  # repeated: they are few compared with the examples and novels
_SENTENCE = re.compile(r'[^.!?;:\n]+')
_ALLOWED = re.compile(r"[a-z]+('[a-z]+)?")
_QUOTED = re.compile(r'"([^"]+)"')
_ABBREVIATIONS = {'mr': 'mister', 'mrs': 'missus', 'dr': 'doctor', 'st': 'saint'}


def normalise(text: str) -> list[str] | None:
    """Return the words of a sentence in lower case, None if it has other than words."""
    text = html.unescape(text).replace('\u2019', "'").replace('--', ' ').replace('\u2014', ' ')
    text = re.sub(r'\b\d{1,4}\b', lambda match: f' {number_words(int(match.group()))} ', text)
    words = re.sub(r'[,()"\[\]_*\u201c\u201d\u2018-]', ' ', text.lower()).split()
    words = [_ABBREVIATIONS.get(word.strip("'."), word.strip("'.")) for word in words]
    if not 2 <= len(words) <= 22 or not all(_ALLOWED.fullmatch(word) for word in words):
        return None
    return words


def wordnet(folder: Path) -> Iterator[str]:
    """Yield the usage examples of WordNet, and its glosses for their vocabulary."""
    for name in ('adj', 'adv', 'noun', 'verb'):
        for line in (folder / f'data.{name}').read_text(encoding='utf-8').splitlines():
            if ' | ' in line:
                gloss = line.split(' | ', 1)[1]
                yield from _QUOTED.findall(gloss)
                yield from _QUOTED.sub('', gloss).split(';')


def running_text(folder: Path) -> Iterator[str]:
    """Yield the sentences of all text files in a folder."""
    for path in sorted(folder.glob('*.txt')):
        text = re.sub(r'\s+', ' ', path.read_text(encoding='utf-8'))
        yield from _SENTENCE.findall(text)


def novels(folder: Path) -> Iterator[str]:
    """Yield the sentences of Project Gutenberg books, without their licence."""
    for path in sorted(folder.glob('*.txt')):
        text = path.read_text(encoding='utf-8')
        parts = re.split(r'\*\*\* ?(?:START|END) OF TH[^*]*\*\*\*', text)
        yield from _SENTENCE.findall(re.sub(r'\s+', ' ', parts[1]))


def select(texts: Iterable[str], known: set[str], excluded: set[tuple[str, ...]]) -> set[str]:
    """Return the sentences of known words that contain none of the excluded runs of words."""
    found = set()
    for text in texts:
        words = normalise(text)
        if words and known.issuperset(words) \
                and excluded.isdisjoint(zip(*(words[n:] for n in range(5)), strict=False)):
            found.add(' '.join(words))
    return found


def excluded_runs(paths: list[Path], length: int = 5) -> set[tuple[str, ...]]:
    """Return the runs of words to exclude, from TSV files with a column `text`."""
    runs = set()
    for path in paths:
        for row in read_table(path, ('text',)):
            words = row['text'].lower().split()
            runs |= set(zip(*(words[n:] for n in range(length)), strict=False))
    return runs


def lexicon(folder: Path) -> set[str]:
    """Return the words that the pronunciation lexicon of hibari-tts knows."""
    words = set()
    for path in folder.glob('lexicon_us_*.json.gz'):
        with gzip.open(path, 'rt', encoding='utf-8') as file:
            words |= {word.lower() for word in json.load(file)}
    return words


def main() -> None:
    """Write the sentences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--sources', type=Path, required=True)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--exclude', type=Path, nargs='*', default=[],
                        help='manifests of real test recordings')
    arguments = parser.parse_args()
    random.seed(1)
    sources = arguments.sources
    excluded = excluded_runs(arguments.exclude)
    known = lexicon(sources / 'hibari' / 'assets')
    texts = [*wordnet(sources / 'wordnet'), *running_text(sources / 'sotu'),
             *running_text(sources / 'moby-dick')]
    texts += expand_intents(sources / 'intents.json', N_INTENTS)
    sentences = sorted(select(texts, known, excluded))
    random.shuffle(sentences)
    held_out, sentences = sentences[:N_HELD_OUT], sentences[N_HELD_OUT:]
    commands = sorted(text for text in {command() for _ in range(N_COMMANDS)}
                      if known.issuperset(text.split()))
    random.shuffle(commands)
    held_out += commands[:N_HELD_OUT // 4]
    sentences += commands[N_HELD_OUT // 4:]
    random.shuffle(sentences)
    # New sources are appended, so that the lines before them stay the same: existing shards refer
    # to sentences by line number.
    for more, times in ((novels(sources / 'novels'), 1),
                        (requests(sources / 'wordnet', known, N_REQUESTS), REQUEST_TIMES)):
        sentences += times * sorted(select(more, known, excluded) - {*sentences, *held_out})
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / 'heldout.txt').write_text('\n'.join(held_out) + '\n', encoding='utf-8')
    (arguments.out / 'sentences.txt').write_text('\n'.join(sentences) + '\n', encoding='utf-8')
    n_words = sum(len(text.split()) for text in sentences)
    print(f'{len(sentences)} sentences, {n_words} words, '
          f'{len(set(" ".join(sentences).split()))} distinct words; {len(held_out)} held out')


if __name__ == '__main__':
    main()
