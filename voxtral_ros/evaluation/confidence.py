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
Confidence intervals of word error rates, by bootstrap over recordings.

Errors in one recording are not independent of each other, so what is drawn anew is recordings,
not words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from voxtral_ros.evaluation.word_error_rate import count_words, Score, word_error_rate

_RESAMPLES = 2000


def bootstrap(errors: ArrayLike, n_words: ArrayLike, seed: int = 0) -> tuple[float, float]:
    """
    Return the 95 % confidence interval of sum(errors) / sum(n_words).

    :param errors: [n], of each recording
    :param n_words: [n]
    :return: lowest and highest; not a number where there are no recordings
    """
    counts = np.array([errors, n_words], float).T  # [n, 2]
    if not len(counts):
        return float('nan'), float('nan')
    pick = np.random.default_rng(seed).integers(0, len(counts), (_RESAMPLES, len(counts)))
    drawn_errors, drawn_words = counts[pick].sum(1).T
    low, high = np.percentile(drawn_errors / np.maximum(drawn_words, 1), (2.5, 97.5))
    return float(low), float(high)


def interval(scores: Sequence[Score], seed: int = 0) -> tuple[float, float]:
    """Return the 95 % confidence interval of the word error rate."""
    return bootstrap([score.errors for score in scores], [score.n_words for score in scores], seed)


def error_rate(scores: Sequence[Score]) -> tuple[float, float, float]:
    """Return the word error rate and its 95 % confidence interval."""
    return word_error_rate(scores), *interval(scores)


def difference(before: Sequence[Score], after: Sequence[Score]) -> tuple[float, float, float]:
    """
    Return by how much the word error rate is higher after than before, and the 95 % interval.

    Both are scores of the same recordings, in the same order. A recording that is drawn counts in
    both, so what makes it hard for both does not widen the interval.
    """
    more = [late.errors - early.errors for early, late in zip(before, after, strict=True)]
    n_words = [score.n_words for score in after]
    return sum(more) / max(1, count_words(after)), *bootstrap(more, n_words)
