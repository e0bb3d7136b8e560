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
Wake phrases: found in text, with small errors forgiven.

    phrases = WakePhrases(['hey robot'])
    match = phrases.find('Well. Hay robot, stop!')
    match.start, match.end  # 6, 17: what follows is 'stop!'

What counts are letters and digits alone, without case, accents, punctuation and spaces: 'heyrobot'
is 'Hey, Robot!'. A phrase is found in words that follow one another if so few letters have to be
changed, left out or put in that the similarity, 1 minus their number by the length of the longer,
is large enough.
"""

from __future__ import annotations

from collections.abc import Iterable
import math
import re
from typing import NamedTuple
import unicodedata

from rapidfuzz.distance import Levenshtein

from voxtral_ros.recognizer.words import is_unspaced, normalised

# With less, other words are found: 'the robot' has 0.75 of 'hey robot', and 'okay robot' 0.7 of
# 'hello robot'.
SIMILARITY = 0.8
_INSIDE = "'\u2019"  # a word
# Between what was found and the word that follows: punctuation, unless it belongs to that word.
_BETWEEN = re.compile(r'(?:[^\s\w]*\s+)+|[^\s\w]+')


class Match(NamedTuple):
    """Where a wake phrase stands in a text."""

    phrase: str  # as it was given
    start: int  # character at which it begins
    end: int  # character after it and the punctuation and spaces that follow: what comes next
    similarity: float  # of its letters, up to 1


class _Unit(NamedTuple):
    """A word; where none are separated by spaces, a letter."""

    start: int
    end: int
    letters: str  # normalised
    complete: bool  # whether it cannot grow any more when text is appended


class WakePhrases:
    """Finds some phrases in text that may still grow."""

    def __init__(self, phrases: Iterable[str], similarity: float = SIMILARITY) -> None:
        """
        Prepare.

        :param phrases: each with letters or digits in it
        :param similarity: that is enough, 0..1; 1: no error is forgiven
        :raises ValueError: a phrase has neither letters nor digits
        """
        self.similarity = similarity
        self.phrases = tuple(phrases)
        self._letters = [(phrase, normalised(phrase)) for phrase in self.phrases]
        for phrase, letters in self._letters:
            if not letters:
                raise ValueError(f'the wake phrase {phrase!r} has no letters: nobody can say it')

    def find(self, text: str, *, growing: bool = False, begins: bool = False) -> Match | None:
        """
        Return the first place where a phrase stands, None where there is none.

        :param growing: text will be appended: the last word counts only if it is complete
        :param begins: only at the beginning of the text
        """
        units = _units(text)
        n_units = len(units) - (growing and bool(units) and not units[-1].complete)
        for first in range(min(n_units, 1 if begins else n_units)):
            best = self._best_at(units[first:n_units])
            if best is None:
                continue
            # A word later it may fit better: 'oh hey robot' begins with 'hey'.
            while first + 1 < n_units and not begins:
                later = self._best_at(units[first + 1:n_units])
                if later is None or later[0] <= best[0]:
                    break
                best, first = later, first + 1
            similarity, phrase, n = best
            end = units[first + n - 1].end
            between = _BETWEEN.match(text, end)
            return Match(phrase, units[first].start, between.end() if between else end, similarity)
        return None

    def may_begin(self, text: str) -> bool:
        """Return whether growing text may become one that begins with a phrase."""
        units = _units(text)
        letters = ''.join(unit.letters for unit in units)
        for _, phrase in self._letters:
            errors = math.floor((1 - self.similarity) * len(phrase))
            if len(letters) <= len(phrase) + errors and any(
                    Levenshtein.distance(letters, phrase[:n], score_cutoff=errors) <= errors
                    for n in range(max(0, len(letters) - errors), len(phrase) + 1)):
                return True
        return False

    def _best_at(self, units: list[_Unit]) -> tuple[float, str, int] | None:
        """Return similarity, phrase and number of units of what begins with the first unit."""
        best = None
        for phrase, letters in self._letters:
            said = ''
            for n, unit in enumerate(units, 1):
                said += unit.letters
                if len(said) * self.similarity > len(letters):
                    break
                if len(said) < len(letters) * self.similarity:
                    continue
                similarity = Levenshtein.normalized_similarity(said, letters)
                if similarity >= self.similarity and (best is None or similarity > best[0]):
                    best = similarity, phrase, n
        return best


def _units(text: str) -> list[_Unit]:
    """Return the words of a text, and where there are no spaces its letters."""
    spans: list[tuple[int, int]] = []
    for n, character in enumerate(text):
        goes_on = bool(spans) and spans[-1][1] == n
        if character.isalnum():
            if goes_on and not is_unspaced(character) and not is_unspaced(text[n - 1]):
                spans[-1] = spans[-1][0], n + 1
            else:
                spans.append((n, n + 1))
        elif goes_on and (character in _INSIDE or unicodedata.category(character)[0] == 'M'):
            spans[-1] = spans[-1][0], n + 1
    return [_Unit(start, end, normalised(text[start:end]),
                  end < len(text) or is_unspaced(text[end - 1])) for start, end in spans]
