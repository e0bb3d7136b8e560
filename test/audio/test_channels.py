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

"""Channels that are mixed or chosen, and those that cancel each other."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from voxtral_ros.audio.arrays import ARRAYS, parse_channel
from voxtral_ros.audio.block import AudioError
from voxtral_ros.audio.channels import AUTOMATIC, Downmix, MEAN

DATA = Path(__file__).resolve().parents[1] / 'data'
SPEECH = soundfile.read(DATA / 'orders.flac', dtype='float32')[0]


def mixed(frames, channel=AUTOMATIC, block=320):
    """Return the mono samples of frames that come in blocks, and what is said of them."""
    downmix = Downmix(channel)
    frames = np.asarray(frames, np.float32)
    return np.concatenate([downmix(frames[at:at + block], 16_000)
                           for at in range(0, len(frames), block)]), downmix.trouble


def test_a_stereo_pair_is_its_mean():
    samples, trouble = mixed(np.stack((SPEECH, 0.5 * SPEECH), 1))
    np.testing.assert_allclose(samples, 0.75 * SPEECH, atol=1e-6)
    assert trouble == ''


@pytest.mark.parametrize('gain', [-1.0, -0.9, -1.1])
def test_of_a_pair_in_opposite_phase_the_louder_one_is_taken(gain):
    samples, trouble = mixed(np.stack((SPEECH, gain * SPEECH), 1))
    louder = gain * SPEECH if gain < -1 else SPEECH
    loud = np.abs(SPEECH) > 0.02
    np.testing.assert_allclose(samples[loud], louder[loud], atol=1e-6)
    assert 'opposite phase' in trouble
    assert f'channel {int(gain < -1)} is taken' in trouble


def test_strangers_and_a_silent_channel_do_not_cancel():
    other = np.roll(SPEECH, 7919)
    for frames in (np.stack((SPEECH, other), 1), np.stack((SPEECH, 0 * SPEECH), 1)):
        assert mixed(frames)[1] == ''


def test_the_mean_of_all_is_what_it_says_also_in_opposite_phase():
    samples, trouble = mixed(np.stack((SPEECH, -SPEECH), 1), MEAN)
    assert not samples.any() and trouble == ''


@pytest.mark.parametrize('channels', [3, 4, 6, 7, 8])
def test_of_an_array_the_first_channel_is_taken(channels):
    frames = np.random.default_rng(0).uniform(-1, 1, (len(SPEECH), channels))
    frames[:, 0] = SPEECH
    np.testing.assert_array_equal(mixed(frames)[0], SPEECH)


@pytest.mark.parametrize('channel', [0, 2, 5])
def test_a_channel_that_is_chosen_is_taken(channel):
    frames = np.zeros((1000, 6))
    frames[:, channel] = 0.5
    np.testing.assert_array_equal(mixed(frames, channel)[0], np.full(1000, 0.5))


def test_a_channel_that_is_not_there_is_refused():
    with pytest.raises(AudioError, match='no channel 2: the audio has 2'):
        Downmix(2).check(2)
    with pytest.raises(AudioError, match='0 channels is not audio'):
        Downmix().check(0)


def test_what_comes_out_shares_no_memory_and_may_be_empty():
    frames = np.ones((10, 1), np.float32)
    samples = Downmix()(frames, 16_000)
    frames[:] = 0
    assert samples.all()
    assert Downmix()(np.zeros((0, 2), np.float32), 16_000).shape == (0,)


@pytest.mark.parametrize(('array', 'channels', 'taken'), [
    ('respeaker_xvf3000', 6, 0), ('respeaker_xvf3800', 2, 1), ('respeaker_xvf3800', 6, 1),
    ('reachy_mini', 2, 0), ('reachy_mini', 6, 0), ('respeaker_xvf3800', 1, 0)])
def test_of_a_known_array_the_processed_channel_is_taken(array, channels, taken):
    frames = np.random.default_rng(0).uniform(-1, 1, (len(SPEECH), channels))
    frames[:, taken] = SPEECH
    np.testing.assert_array_equal(mixed(frames, array)[0], SPEECH)


@pytest.mark.parametrize('array', ARRAYS)
@pytest.mark.parametrize('channels', [4, 8])
def test_audio_that_is_not_of_the_array_is_refused(array, channels):
    with pytest.raises(AudioError, match=f'{array}, but .* does not send {channels} channels'):
        Downmix(array).check(channels)


@pytest.mark.parametrize(('text', 'channel'), [
    ('-2', -2), ('-1', -1), ('0', 0), ('63', 63), ('reachy_mini', 'reachy_mini')])
def test_a_channel_is_a_number_or_a_name(text, channel):
    assert parse_channel(text) == channel


@pytest.mark.parametrize('text', ['respeaker', '64', '-3', '', '1.5', 'Reachy_Mini'])
def test_an_unknown_name_is_refused_with_the_known_ones(text):
    expected = f"channel is '{text}', expected a whole number from -2 to 63, or respeaker_xvf3000"
    with pytest.raises(ValueError, match=expected) as caught:
        parse_channel(text)
    assert all(array in str(caught.value) for array in ARRAYS)
