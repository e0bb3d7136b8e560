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

"""Log-mel frames equal the reference's and do not depend on where the stream is cut."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import torch

from voxtral_ros.model.config import AudioConfig, ModelConfig
from voxtral_ros.model.mel import LogMel, mel_filters
from voxtral_ros.model.network import VoxtralRealtime

pytest.importorskip('transformers.models.voxtral_realtime')
checkpoints = pytest.importorskip('support.checkpoints')
hf_reference = pytest.importorskip('support.hf_reference')

HOP, CONTEXT = 160, 240
SILENCE = -0.625


def mel_of(samples):
    """Return the frames of all whole hops of the samples, [128, n]."""
    mel = LogMel(AudioConfig())
    n = (len(samples) - CONTEXT) // HOP
    return mel(torch.from_numpy(samples[None, :n * HOP + CONTEXT]))[0]


def noise(n_samples, scale=0.1, seed=0):
    return (scale * np.random.default_rng(seed).standard_normal(n_samples)).astype(np.float32)


def tone(n_samples, hz, amplitude):
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(n_samples) / 16000)).astype(np.float32)


SOUNDS = {
    'noise': noise(16000),
    'faint': noise(16000, scale=1e-5),
    'loud': noise(16000, scale=3.0).clip(-1, 1),
    'silence': np.zeros(16000, np.float32),
    'click': np.eye(1, 16000, 8000, dtype=np.float32)[0],
    'tone': tone(16000, 1000, 1.0),
}


@pytest.mark.parametrize('name', SOUNDS)
def test_frames_are_those_of_the_reference(name):
    """Measured: bit-equal."""
    expected = hf_reference.hf_mel(SOUNDS[name], center=False)
    mel = mel_of(SOUNDS[name])[:, :expected.shape[1]]  # HF leaves out the last frame
    assert expected.shape == (128, 97)
    torch.testing.assert_close(mel, expected, rtol=0, atol=1e-5)


def test_a_stream_starts_with_half_a_window_of_zeros():
    audio = hf_reference.padded(noise(5000), 6)
    mel = mel_of(np.pad(audio, (200, 40)))
    expected = hf_reference.hf_mel(audio)
    assert mel.shape == expected.shape == (128, len(audio) // 160)
    torch.testing.assert_close(mel, expected, rtol=0, atol=1e-5)


def test_silence_is_the_floor():
    assert (mel_of(SOUNDS['silence']) == SILENCE).all()
    assert (mel_of(SOUNDS['faint']) == SILENCE).all()


def test_loud_audio_is_not_clipped_to_the_nominal_maximum():
    mel = mel_of(SOUNDS['tone'])
    assert mel.max() > (1.5 + 4) / 4
    assert mel[:, 5].argmax() == 42  # 1 kHz is 15 mel, and band m has its peak at 0.351 (m + 1)


def test_loudness_moves_what_is_above_the_floor_by_its_logarithm():
    quiet, loud = (mel_of(tone(4000, 440, amplitude)) for amplitude in (0.01, 0.1))
    above = quiet > SILENCE
    assert above.sum() > 100
    torch.testing.assert_close((loud - quiet)[above], torch.full((int(above.sum()),), 0.5),
                               rtol=0, atol=1e-4)


@settings(max_examples=40)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_windows_of_any_number_of_hops_make_the_whole(hops, seed):
    samples = noise(sum(hops) * HOP + CONTEXT, seed=seed)
    starts = np.cumsum([0, *hops[:-1]]) * HOP
    windows = [mel_of(samples[start:start + n * HOP + CONTEXT])
               for start, n in zip(starts, hops, strict=True)]
    assert [window.shape[1] for window in windows] == hops
    torch.testing.assert_close(torch.cat(windows, dim=1), mel_of(samples), rtol=0, atol=1e-6)


def test_a_frame_sees_its_own_window_only():
    samples = noise(20 * HOP + CONTEXT)
    before = mel_of(samples)
    samples[1000] += 0.5  # in the windows [160 t, 160 t + 400) of frames 4, 5 and 6
    moved = (mel_of(samples) != before).any(dim=0)
    assert moved.nonzero().flatten().tolist() == [4, 5, 6]


def test_streams_of_a_batch_do_not_touch():
    mel = LogMel(AudioConfig())
    batch = torch.from_numpy(np.stack([noise(1520, seed=seed) for seed in range(3)]))
    single = torch.cat([mel(row[None]) for row in batch])
    torch.testing.assert_close(mel(batch), single, rtol=0, atol=1e-6)


@pytest.mark.parametrize(('n_mels', 'n_fft', 'rate'), [(128, 400, 16000), (80, 512, 22050)])
def test_filters_are_slaneys(n_mels, n_fft, rate):
    from transformers.audio_utils import mel_filter_bank
    expected = mel_filter_bank(n_fft // 2 + 1, n_mels, 0.0, rate / 2, rate, 'slaney', 'slaney')
    np.testing.assert_allclose(mel_filters(n_mels, n_fft, rate), expected.T, rtol=0, atol=1e-9)


def test_constants_stay_in_fp32_and_survive_the_meta_device():
    with torch.device('meta'):
        network = VoxtralRealtime(ModelConfig.from_params(checkpoints.tiny_params()))
    network.mel.place('cpu')
    network.bfloat16()
    samples = torch.from_numpy(SOUNDS['noise'][None, :1520])
    assert torch.equal(network.mel(samples), LogMel(AudioConfig())(samples))
    assert not any('mel' in name for name in network.state_dict())
