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
Which of some phrases was said, as far as what was written tells: it may be a little wrong.

    PhraseMatcher(['kitchen', 'living room']).best('To the livingroom, please.'.split())

finds 'living room' in words 2 to 3. Case, punctuation and spaces do not count, nor do a few
letters; letters are compared, not sounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from voxtral_ros.recognizer.words import is_unspaced, normalised

MIN_SIMILARITY = 0.81  # so of six letters one may be wrong: 'light' is not 'right'


@dataclass(frozen=True)
class Match:
    """A phrase, and the words that it was found in."""

    phrase: str
    similarity: float  # 0..1; 1: to the letter
    begin: int  # index of the first word
    end: int  # and of the first one after it


class PhraseMatcher:
    """Finds phrases in words."""

    def __init__(self, phrases: Sequence[str], min_similarity: float = MIN_SIMILARITY) -> None:
        """
        Look for some phrases.

        :param min_similarity: 1 less the edits per letter that a match may have
        """
        pieces = [pieces_of([phrase]) for phrase in phrases]
        self._phrases = [phrase for phrase, found in zip(phrases, pieces, strict=True) if found]
        pieces = [found for found in pieces if found]
        self._letters = [''.join(text for text, _ in found) for found in pieces]
        # Words are written as one, or one as two.
        self._n_pieces = sorted({n for found in pieces
                                 for n in range(max(1, len(found) - 1), len(found) + 2)})
        self._min_similarity = min_similarity

    def best(self, words: Sequence[str]) -> Match | None:
        """
        Return the phrase with the most letters right less those wrong, the first of equals.

        None when there is none that is similar enough.
        """
        pieces = pieces_of(words)
        spans = [(begin, begin + n) for begin in range(len(pieces)) for n in self._n_pieces
                 if begin + n <= len(pieces)]
        if not spans or not self._phrases:
            return None
        texts = [''.join(text for text, _ in pieces[begin:end]) for begin, end in spans]
        similarity = cdist(texts, self._letters, scorer=Levenshtein.normalized_similarity,
                           score_cutoff=self._min_similarity, dtype=np.float32)
        n_letters = np.maximum(np.array([len(text) for text in texts])[:, None],
                               np.array([len(letters) for letters in self._letters]))
        score = np.where(similarity > 0, n_letters * (2 * similarity - 1), -np.inf)
        span, phrase = np.unravel_index(np.argmax(score), score.shape)
        if similarity[span, phrase] <= 0:
            return None
        begin, end = spans[span]
        return Match(self._phrases[phrase], float(similarity[span, phrase]),
                     pieces[begin][1], pieces[end - 1][1] + 1)


def pieces_of(words: Sequence[str]) -> list[tuple[str, int]]:
    """Return what is compared of words, and their indices; without spaces, letter by letter."""
    pieces = []
    for index, word in enumerate(words):
        parts = word if any(map(is_unspaced, word)) else word.split()
        pieces += [(letters, index) for letters in map(normalised, parts) if letters]
    return pieces
