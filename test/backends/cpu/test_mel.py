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

"""The log-mel of the CPU library is the one of the network, and the same everywhere."""

from dataclasses import replace

import numpy as np
import pytest

from voxtral_ros.backends.cpu.mel import LogMel
from voxtral_ros.model.config import AudioConfig
from voxtral_ros.model.mel_filters import mel_filters

cpu = pytest.importorskip('support.cpu')

CONFIGS = {
    '': AudioConfig(), '80 bands': replace(AudioConfig(), num_mel_bins=80),
    'odd': replace(AudioConfig(), window_size=399, hop_length=100),
    'prime': replace(AudioConfig(), window_size=211, hop_length=80),
    'power of 2': replace(AudioConfig(), window_size=512, hop_length=128, global_log_mel_max=4.0),
    'twice a prime': replace(AudioConfig(), window_size=2 * 89, hop_length=40),
    'wide bands': replace(AudioConfig(), window_size=32, hop_length=16, num_mel_bins=3),
    'empty bands': replace(AudioConfig(), window_size=64, hop_length=32),
}


def exact(config, samples):
    """Return what the network's mel is, in float64, [M, n, num_mel_bins]."""
    size = config.window_size
    frames = np.lib.stride_tricks.sliding_window_view(
        samples.astype(np.float64), size, axis=1)[:, ::config.hop_length]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    filters = mel_filters(config.num_mel_bins, size, config.sampling_rate)
    log = np.log10(np.maximum(power @ filters.T, 1e-10))
    return (np.maximum(log, config.global_log_mel_max - 8) + 4) / 4


def tone_and_noise(n_streams, n_samples, seed=0):
    rng = np.random.default_rng(seed)
    time = np.arange(n_samples) / 16000
    loudness = 10.0 ** rng.uniform(-5, 0, (n_streams, 1))
    tone = 0.1 * np.sin(2 * np.pi * rng.uniform(100, 7000, (n_streams, 1)) * time)
    return (loudness * (tone + 0.01 * rng.standard_normal((n_streams, n_samples)))).astype(
        np.float32)


@pytest.mark.parametrize('config', CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize('name', cpu.instruction_sets())
def test_it_is_the_spectrogram_of_the_network(config, name):
    samples = tone_and_noise(3, 16000)
    with cpu.instructions(name):
        found = LogMel(config)(samples)
    np.testing.assert_allclose(found, exact(config, samples), rtol=0, atol=2e-6)
    assert np.array_equal(found, LogMel(config)(samples))  # the best instructions


def test_a_frame_does_not_depend_on_how_the_audio_is_cut():
    mel, samples = LogMel(AudioConfig()), tone_and_noise(1, 160 * 41 + 240)
    whole = mel(samples)[0]
    for n in (1, 2, 3, 4, 5, 8):
        for first in range(0, 41 - n, n):
            piece = samples[:, 160 * first:160 * (first + n) + 240]
            assert np.array_equal(mel(piece)[0], whole[first:first + n])


def test_silence_and_the_loudest_are_at_the_ends():
    mel, config = LogMel(AudioConfig()), AudioConfig()
    assert (mel(np.zeros((1, 640), np.float32)) == (config.global_log_mel_max - 8 + 4) / 4).all()
    loud = mel(tone_and_noise(1, 640) * np.float32(1e15))
    assert np.isfinite(loud).all()
    assert loud.max() > 5


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_what_is_no_number_stays_in_its_frames(value):
    mel, samples = LogMel(AudioConfig()), tone_and_noise(2, 160 * 16 + 240)
    expected = mel(samples)
    samples[0, 1700] = value  # in the windows of frames 9 (partly) and 10
    found = mel(samples)
    touched = [frame for frame in range(16) if 160 * frame <= 1700 < 160 * frame + 400]
    assert np.isnan(found[0, touched]).all()
    untouched = np.setdiff1d(np.arange(16), touched)
    assert np.array_equal(found[0, untouched], expected[0, untouched])
    assert np.array_equal(found[1], expected[1])
