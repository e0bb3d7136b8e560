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

"""Intervals of word error rates: what is drawn is recordings, and always the same ones."""

from math import isnan

import numpy as np
import pytest

from voxtral_ros.evaluation.confidence import bootstrap, difference, error_rate, interval
from voxtral_ros.evaluation.word_error_rate import Score


def scores(*errors, n_words=10):
    return [Score(str(n), '', '', count, n_words) for n, count in enumerate(errors)]


def test_recordings_are_drawn_with_all_their_words():
    errors, words = [0, 3, 5, 1, 2, 7, 4, 0, 6], [4, 9, 5, 12, 11, 8, 23, 17, 31]
    drawn = np.random.default_rng(0).integers(0, 9, (2000, 9))
    rates = [sum(errors[n] for n in row) / sum(words[n] for n in row) for row in drawn.tolist()]
    limits = tuple(np.percentile(rates, (2.5, 97.5)))
    assert bootstrap(errors, words) == pytest.approx(limits)
    assert bootstrap(errors, words, seed=1) != bootstrap(errors, words)


def test_the_interval_is_the_same_every_time_and_has_the_rate_in_it():
    some = scores(0, 1, 2, 5, 0, 1)
    rate, low, high = error_rate(some)
    assert rate == 9 / 60
    assert 0 < low < rate < high < 1
    assert interval(some) == interval(some) == (low, high)


def test_more_recordings_make_it_narrower():
    low, high = interval(scores(*[0, 4] * 10))
    lower, higher = interval(scores(*[0, 4] * 200))
    assert higher - lower < 0.5 * (high - low)


def test_without_recordings_there_is_no_interval():
    assert all(isnan(limit) for limit in interval([]))


def test_without_words_errors_are_counted():
    assert interval(scores(2, 2, n_words=0)) == (4, 4)


def test_what_is_hard_for_both_does_not_widen_the_difference():
    hard = scores(*[9, 0] * 20)
    assert difference(hard, hard) == (0, 0, 0)
    once_more = [hard[0]._replace(errors=10), *hard[1:]]
    middle, low, high = difference(hard, once_more)
    assert middle == pytest.approx(1 / 400)
    assert 0 <= low < middle < high < 0.01
    assert difference(once_more, hard)[0] == pytest.approx(-1 / 400)


def test_a_difference_is_of_the_same_recordings():
    with pytest.raises(ValueError, match='argument'):
        difference(scores(1, 2), scores(1))
