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
Print the rare words of the texts of a manifest, as a list of phrases for its recordings.

    python -m training.rare_phrases reading.tsv > reading.txt

Rare are words of at least four letters that are less frequent than three in a million words, by
the package `wordfreq`: what a list would have, whether they are recognized or not.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

from voxtral_ros.evaluation.manifest import read_manifest
from voxtral_ros.evaluation.word_error_rate import normalize

MIN_LETTERS = 4
PER_MILLION = 3.0


def rare_words(texts: Iterable[str], frequency: Callable[[str], float]) -> list[str]:
    """Return the rare words of texts; `frequency` is of a word, as a part of all words."""
    words = {word for text in texts for word in normalize(text)}
    return sorted(word for word in words
                  if len(word) >= MIN_LETTERS and word.isalpha()
                  and frequency(word) < PER_MILLION * 1e-6)


def main() -> None:
    """Print the words."""
    from wordfreq import word_frequency
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('manifest', type=Path)
    arguments = parser.parse_args()
    texts = [recording.text for recording in read_manifest(arguments.manifest)]
    print('\n'.join(rare_words(texts, lambda word: word_frequency(word, 'en'))))


if __name__ == '__main__':
    main()
