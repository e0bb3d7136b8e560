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

"""Augmented audio stays valid, and without augmentation features are those of the network."""

import pytest
import torch
from training.augment import (
    add_jitter, augment, babble, chords, motors, reverberate_and_filter, spec_augment, WarpedMel)

from voxtral_ros.model.config import AudioConfig
from voxtral_ros.model.mel import LogMel

SILENCE = -0.625


@pytest.fixture
def audio():
    """Return a chord, a click and silence."""
    torch.manual_seed(0)
    time = torch.arange(32000) / 16000
    chord = sum(torch.sin(2 * torch.pi * hz * time) for hz in (200, 300, 450)) / 6
    click = torch.zeros(32000)
    click[9000] = 0.9
    return torch.stack([chord, click, torch.zeros(32000)])


def test_augmented_audio_differs_and_stays_in_range(audio):
    levels = []
    for _ in range(20):
        augmented = augment(audio)
        assert augmented.shape == audio.shape
        assert augmented.isfinite().all()
        assert augmented.abs().max() <= 1
        torch.testing.assert_close(augmented * 32768, (augmented * 32768).round())
        levels.append(augmented.abs().amax(1))
    assert (torch.stack(levels).amax(0) > 4 * torch.stack(levels).amin(0)).all()


@pytest.mark.slow
def test_chords_are_the_same_when_compiled():
    note = torch.randint(0, 36, (2, 3, 5))
    expected = chords(note, 36000)
    assert expected.shape == (2, 36000)
    # One tone, three times: 110 Hz have 27 periods in a quarter of a second.
    tone = chords(torch.zeros(1, 3, 1, dtype=torch.int64), 4000)[0]
    assert ((tone[:-1] < 0) & (tone[1:] >= 0)).sum() == 27
    assert tone.abs().max() == pytest.approx(3, abs=1e-3)
    compiled = torch.compile(chords, dynamic=False)
    torch.testing.assert_close(compiled(note, 36000), expected, atol=0.02, rtol=0)


def test_augmentation_does_not_shift_audio_in_time(audio):
    """Word ends must stay where the targets are: the peak of a click stays, +- 30 ms."""
    places = torch.cat([augment(audio[1:2].expand(8, -1).clone()).abs().argmax(1)
                        for _ in range(8)])
    assert ((places - 9000).abs() < 480).float().mean() > 0.75


def test_without_warping_frames_are_those_of_the_network(audio):
    config = AudioConfig()
    expected = LogMel(config)(audio[:, :31840 + 240 - 160])
    frames = WarpedMel(config, torch.device('cpu'))(audio[:, :31840 + 240 - 160], warp=False)
    torch.testing.assert_close(frames, expected, rtol=0, atol=1e-5)


def test_warping_moves_the_frequencies_of_most_of_a_batch(audio):
    mel = WarpedMel(AudioConfig(), torch.device('cpu'))
    many = audio[:1, :16240].expand(40, -1)
    peaks = mel(many).mean(2).argmax(1)
    assert peaks.unique().numel() > 5


def test_babble_is_the_speech_of_others():
    torch.manual_seed(0)
    time = torch.arange(16000) / 16000
    tones = torch.sin(2 * torch.pi * 500 * torch.arange(1, 13)[:, None] * time)
    mixed = babble(tones)
    torch.testing.assert_close(mixed.std(1), torch.ones(12), atol=1e-3, rtol=0)
    power = torch.fft.rfft(mixed).abs().square()[:, 500:6001:500]  # [of whom, of which tone]
    share = power / power.sum(1, keepdim=True)
    assert (share.diagonal() < 1e-6).all()  # nobody babbles over himself
    assert ((share > 0.005).sum(1) >= 3).all()
    assert (share > 0.005).sum(1).max() > 4


def test_motors_have_harmonics():
    torch.manual_seed(0)
    noise = motors(16, 32000, torch.device('cpu'))
    torch.testing.assert_close(noise.std(1), torch.ones(16), atol=1e-3, rtol=0)
    power = torch.fft.rfft(noise).abs().square().sort(descending=True).values
    share = power[:, :200].sum(1) / power.sum(1)
    assert (share > 0.3).float().mean() > 0.5  # of white noise, they would have 0.08


def test_rooms_reverberate_half_of_the_batch_and_do_not_shift_it():
    torch.manual_seed(0)
    rooms = torch.zeros(1, 12800)
    rooms[0, 0], rooms[0, 12000] = 1.0, 0.5  # an echo later than any of the others
    click = torch.zeros(64, 20000)
    click[:, 1000] = 1.0
    flat = torch.zeros(64, 1, dtype=torch.bool)
    heard = reverberate_and_filter(click, flat, rooms)
    echoes = heard[:, 12500:13500].abs().amax(1) / heard.abs().amax(1)
    assert 0.3 < (echoes > 0.2).float().mean() < 0.7
    assert ((heard.abs().argmax(1) - 1000).abs() < 160).float().mean() > 0.7


def test_a_telephone_has_no_treble():
    torch.manual_seed(0)
    noise = torch.randn(8, 16000)
    heard = reverberate_and_filter(noise, torch.tensor([[True], [False]] * 4))
    power = torch.fft.rfft(heard).abs().square()
    treble = power[:, 4100:].mean(1) / power[:, 500:3000].mean(1)
    assert (treble[::2] < 1e-3).all()
    assert (treble[1::2] > 1e-2).any()


@pytest.mark.parametrize('change', [spec_augment, add_jitter])
def test_frames_are_masked_or_jittered_above_the_floor(change):
    torch.manual_seed(0)
    mel = torch.rand(64, 128, 100) + SILENCE
    changed = change(mel)
    assert changed.shape == mel.shape
    assert changed.min() >= SILENCE
    fraction = (changed != mel).flatten(1).any(1).float().mean()
    assert 0.3 < fraction < 0.95


def test_masks_leave_most_of_a_frame():
    torch.manual_seed(0)
    mel = torch.zeros(64, 128, 400)
    masked = (spec_augment(mel) == SILENCE).float().mean()
    assert 0.05 < masked < 0.4
