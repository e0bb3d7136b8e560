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

"""Which words are right, and how far confidence is from the share of them."""

import math

import pytest
from training.baselines import Word
from training.reliability import bins, calibration_error, plot, right_words


def words(*texts):
    return [Word(text, 0.0, 0.5) for text in texts]


@pytest.mark.parametrize(('written', 'right'), [
    (('Go', 'too', 'the', 'kitchen.'), [True, False, True, True]),
    (('go', 'on', 'to', 'the', 'kitchen'), [True, False, True, True, True]),
    (('the', 'kitchen'), [True, True]),
    (('nothing', 'alike', 'at', 'all', 'here'), [False] * 5),
    ((), []),
])
def test_words_are_right_where_they_stand_opposite_an_equal_one(written, right):
    assert right_words('go to the kitchen', words(*written)) == right


def test_a_number_is_right_if_all_of_its_spoken_words_are():
    assert right_words('turn twenty one degrees', words('turn', '21', 'degrees')) == [True] * 3
    assert right_words('turn twenty two degrees', words('turn', '21', 'degrees')) \
        == [True, False, True]


def test_without_speech_every_word_is_wrong():
    assert right_words('', words('hello')) == [False]


def test_bins_take_the_words_of_their_range():
    found = bins([0.05, 0.15, 0.17, 1.0], [False, True, False, True])
    assert [one.n_words for one in found] == [1, 2, 0, 0, 0, 0, 0, 0, 0, 1]
    assert found[1].confidence == pytest.approx(0.16)
    assert found[1].right == 0.5
    assert math.isnan(found[2].right)
    assert found[9].right == 1.0


def test_calibration_error_is_the_mean_gap_of_the_words():
    found = bins([0.9] * 10 + [0.3] * 30, [True] * 9 + [False] + [True] * 15 + [False] * 15)
    assert calibration_error(found) == pytest.approx((10 * 0.0 + 30 * 0.2) / 40)
    assert calibration_error(bins([], [])) == 0


def test_the_diagram_is_an_image(tmp_path):
    plot(tmp_path / 'a.svg', {'a': bins([0.2, 0.9], [False, True]), 'b': bins([0.4], [True])})
    assert '<svg' in (tmp_path / 'a.svg').read_text()
