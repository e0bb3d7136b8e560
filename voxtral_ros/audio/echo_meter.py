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
How late the echo of what is played comes back, and how much of it is taken away.

The level of an echo goes up and down as that of its reference did, some time before. Where the
two curves fit best is the delay, whatever the room makes of the waveform.
"""

from __future__ import annotations

from collections import deque
import math

import numpy as np
import numpy.typing as npt

from voxtral_ros.audio.block import Samples

FRAME = 160  # samples, 10 ms at 16 kHz
FRAME_MS = 10
LAGS = range(-30, 101)  # frames that are tried

_SPAN = 600  # frames that are compared: 6 s
_LEAST_ACTIVE = 100  # of them, in which something is played
_EVERY = 50  # frames
_ACTIVE_POWER = 1e-6  # -60 dBFS
_FLOOR_POWER = 1e-8
_GAP = 10  # frames: shorter silence of zeros alone is a message that was lost
_LEAST_FIT = 0.35  # correlation
_LEAST_AHEAD = 0.05  # of the best lag, before those that are not its neighbours
_FORGET = 0.997  # by frame in which something is played: half is forgotten in 2.3 s


class EchoMeter:
    """Compares frames of 10 ms of the microphone with what is played at the time."""

    def __init__(self) -> None:
        """Begin without knowing anything."""
        self.lag: int | None = None  # frames by which the echo is late
        self.forget_lag()
        self._near = self._out = 0.0  # energy while something is played

    def forget_lag(self) -> None:
        """Begin anew with the delay: the reference is read elsewhere."""
        n = _SPAN + len(LAGS)
        self._levels: deque[tuple[float, float]] = deque(maxlen=n)  # near and far, dB
        self._candidate: int | None = None
        self._n_since = self._n_zeros = 0
        self.lag = None

    @property
    def n_until_estimate(self) -> int:
        """Return after how many frames the lag is looked at."""
        return _EVERY - self._n_since

    @property
    def erle_db(self) -> float:
        """
        Return by how much the audio became weaker while something was played, NaN if unknown.

        It is less while somebody speaks, who is not taken away.
        """
        if self._near <= 0.0:
            return math.nan
        return 10 * math.log10(max(self._near, 1e-12) / max(self._out, 1e-12))

    def add(self, near: Samples, far: Samples, out: Samples) -> None:
        """Take frames of the microphone, of the reference and of the result, each [n * 160]."""
        powers = [np.square(x.reshape(-1, FRAME)).mean(axis=1) for x in (near, far, out)]
        lag = self.lag or 0
        for near_power, far_power, out_power in zip(*powers, strict=True):
            self._n_zeros = 0 if far_power else self._n_zeros + 1
            bridged = 0 < self._n_zeros <= _GAP and self._levels
            self._levels.append((_level(near_power),
                                 self._levels[-1][1] if bridged else _level(far_power)))
            played = self._levels[-1 - lag][1] if 0 <= lag < len(self._levels) else -math.inf
            if played > _level(_ACTIVE_POWER):
                self._near = self._near * _FORGET + float(near_power)
                self._out = self._out * _FORGET + float(out_power)
        self._n_since += len(powers[0])
        if self._n_since >= _EVERY:
            self._n_since = 0
            self._estimate()

    def _estimate(self) -> None:
        """Take a lag over that was found twice, from other audio in part."""
        found = best_lag(np.array(self._levels))
        if found is None:
            return
        if self._candidate is not None and abs(found - self._candidate) <= 1:
            self.lag = found
        self._candidate = found


def best_lag(levels: npt.NDArray[np.float64]) -> int | None:
    """
    Return by how many frames the first of two curves is late, None where that cannot be said.

    :param levels: [n, 2] of microphone and reference, dB, by frame
    """
    first, last = LAGS[0], LAGS[-1]
    n = len(levels) - len(LAGS) + 1
    if n < _LEAST_ACTIVE or (levels[:, 1] > _level(_ACTIVE_POWER)).sum() < _LEAST_ACTIVE:
        return None
    near, far = _changes(levels[:, 0]), _changes(levels[:, 1])
    # The microphone's frames for which all lags are known, and the reference's around each.
    near = near[last:len(near) + first]  # [n]
    windows = np.lib.stride_tricks.sliding_window_view(far, len(near))  # [lags, n]
    fits = windows @ near / (np.linalg.norm(windows, axis=1) * np.linalg.norm(near) + 1e-9)
    fits = fits[::-1]  # by lag, ascending
    best = int(fits.argmax())
    others = np.abs(np.arange(len(fits)) - best) > 3
    if fits[best] < _LEAST_FIT or fits[best] - fits[others].max() < _LEAST_AHEAD:
        return None
    return LAGS[best]


def _changes(levels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return how much louder it becomes, frame by frame: what starts is clearer than what ends."""
    smooth = np.convolve(levels, (0.25, 0.5, 0.25), mode='same')
    changes = np.maximum(np.diff(smooth, prepend=smooth[:1]), 0.0)
    return np.asarray(changes - changes.mean())


def _level(power: float) -> float:
    return 10 * math.log10(max(float(power), _FLOOR_POWER))
