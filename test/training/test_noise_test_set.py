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

"""The noise test set: generated noise and real recordings."""

import numpy as np
import pytest
import soundfile
from training import noise_test_set

RATE = 16000


@pytest.mark.parametrize('generate', noise_test_set.SYNTHETIC, ids=lambda kind: kind.__name__)
def test_noise_has_its_length_and_stays_in_range(generate):
    audio = generate(12 * RATE, np.random.default_rng(0))
    assert audio.shape == (12 * RATE,)
    assert np.isfinite(audio).all()
    assert np.abs(audio).max() <= 1
    # Noise from beginning to end, except in silence.
    seconds = np.abs(audio).reshape(12, RATE).max(1)
    assert (seconds > 0).all() if generate is not noise_test_set.silence else not seconds.any()


def test_short_recordings_are_scattered_and_long_ones_joined(tmp_path):
    click = np.zeros(800)
    click[0] = 0.5
    (tmp_path / 'clicks').mkdir()
    soundfile.write(tmp_path / 'clicks' / 'click.wav', click, RATE)
    clicks = noise_test_set.real(tmp_path / 'clicks', 30 * RATE, np.random.default_rng(0))
    assert len(clicks) == 30 * RATE
    assert 30 < (np.abs(clicks) > 0.05).sum() < 600
    (tmp_path / 'music').mkdir()
    for name, hz in (('a', 200), ('b', 400)):
        tone = 0.1 * np.sin(2 * np.pi * hz * np.arange(40 * RATE) / RATE)
        soundfile.write(tmp_path / 'music' / f'{name}.wav', tone, RATE)
    music = noise_test_set.real(tmp_path / 'music', 50 * RATE, np.random.default_rng(0))
    for part, hz in ((music[:25 * RATE], 200), (music[25 * RATE:], 400)):
        assert np.abs(np.fft.rfft(part)).argmax() / 25 == pytest.approx(hz, abs=1)
