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

"""Word error rates of a checkpoint on the evaluation sets."""

import numpy as np
from training import evaluate


def test_noise_is_scored_in_words_per_hour(monkeypatch):
    half_an_hour = evaluate.Recording(np.zeros(1800 * 16000, np.int8), '')
    spoken = evaluate.Recording(np.zeros(16000, np.int16), 'go to the kitchen')
    monkeypatch.setattr(evaluate.Engine, 'load', lambda *_, **__: None)
    monkeypatch.setattr(evaluate, 'transcribe', lambda _engine, recordings: [
        'two words' if recording is half_an_hour else 'go two the kitchen'
        for recording in recordings])
    assert evaluate.evaluate('model', {'noise': [half_an_hour], 'speech': [spoken]}, 'cpu') == {
        'noise': 4.0, 'speech': 0.25}
