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
Error rate of the words of a test set that are rare in the training sentences.

    python -m training.rare_words --sentences build/training/sentences.txt --texts after/orders.tsv

Takes a table that `voxtral evaluate --texts` wrote. A word is wrong when it is in none of the
matching blocks of reference and transcript.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
from difflib import SequenceMatcher
from pathlib import Path

from training.baselines import spoken_form
from training.compare_transcripts import read_texts


def matched_words(words: list[str], transcript: list[str]) -> list[bool]:
    """Return for each word whether the aligned transcript has it."""
    matched = [False] * len(words)
    for at, _, size in SequenceMatcher(None, words, transcript, False).get_matching_blocks():
        matched[at:at + size] = [True] * size
    return matched


def count_errors(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[int, int]]:
    """Return for each word of the references its count and how often it is wrong."""
    total: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for text, transcript in pairs:
        words = spoken_form(text)
        total.update(words)
        matched = matched_words(words, spoken_form(transcript))
        wrong.update(word for word, right in zip(words, matched, strict=True) if not right)
    return {word: (count, wrong[word]) for word, count in total.items()}


def main() -> None:
    """Print each rare word, then the totals of rare and of other words."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('--sentences', type=Path, required=True, help='training sentences')
    parser.add_argument('--texts', type=Path, required=True,
                        help='table of references and transcripts')
    parser.add_argument('--at-most', type=int, default=30, metavar='N',
                        help='training sentences that have the word (default 30)')
    arguments = parser.parse_args()
    with arguments.sentences.open(encoding='utf-8') as lines:
        known = Counter(word for line in lines for word in set(line.split()))
    counts = count_errors(read_texts(arguments.texts).values())
    rare = {word for word in counts if known[word] <= arguments.at_most}
    for word in sorted(rare, key=lambda word: -counts[word][0]):
        total, wrong = counts[word]
        print(f'{word}: in {known[word]} training sentences, {wrong} of {total} wrong')
    for name, words in (('rare', rare), ('other', counts.keys() - rare)):
        total, wrong = (sum(counts[word][n] for word in words) for n in (0, 1))
        print(f'{len(words)} {name} words: {wrong} of {total} wrong')


if __name__ == '__main__':
    main()
