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

"""Conditions reach the asked level, ratio or band, and the same seed makes the same audio."""

import numpy as np
import pytest
from training import conditions

RATE = 16000


@pytest.fixture
def speech():
    """Return two loud syllables around a pause: a third of it is silence."""
    time = np.arange(RATE) / RATE
    syllable = 0.3 * np.sin(2 * np.pi * 440 * time) * (1 + 0.5 * np.sin(2 * np.pi * 4 * time))
    return np.concatenate([syllable, np.zeros(RATE), syllable]).astype(np.float32)


def random(seed=0):
    return np.random.default_rng(seed)


def power(samples):
    return np.square(samples, dtype=np.float64).mean()


def band_power(samples, low_hz, high_hz):
    spectrum = np.square(np.abs(np.fft.rfft(samples)))
    hz = np.fft.rfftfreq(len(samples), 1 / RATE)
    return spectrum[(hz >= low_hz) & (hz < high_hz)].sum()


def test_the_power_of_speech_leaves_its_pauses_out(speech):
    assert conditions.active_power(speech) == pytest.approx(1.5 * power(speech), rel=0.01)


@pytest.mark.parametrize('snr_db', [20, 5, -3])
def test_noise_is_added_at_the_asked_ratio(speech, snr_db):
    noise = 0.7 * random().standard_normal(len(speech))
    mixed = conditions.add_noise(speech, noise, snr_db)
    # The pause is noise alone, whatever the whole was scaled by.
    noise_power = power(mixed[RATE + 400:2 * RATE - 400])
    speech_power = power(mixed[:RATE]) - noise_power
    assert 10 * np.log10(speech_power / noise_power) == pytest.approx(snr_db, abs=0.4)
    assert np.abs(mixed).max() <= 0.99 + 1e-6


def test_pink_noise_has_the_same_power_in_every_octave():
    noise = conditions.pink_noise(8 * RATE, random())
    octaves = [band_power(noise, low, 2 * low) for low in (250, 500, 1000, 2000)]
    assert max(octaves) < 1.15 * min(octaves)


def test_all_voices_of_babble_are_equally_loud():
    voices = [level * np.sin(2 * np.pi * hz * np.arange(2 * RATE) / RATE)
              for hz, level in ((300, 0.5), (600, 0.01), (900, 0.1), (1200, 0.2))]
    mixed = conditions.babble(4 * RATE, voices, random())
    levels = [band_power(mixed, hz - 50, hz + 50) for hz in (300, 600, 900, 1200)]
    assert max(levels) < 1.1 * min(levels)


def test_babble_has_only_so_many_voices():
    voices = [np.sin(2 * np.pi * hz * np.arange(RATE) / RATE) for hz in range(300, 1500, 200)]
    mixed = conditions.babble(RATE, voices, random(), count=2)
    heard = [hz for hz in range(300, 1500, 200) if band_power(mixed, hz - 50, hz + 50) > 1000]
    assert len(heard) == 2


def test_a_motor_has_tones_and_a_fan_mostly_air():
    motor, fan = (make(4 * RATE, random()) for make in (
        conditions.motor_noise, conditions.fan_noise))
    for noise in (motor, fan):
        assert np.isfinite(noise).all()
        assert power(noise) > 0.1
    # A fan's power lies below 1 kHz; a motor's gear whines above as well.
    assert band_power(fan, 0, 1000) > 0.8 * band_power(fan, 0, 8000)
    assert band_power(motor, 400, 8000) > 0.15 * band_power(motor, 0, 8000)


@pytest.mark.parametrize('ratio_db', [6.0, -12.0])
def test_direct_sound_is_scaled_to_the_asked_ratio(ratio_db):
    response = np.zeros(4000, np.float32)
    response[100] = 1.0
    tail = np.exp(-np.arange(3000) / 600) * random().standard_normal(3000)
    response[200:3200] = 0.05 * tail
    changed = conditions.set_direct_to_reverberant(response, ratio_db)
    assert 10 * np.log10(changed[100] ** 2 / np.square(changed[200:]).sum()) \
        == pytest.approx(ratio_db, abs=0.01)
    np.testing.assert_array_equal(changed[200:], response[200:])
    assert conditions.direct_to_reverberant_db(changed) == pytest.approx(ratio_db, abs=0.01)


