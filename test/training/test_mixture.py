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

"""Every kind of speech has its share of the utterances."""

import pytest
from training import mixture


def test_real_speech_has_its_fraction_of_the_utterances():
    weights = mixture.sources(0.3)
    assert sum(weights.values()) == pytest.approx(1)
    assert sum(weights[kind] for kind in mixture.REAL_SPEECH) == pytest.approx(0.3)
    assert weights.keys() == {
        *mixture.REAL_SPEECH, *mixture.SYNTHETIC_SPEECH, *mixture.FOREIGN_SPEECH}
    some, other, *_ = mixture.REAL_SPEECH
    assert weights[some] / weights[other] == pytest.approx(
        mixture.REAL_SPEECH[some] / mixture.REAL_SPEECH[other])
