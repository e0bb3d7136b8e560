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

"""The exponent that calibrates confidences is found again."""

import numpy as np
import pytest
from training.calibrate_confidence import best_exponent
from training.reliability import bins, calibration_error


@pytest.mark.parametrize('exponent', (0.5, 1.0, 3.0))
def test_the_exponent_of_which_words_are_right_is_found(exponent):
    random = np.random.default_rng(0)
    confidence = random.beta(5, 1, 20000)
    right = random.uniform(size=20000) < confidence ** exponent
    found = best_exponent(confidence, right)
    assert found == pytest.approx(exponent, rel=0.05)
    assert calibration_error(bins(confidence ** found, right)) < 0.02


def test_certain_words_may_be_wrong():
    assert np.isfinite(best_exponent([1.0, 1.0, 0.0, 0.9], [True, False, True, True]))
