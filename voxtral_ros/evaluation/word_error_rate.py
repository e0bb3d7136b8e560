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

"""Word error rates: how many words of a transcript are wrong, missing or too many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import re
from typing import NamedTuple

import jiwer

_SPLIT = jiwer.ReduceToListOfListOfWords()  # at spaces, and nothing else


class Score(NamedTuple):
    """The errors of one recording."""

    file: str
    reference: str
    transcript: str
    errors: int
    n_words: int  # of the reference
    kind: str = ''  # a speaker, a microphone: what recordings are grouped by


def normalize(text: str) -> list[str]:
    """Return the words of a text, lower case, without punctuation."""
    return re.sub(r"[^\w\s']", ' ', text.lower()).split()


def word_errors(reference: Sequence[str], transcript: Sequence[str]) -> int:
    """
    Return how many words are wrong, missing or too many: the edit distance.

    Words have no spaces in them.
    """
    counts = jiwer.process_words(' '.join(reference), ' '.join(transcript), _SPLIT, _SPLIT)
    return counts.substitutions + counts.deletions + counts.insertions


def score(file: str, reference: str, transcript: str, kind: str = '',
          words: Callable[[str], list[str]] = normalize) -> Score:
    """Compare a transcript with what was said, word by word; `words` makes them of a text."""
    said = words(reference)
    errors = word_errors(said, words(transcript))
    return Score(file, reference, transcript, errors, len(said), kind)


def word_error_rate(scores: Sequence[Score]) -> float:
    """Return the errors in all recordings by the words of all references."""
    return sum(score.errors for score in scores) / max(1, count_words(scores))


def count_words(scores: Sequence[Score]) -> int:
    """Return how many words all references have."""
    return sum(score.n_words for score in scores)