def test_a_room_by_image_sources_has_less_direct_sound_further_away():
    pytest.importorskip('pyroomacoustics', reason='makes test sets, no part of the product')
    near, far = (conditions.room_response(0.3, distance, random()) for distance in (0.5, 2.5))
    assert conditions.direct_to_reverberant_db(near) \
        > conditions.direct_to_reverberant_db(far) + 6
    # Sound travels 2 m further: 93 samples.
    delay = np.abs(far).argmax() - np.abs(near).argmax()
    assert delay == pytest.approx(2.0 / 343 * RATE, abs=2)
    direct = slice(conditions._direct_end(far))
    changed = conditions.set_direct_to_reverberant(far, -12.0)
    rest = np.square(changed).sum() - np.square(changed[direct]).sum()
    assert 10 * np.log10(np.square(changed[direct]).sum() / rest) == pytest.approx(-12, abs=0.01)
    assert np.square(far).sum() - np.square(far[direct]).sum() == pytest.approx(rest, rel=1e-3)


def test_mouth_and_microphone_are_in_the_room_at_their_distance():
    for seed in range(20):
        mouth, microphone = conditions._places(3.0, random(seed))
        assert np.linalg.norm(mouth - microphone) == pytest.approx(3.0)
        for place in (mouth, microphone):
            assert (place[:2] >= 0.5).all()
            assert (place[:2] <= (5.5, 4.0)).all()


def test_a_room_keeps_the_level_and_lasts_longer(speech):
    response = np.zeros(3200, np.float32)
    response[0], response[3000] = 0.1, 0.05
    wet = conditions.reverberate(speech, response)
    assert len(wet) == len(speech) + 3199
    assert conditions.active_power(wet) == pytest.approx(conditions.active_power(speech), rel=0.05)


def test_clipping_cuts_what_is_above_full_scale(speech):
    clipped = conditions.clip(speech, 20)
    full = np.abs(speech).max()
    np.testing.assert_allclose(clipped, np.clip(speech * 10 / full, -1, 1), atol=1e-6)
    assert (np.abs(clipped) == 1).mean() > 0.5


def test_a_telephone_passes_its_band_alone():
    noise = 0.1 * random().standard_normal(4 * RATE).astype(np.float32)
    heard = conditions.telephone(noise)
    assert len(heard) == len(noise)
    assert band_power(heard, 400, 3300) > 0.8 * band_power(noise, 400, 3300)
    for low, high in ((0, 180), (4000, 8000)):
        assert band_power(heard, low, high) < 0.01 * band_power(noise, low, high)


def test_a_telephone_does_not_delay():
    click = np.zeros(RATE, np.float32)
    click[5000] = 0.9
    assert abs(int(np.abs(conditions.telephone(click)).argmax()) - 5000) <= 8


@pytest.mark.parametrize('dbfs', [-20, -40])
def test_speech_has_the_asked_level(speech, dbfs):
    changed = conditions.set_speech_level(speech, dbfs)
    assert 10 * np.log10(conditions.active_power(changed)) == pytest.approx(dbfs, abs=0.1)


@pytest.mark.parametrize('tempo', [0.8, 1.3])
def test_tempo_changes_the_length_and_not_the_pitch(speech, tempo):
    changed = conditions.change_tempo(speech, tempo)
    assert len(changed) == pytest.approx(len(speech) / tempo, abs=2)
    assert band_power(changed, 400, 480) > 0.8 * band_power(changed, 0, 8000)


def test_the_same_seed_makes_the_same_noise():
    for make in (conditions.pink_noise, conditions.motor_noise, conditions.fan_noise):
        first, second, other = (make(RATE, random(seed)) for seed in (3, 3, 4))
        np.testing.assert_array_equal(first, second)
        assert not np.allclose(first, other)
