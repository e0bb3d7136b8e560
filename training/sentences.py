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
The training sentences: a dictionary's examples, novels, requests, commands, everyday language.

    python -m training.sentences --sources build/training/sources --out build/training

Writes sentences.txt and heldout.txt: lower case, letters and apostrophes only, 2 to 22 words,
every word in the pronunciation lexicon. Sentences that share five words in a row with a text in
the `--exclude` files (manifests of test recordings), or are one of their shorter texts, are left
out.
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
from training.everyday import everyday
from training.household_requests import requests
from training.intent_templates import expand_intents

from voxtral_ros.evaluation.manifest import read_table
from voxtral_ros.evaluation.word_error_rate import normalize

N_HELD_OUT = 1000
N_COMMANDS = 40_000
N_INTENTS = 15_000
N_REQUESTS = 30_000
REQUEST_TIMES = 3  # repeated: they are few compared with the examples and novels
_SENTENCE = re.compile(r'[^.!?;:\n]+')
_ALLOWED = re.compile(r"[a-z]+('[a-z]+)?")
_QUOTED = re.compile(r'"([^"]+)"')
# not in the lexicon, but pronounced as they should be
_MORE_WORDS = {'tv', 'wifi', 'uber', 'mastercard', 'starbucks', 'todo', 'gps', 'uk', 'usa', 'atm'}
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
        if words and known.issuperset(words) and excluded.isdisjoint(_runs(words)):
            found.add(' '.join(words))
    return found


def _runs(words: list[str], length: int = 5) -> set[tuple[str, ...]]:
    """Return the runs of so many words, or all of the words if there are fewer."""
    if len(words) < length:
        return {tuple(words)}
    return set(zip(*(words[n:] for n in range(length)), strict=False))


def excluded_runs(paths: list[Path]) -> set[tuple[str, ...]]:
    """Return the runs of words to exclude, from TSV files with a column `text`."""
    return {run for path in paths for row in read_table(path, ('text',))
            for run in _runs(normalize(row['text']))}


def lexicon(folder: Path) -> set[str]:
    """Return the words that hibari-tts can pronounce by its lexicon, inflected ones among them."""
    words = set()
    for path in folder.glob('lexicon_us_*.json.gz'):
        with gzip.open(path, 'rt', encoding='utf-8') as file:
            words |= {word.lower() for word in json.load(file)}
    return words | _MORE_WORDS | {form for word in words if len(word) > 2 and word.isalpha()
                                  for form in inflected(word)}


def inflected(word: str) -> Iterator[str]:
    """Yield the forms of a word that the grapheme-to-phoneme converter derives from it."""
    yield from (f"{word}'s", f'{word}s')
    if word.endswith('y'):
        yield f'{word[:-1]}ies'
    elif word.endswith(('s', 'x', 'z', 'ch', 'sh', 'o')):
        yield f'{word}es'
    if word.endswith('e'):
        yield from (f'{word}d', f'{word[:-1]}ing')
    else:
        yield from (f'{word}ed', f'{word}ing')
        if word[-1] in 'bdgklmnprtvz':
            yield f'{word}{word[-1]}ing'


def main() -> None:
    """Write the sentences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--sources', type=Path, required=True)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--exclude', type=Path, nargs='*', default=[],
                        help='manifests of test recordings')
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
    seen = {*sentences, *held_out}
    for source, found_texts in everyday(sources / 'everyday'):
        found = sorted(select(found_texts, known, excluded) - seen)
        random.shuffle(found)
        sentences += found[:source.limit]
        seen.update(found)
        print(f'{source.folder}: {min(len(found), source.limit)} of {len(found)}')
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / 'heldout.txt').write_text('\n'.join(held_out) + '\n', encoding='utf-8')
    (arguments.out / 'sentences.txt').write_text('\n'.join(sentences) + '\n', encoding='utf-8')
    n_words = sum(len(text.split()) for text in sentences)
    print(f'{len(sentences)} sentences, {n_words} words, '
          f'{len(set(" ".join(sentences).split()))} distinct words; {len(held_out)} held out')


if __name__ == '__main__':
    main()
