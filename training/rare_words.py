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
Which words of a set training has hardly heard, and how often these are wrong.

    python -m training.rare_words --sentences build/training/sentences.txt --texts after/orders.tsv

The table is of `voxtral evaluate --texts`. A word is wrong when it is in none of the stretches
that text and transcript share.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
from difflib import SequenceMatcher
from pathlib import Path

from training.baselines import spoken_form
from training.compare_transcripts import read_texts


def right_words(words: list[str], transcript: list[str]) -> list[bool]:
    """Return for each word whether the transcript has it, in its place."""
    right = [False] * len(words)
    for at, _, size in SequenceMatcher(None, words, transcript, False).get_matching_blocks():
        right[at:at + size] = [True] * size
    return right


def count_wrong(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[int, int]]:
    """Return for each word of the texts how often it is said and how often it is wrong."""
    said: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for text, transcript in pairs:
        words = spoken_form(text)
        said.update(words)
        right = right_words(words, spoken_form(transcript))
        wrong.update(word for word, is_right in zip(words, right, strict=True) if not is_right)
    return {word: (count, wrong[word]) for word, count in said.items()}


def main() -> None:
    """Print the rare words, and a line each for them and for the others."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('--sentences', type=Path, required=True, help='what training speaks')
    parser.add_argument('--texts', type=Path, required=True, help='what was said and understood')
    parser.add_argument('--at-most', type=int, default=30, metavar='N',
                        help='sentences that a rare word is in (default 30)')
    arguments = parser.parse_args()
    with arguments.sentences.open(encoding='utf-8') as lines:
        known = Counter(word for line in lines for word in set(line.split()))
    counts = count_wrong(read_texts(arguments.texts).values())
    rare = {word for word in counts if known[word] <= arguments.at_most}
    for word in sorted(rare, key=lambda word: -counts[word][0]):
        said, wrong = counts[word]
        print(f'{word}: in {known[word]} sentences, said {said} times, {wrong} times wrong')
    for name, words in (('rare', rare), ('other', counts.keys() - rare)):
        said, wrong = (sum(counts[word][n] for word in words) for n in (0, 1))
        print(f'{len(words)} {name} words: said {said} times, {wrong} times wrong')


if __name__ == '__main__':
    main()
