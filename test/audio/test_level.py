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

"""What cannot be audio is recognised by its level; speech and noise are not suspected."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from voxtral_ros.audio.block import AudioBlock
from voxtral_ros.audio.level import LevelMeter, suspect

DATA = Path(__file__).resolve().parents[1] / 'data'
ORDERS = soundfile.read(DATA / 'orders.flac', dtype='int16')[0]
# A room is never digitally silent, as the pauses in that file are.
SPEECH = (ORDERS + np.random.default_rng(0).normal(0, 3, len(ORDERS))).astype('<i2')


def suspicion(samples, rate_hz=16_000, block=320):
    """Return what is suspected after all of the samples, and every suspicion on the way."""
    meter, seen = LevelMeter(), []
    for at in range(0, len(samples) - block, block):
        meter.add(AudioBlock(samples[at:at + block].astype(np.float32), rate_hz, None))
        seen.append(meter.suspicion)
    return meter.suspicion, set(seen)


def test_level_and_peak_are_in_dbfs():
    meter = LevelMeter()
    tone = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000, dtype=np.float32)
    meter.add(AudioBlock(tone, 16000, 0))
    level, peak = meter.take()
    assert level == pytest.approx(-3.01, abs=0.01)
    assert peak == pytest.approx(0.0, abs=0.01)
    assert meter.received_s == 1.0
    assert all(np.isnan(meter.take()))  # since then
    meter.add(AudioBlock(np.zeros(100, np.float32), 16000, 0))
    assert meter.take() == (-120.0, -120.0)


@pytest.mark.parametrize('every', [1, 7, 50, 120])
def test_whenever_it_is_asked_everything_is_measured_once(every):
    blocks = np.random.default_rng(0).normal(0, 0.1, (120, 320)).astype(np.float32)
    blocks[33, 5] = -0.9
    meter, power, peaks = LevelMeter(), 0.0, []
    for n, block in enumerate(blocks, 1):
        meter.add(AudioBlock(block, 16_000, None))
        if n % every == 0 or n == len(blocks):
            level, peak = meter.take()
            n_blocks = every if n % every == 0 else n % every
            power += 10 ** (level / 10) * n_blocks * 320
            peaks.append(peak)
    assert power == pytest.approx(float((blocks.astype(np.float64) ** 2).sum()), rel=1e-4)
    assert max(peaks) == pytest.approx(20 * np.log10(0.9), abs=0.01)


@pytest.mark.parametrize('path', sorted(DATA.glob('*.flac')), ids=lambda path: path.stem)
@pytest.mark.parametrize('gain', [0.003, 0.1, 1.0, 4.0])
def test_speech_is_not_suspected_soft_or_loud(path, gain):
    samples = soundfile.read(path, dtype='float32')[0] * gain
    assert suspicion(np.clip(samples, -1, 1))[1] == {''}


@pytest.mark.parametrize('level', [0.0005, 0.02, 0.15])
def test_a_noisy_robot_is_not_suspected(level):
    noise = np.random.default_rng(1).normal(0, level, 16000 * 8)
    assert suspicion(noise)[1] == {''}


def test_digital_silence_is_not_suspected():
    assert suspicion(np.zeros(16000 * 8))[1] == {''}


@pytest.mark.parametrize('scale', [32768, 1000, 65536])
def test_float_samples_of_integer_range(scale):
    assert 'divide 16-bit values by 32768' in suspicion(SPEECH / 32768 * scale)[0]


def test_16_bit_values_in_32_bit_samples():
    assert '16-bit values in 32-bit samples' in suspicion(SPEECH / 2**31)[0]


@pytest.mark.parametrize('read_as', ['>i2', 'shifted'])
def test_swapped_bytes(read_as):
    data = SPEECH.tobytes()
    samples = np.frombuffer(data, '>i2') if read_as == '>i2' else np.frombuffer(data[1:-1], '<i2')
    assert 'byte order' in suspicion(samples / 32768)[0]


@pytest.mark.parametrize('data', [
    np.random.default_rng(2).bytes(300_000),  # compressed, or encrypted
    (SPEECH / 32768).astype('<f4').tobytes()[:400_000],
    (SPEECH.astype('<i4') * 65536 + 12345 * np.arange(len(SPEECH), dtype='<i4')).tobytes(),
], ids=['random', 'float', 'S32'])
def test_other_data_read_as_16_bit(data):
    assert 'white noise' in suspicion(np.frombuffer(data, '<i2') / 32768)[0]


@pytest.mark.parametrize('gain', [0.05, 1.0])
def test_halves_of_float_samples(gain):
    data = (SPEECH / 32768 * gain).astype('<f4').tobytes()
    assert '32-bit float samples' in suspicion(np.frombuffer(data, '<i2') / 32768)[0]


@pytest.mark.parametrize('offset', [-128, 127])
def test_unsigned_samples_read_as_signed(offset):
    samples = (SPEECH >> 8).astype('i1').view('u1') ^ 0x80
    assert 'unsigned' in suspicion(samples.view('i1') / 128)[0]


def test_it_is_taken_back_when_the_audio_is_right_again():
    wrong, right = SPEECH / 2**31, SPEECH / 32768
    assert suspicion(np.concatenate((wrong, right)))[0] == ''


def test_a_single_second_is_no_reason():
    bang = np.random.default_rng(3).uniform(-1, 1, 16000)
    assert suspicion(np.concatenate((SPEECH / 32768, bang, SPEECH / 32768)))[1] == {''}


def test_nothing_and_one_sample_are_no_trouble():
    assert suspect(np.zeros(0, np.float32)) == ''
    assert isinstance(suspect(np.ones(1, np.float32)), str)
