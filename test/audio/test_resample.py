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
"""The streaming resampler: exact length, independent of chunking, honest about its delay."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import soxr

from voxtral_ros.audio.block import AudioError
from voxtral_ros.audio.resample import Resampler

RATES_HZ = [8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000, 12_345]


def _noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, n).astype(np.float32)


def _stream(resampler: Resampler, samples: np.ndarray, cuts: list[int]) -> np.ndarray:
    pieces = np.split(samples, sorted(cuts))
    done = [resampler.process(piece) for piece in pieces[:-1]]
    return np.concatenate([*done, resampler.process(pieces[-1], last=True)])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(RATES_HZ), st.integers(0, 20_000), st.data())
@example(32_000, 1, None)  # half a sample: soxr rounds up, round() to even
@example(32_000, 5, None)
def test_length_is_exact_and_chunking_does_not_matter(rate_hz, n, data):
    samples = _noise(n)
    cuts = data.draw(st.lists(st.integers(0, n), max_size=30)) if data else []
    whole = _stream(Resampler(rate_hz), samples, [])
    pieces = _stream(Resampler(rate_hz), samples, cuts)
    assert len(whole) == len(pieces) == round(n * 16_000 / rate_hz)
    assert pieces.dtype == np.float32
    np.testing.assert_allclose(pieces, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize('rate_hz', [8_000, 44_100, 48_000])
def test_single_samples_give_the_same_as_the_whole(rate_hz):
    samples = _noise(3_000)
    whole = Resampler(rate_hz).process(samples, last=True)
    pieces = _stream(Resampler(rate_hz), samples, list(range(1, 3_000)))
    np.testing.assert_allclose(pieces, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize('rate_hz', RATES_HZ)
def test_a_tone_keeps_its_frequency_amplitude_and_phase(rate_hz):
    tone = np.sin(2 * np.pi * 1000 * np.arange(rate_hz) / rate_hz).astype(np.float32)
    out = Resampler(rate_hz).process(tone, last=True)
    expected = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(out[500:-500], expected[500:-500], atol=2e-4)


def test_what_16_khz_cannot_carry_is_removed():
    tone = np.sin(2 * np.pi * 9_000 * np.arange(48_000) / 48_000).astype(np.float32)
    assert np.abs(Resampler(48_000).process(tone, last=True)[500:-500]).max() < 1e-3


def test_equal_to_soxr_in_one_shot():
    samples = _noise(44_100)
    np.testing.assert_allclose(
        Resampler(44_100).process(samples, last=True),
        soxr.resample(samples, 44_100, 16_000, quality='HQ'), atol=1e-6)


def test_equal_rates_pass_the_same_array_through():
    samples = _noise(100)
    resampler = Resampler(16_000)
    assert resampler.process(samples) is samples
    assert resampler.delay_s == 0
    assert len(resampler.process(samples[:7], last=True)) == 7


@pytest.mark.parametrize('rate_hz', RATES_HZ)
def test_delay_is_where_the_next_output_sample_comes_from(rate_hz):
    # A ramp shows for each output sample at what time it was at the input.
    ramp = (np.arange(2 * rate_hz) / rate_hz).astype(np.float32)
    resampler = Resampler(rate_hz)
    block = rate_hz // 50
    for start in range(0, len(ramp) - block, block):
        delay_s = resampler.delay_s
        out = resampler.process(ramp[start:start + block])
        if start > rate_hz and len(out):
            assert out[0] == pytest.approx(start / rate_hz - delay_s, abs=1e-4)
    # Measured: at most 115 ms (8 kHz), 37 ms for 48 kHz.
    assert 0 < delay_s < 0.125


def test_reset_forgets_the_stream():
    samples = _noise(5_000)
    resampler = Resampler(48_000)
    fresh = resampler.process(samples, last=True)
    resampler.process(_noise(5_000, seed=1))
    assert resampler.delay_s > 0
    resampler.reset()
    assert resampler.delay_s == 0
    np.testing.assert_array_equal(resampler.process(samples, last=True), fresh)


def test_last_makes_it_ready_for_the_next_stream():
    samples = _noise(5_000)
    resampler = Resampler(44_100)
    first = resampler.process(samples, last=True)
    assert resampler.delay_s == 0
    np.testing.assert_array_equal(resampler.process(samples, last=True), first)


def test_read_only_strided_and_float64_input():
    samples = _noise(4_800)
    expected = Resampler(48_000).process(samples, last=True)
    frozen = samples.copy()
    frozen.flags.writeable = False
    strided = np.repeat(samples, 2)[::2]
    for given_samples in (frozen, strided, samples.astype(np.float64)):
        np.testing.assert_array_equal(
            Resampler(48_000).process(given_samples, last=True), expected)


@pytest.mark.parametrize('rates', [(7_999, 16_000), (192_001, 16_000), (16_000, 0)])
def test_rates_that_are_no_audio_are_refused(rates):
    with pytest.raises(AudioError, match='sample rate'):
        Resampler(*rates)


def test_more_than_one_channel_is_refused():
    with pytest.raises(AudioError, match='mono'):
        Resampler(48_000).process(np.zeros((4, 2), np.float32))
