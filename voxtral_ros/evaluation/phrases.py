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
What phrases bring and what they cost: how many of those said are written, and what else is.

A phrase counts as written if its words stand in the transcript one after the other, normalized.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

from voxtral_ros.evaluation.word_error_rate import normalize


class PhraseScore(NamedTuple):
    """Phrases and other words of one recording."""

    n_said: int  # listed phrases in the reference
    n_found: int  # of them in the transcript
    n_inserted: int  # listed phrases in the transcript that were not said
    errors: int  # of the other words
    n_words: int  # other words of the reference


class PhraseScorer:
    """Compares transcripts with references, given a list of phrases."""

    def __init__(self, phrases: Iterable[str],
                 words: Callable[[str], list[str]] = normalize) -> None:
        """
        Prepare.

        :param words: makes words of a text
        """
        self._words = words
        self._phrases = {tuple(words(phrase)) for phrase in phrases} - {()}
        lengths = {len(phrase) for phrase in self._phrases}
        self._lengths = sorted(lengths, reverse=True)

    def score(self, reference: str, transcript: str) -> PhraseScore:
        """Compare a transcript with what was said."""
        said, written = self._words(reference), self._words(transcript)
        spans = self._spans(said)
        n_said = Counter(tuple(said[start:end]) for start, end in spans)
        n_written = Counter(tuple(written[start:end]) for start, end in self._spans(written))
        listed = [False] * len(said)
        for start, end in spans:
            listed[start:end] = [True] * (end - start)
        return PhraseScore(len(spans),
                           sum((n_said & n_written).values()),
                           sum((n_written - n_said).values()),
                           _other_errors(said, written, listed), listed.count(False))

    def _spans(self, words: Sequence[str]) -> list[tuple[int, int]]:
        """Return where phrases begin and end: from the left, the longest ones first."""
        spans = []
        at = 0
        while at < len(words):
            for length in self._lengths:
                if tuple(words[at:at + length]) in self._phrases:
                    spans.append((at, at + length))
                    at += length
                    break
            else:
                at += 1
        return spans


def _other_errors(said: Sequence[str], written: Sequence[str], listed: Sequence[bool]) -> int:
    """
    Return the errors outside of listed phrases.

    Of the alignments with the fewest errors, it is the one with the fewest of these. Words that
    are too many beside a phrase belong to it: 'spit lama' for 'Svetlana' is its error.
    """
    # Dynamic programming over the words said; a cost is (all errors, errors of other words).
    own = [(1, int(not one)) for one in listed]  # of a word said that is wrong or missing
    beside = [(1, int(not any(listed[max(0, at - 1):at + 1]))) for at in range(len(said) + 1)]
    costs = list(accumulate(own, _plus, initial=(0, 0)))
    for word in written:
        above, costs = costs, [_plus(costs[0], beside[0])]
        for at, one in enumerate(said):
            costs.append(min(_plus(above[at + 1], beside[at + 1]), _plus(costs[at], own[at]),
                             above[at] if one == word else _plus(above[at], own[at])))
    return costs[-1][1]


def _plus(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]
