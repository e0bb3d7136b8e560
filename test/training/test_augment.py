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

"""Augmented sound stays sound, and what is not augmented is what the network hears."""

import pytest
import torch
from training.augment import augment, chords, mask, roughen, WarpedMel
from voxtral_ros.model.config import AudioConfig
from voxtral_ros.model.mel import LogMel

SILENCE = -0.625


@pytest.fixture
def sound():
    """Return a chord, a click and silence."""
    torch.manual_seed(0)
    time = torch.arange(32000) / 16000
    chord = sum(torch.sin(2 * torch.pi * hz * time) for hz in (200, 300, 450)) / 6
    click = torch.zeros(32000)
    click[9000] = 0.9
    return torch.stack([chord, click, torch.zeros(32000)])


def test_every_sound_becomes_another_one_in_range(sound):
    levels = []
    for _ in range(20):
        heard = augment(sound)
        assert heard.shape == sound.shape
        assert heard.isfinite().all()
        assert heard.abs().max() <= 1
        torch.testing.assert_close(heard * 32768, (heard * 32768).round())
        levels.append(heard.abs().amax(1))
    assert (torch.stack(levels).amax(0) > 4 * torch.stack(levels).amin(0)).all()


def test_chords_are_the_same_when_compiled():
    note = torch.randint(0, 36, (2, 3, 5))
    expected = chords(note, 36000)
    assert expected.shape == (2, 36000)
    # One tone, three times: 110 Hz have come round 27 times after a quarter of a second.
    tone = chords(torch.zeros(1, 3, 1, dtype=torch.int64), 4000)[0]
    assert ((tone[:-1] < 0) & (tone[1:] >= 0)).sum() == 27
    assert tone.abs().max() == pytest.approx(3, abs=1e-3)
    compiled = torch.compile(chords, dynamic=False)
    torch.testing.assert_close(compiled(note, 36000), expected, atol=0.02, rtol=0)


def test_sound_is_not_moved_in_time(sound):
    """Words must end where their targets say: the loudest moment of a click stays, +- 30 ms."""
    places = torch.cat([augment(sound[1:2].expand(8, -1).clone()).abs().argmax(1)
                        for _ in range(8)])
    assert ((places - 9000).abs() < 480).float().mean() > 0.75


def test_without_warping_frames_are_those_of_the_network(sound):
    config = AudioConfig()
    expected = LogMel(config)(sound[:, :31840 + 240 - 160])
    frames = WarpedMel(config, torch.device('cpu'))(sound[:, :31840 + 240 - 160], warp=False)
    torch.testing.assert_close(frames, expected, rtol=0, atol=1e-5)


def test_warping_moves_the_frequencies_of_most_of_a_batch(sound):
    mel = WarpedMel(AudioConfig(), torch.device('cpu'))
    many = sound[:1, :16240].expand(40, -1)
    peaks = mel(many).mean(2).argmax(1)
    assert peaks.unique().numel() > 5


@pytest.mark.parametrize('change', [mask, roughen])
def test_frames_are_hidden_or_roughened_above_the_floor(change):
    torch.manual_seed(0)
    mel = torch.rand(64, 128, 100) + SILENCE
    changed = change(mel)
    assert changed.shape == mel.shape
    assert changed.min() >= SILENCE
    share = (changed != mel).flatten(1).any(1).float().mean()
    assert 0.3 < share < 0.95


def test_masks_leave_most_of_a_frame():
    torch.manual_seed(0)
    mel = torch.zeros(64, 128, 400)
    hidden = (mask(mel) == SILENCE).float().mean()
    assert 0.05 < hidden < 0.4
