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

"""
Several channels to one.

What is behind the channels of a microphone array, nobody says. On the common ones, channel 0 is
the processed signal or the first microphone, and the last one may be what the robot itself plays.
Of a stereo pair the mean is better than either, unless its channels are wired in opposite phase.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voxtral_ros.audio.arrays import ARRAYS, MEAN
from voxtral_ros.audio.block import AudioError, Samples

AUTOMATIC = -1

_CANCELLED = 0.02  # power of the mean by that of its channels: -17 dB; of two strangers it is 0.5
_LEAST_POWER = 1e-8  # -80 dBFS: silence proves nothing
_ENOUGH_S = 0.5


class Downmix:
    """
    Mixes frames of several channels down to mono, block by block.

    `channel` counts from 0, or is the name of an array. AUTOMATIC takes the mean of a
    stereo pair, or the louder one where they cancel each other, and channel 0 of more than two.
    MEAN is the mean of all.
    """

    def __init__(self, channel: int | str = AUTOMATIC) -> None:
        self._wanted = channel
        self._cancelled_s = self._loud_s = 0.0
        self._louder = 0

    def check(self, channels: int) -> None:
        """Raise AudioError when audio of so many channels has not the one that is wanted."""
        self.find(channels)

    def find(self, channels: int) -> int:
        """Return the channel to take of so many, or how to mix them; raise as `check` does."""
        if channels < 1:
            raise AudioError(f'{channels} channels is not audio; check what the source reports')
        wanted = self._wanted
        if isinstance(wanted, str):
            return _of_array(wanted, channels)
        if not MEAN <= wanted < channels:
            raise AudioError(
                f'there is no channel {wanted}: the audio has {channels}, counted from 0 '
                f'({AUTOMATIC} chooses, {MEAN} is the mean of all)')
        return wanted

    def __call__(self, frames: npt.NDArray[np.float32], rate_hz: int) -> Samples:
        """Return `frames` [n, channels] as new mono samples [n]."""
        channels = frames.shape[1]
        channel = self.find(channels)
        if channel >= 0 or channels == 1:
            return frames[:, max(channel, 0)].copy()
        if channel == MEAN or channels == 2:
            mean: Samples = frames.mean(axis=1, dtype=np.float32)
            return mean if channel == MEAN else self._unless_cancelled(mean, frames, rate_hz)
        return frames[:, 0].copy()

    def _unless_cancelled(self, mean: Samples, frames: npt.NDArray[np.float32],
                          rate_hz: int) -> Samples:
        powers = np.einsum('nc,nc->c', frames, frames) / max(1, len(frames))
        if powers.mean() < _LEAST_POWER:
            return mean
        seconds = len(frames) / rate_hz
        self._loud_s += seconds
        if float(np.dot(mean, mean)) / len(mean) > _CANCELLED * powers.mean():
            return mean
        self._cancelled_s += seconds
        self._louder = int(powers.argmax())
        return frames[:, self._louder].copy()

    @property
    def trouble(self) -> str:
        """Return that channels cancel each other, and what was done about it; or ''."""
        if self._cancelled_s < _ENOUGH_S or self._cancelled_s < self._loud_s / 2:
            return ''
        return ('the two channels cancel each other, as a microphone does that is wired in '
                f'opposite phase: channel {self._louder} is taken alone; set channel to keep that')


def _of_array(name: str, channels: int) -> int:
    """Return the processed channel of an array that sends so many, or raise AudioError."""
    array = ARRAYS[name]
    if channels == 1:  # firmware, or a driver, that sends nothing else
        return 0
    if channels not in array.channels:
        raise AudioError(
            f'channel is {name}, but {array.product} does not send {channels} channels '
            f'({" or ".join(map(str, (1, *array.channels)))}): is it another device, or does '
            'something mix them? A number takes one of these')
    return array.channels[channels]
