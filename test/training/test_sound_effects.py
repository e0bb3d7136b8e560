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

"""Sound effects, which are not speech: what they are, and where they go."""

from itertools import islice
import random

import numpy as np
import pytest
from training import sound_effects
from training.sequences import PAD, Sequences
from training.sound_effects import beep, impact, SoundEffects
from training.synthesis.shards import ShardWriter
from training.utterances import RATE_HZ


@pytest.fixture(autouse=True)
def seeded():
    random.seed(3)
    np.random.seed(3)


def test_an_impact_decays():
    for _ in range(50):
        audio = impact()
        energy = np.square(audio)
        assert np.isfinite(audio).all() and 0.02 < len(audio) / RATE_HZ < 3
        assert energy[-len(audio) // 20:].sum() < 0.01 * energy.sum()


def test_beeps_have_a_pitch():
    for _ in range(50):
        audio = beep()
        assert np.isfinite(audio).all() and 0.02 < len(audio) / RATE_HZ < 9
        frames = audio[:len(audio) // 320 * 320].reshape(-1, 320)
        power = np.sort(np.square(np.abs(np.fft.rfft(frames * np.hanning(320)))))[:, ::-1]
        # Fifteen of the frequencies hold nearly all of it; of noise they would hold a third.
        assert power[:, :15].sum() > 0.9 * power.sum()


def test_long_recordings_are_drawn_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(sound_effects, '_RECORDED', 1.0)
    ramp = np.arange(10 * RATE_HZ) % 30011 + 1
    writer = ShardWriter(tmp_path / 'shards' / 'noise0')
    writer.add(0, ramp.astype(np.int16), [])
    writer.flush()
    effects = SoundEffects(tmp_path)
    effects.shards.refresh()
    parts = [effects.draw() for _ in range(20)]
    assert {len(part) for part in parts} == {sound_effects._MAX_SAMPLES}
    low, high = (0.7 * 32767 * 10 ** (level / 20) for level in sound_effects._LEVEL_DB)
    assert all(low < np.abs(part).max() < high for part in parts)
    assert len({round(float(part[0] / part[1]), 6) for part in parts}) > 10


def test_sound_effects_are_scattered_over_the_whole_time_line(tmp_path):
    samples = np.zeros(30 * RATE_HZ, np.float32)
    for _ in range(30):
        SoundEffects(tmp_path).scatter(samples)
    assert (np.abs(samples.reshape(30, -1)).max(1) > 0).all()


def test_sequences_without_speech_may_have_sound_effects_and_have_no_words(tmp_path):
    (tmp_path / 'tekken.json').write_text('{"vocab": []}', encoding='utf-8')
    drawn = list(islice(Sequences(tmp_path, {}, 80), 40))
    assert all((sequence.tokens[1:] == PAD).all() for sequence in drawn)
    loud = sum(bool(sequence.samples.any()) for sequence in drawn)
    assert 0 < loud < 40


def test_a_recording_goes_on_in_the_background_without_a_seam(tmp_path):
    writer = ShardWriter(tmp_path / 'shards' / 'noise0')
    time = np.arange(2 * RATE_HZ) / RATE_HZ
    writer.add(0, (8000 * np.sin(2 * np.pi * 217 * time)).astype(np.int16), [])
    writer.flush()
    effects = SoundEffects(tmp_path)
    assert effects.background(1000) is None  # nothing read yet
    effects.shards.refresh()
    levels_db = []
    for _ in range(20):
        audio = effects.background(7 * RATE_HZ)
        rms = float(np.sqrt(np.square(audio).mean()))
        levels_db.append(20 * np.log10(rms / sound_effects._SPEECH_RMS))
        assert audio.shape == (7 * RATE_HZ,) and audio.dtype == np.float32
        # No step is larger than one of the tone itself (with a margin for where both are mixed).
        assert np.abs(np.diff(audio)).max() < 1.2 * rms * np.sqrt(2) * 2 * np.pi * 217 / RATE_HZ
    low, high = sound_effects._BACKGROUND_DB
    assert low <= min(levels_db) < low / 2 < max(levels_db) <= high + 0.01


def test_a_knock_does_not_go_on_in_the_background(tmp_path):
    writer = ShardWriter(tmp_path / 'shards' / 'noise0')
    writer.add(0, np.full(4000, 9000, np.int16), [])
    writer.flush()
    effects = SoundEffects(tmp_path)
    effects.shards.refresh()
    assert effects.background(RATE_HZ) is None
