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
The node's clock, which may be a simulated one that stands, leaps or goes back.

Deadlines must not depend on such a clock: a bag that is played in a loop sets it back, one that is
started late sets it forward by decades, and without anybody on /clock it stays at 0 for ever.
"""

from __future__ import annotations

from collections import deque
import math

_LEAP = 100.0  # nothing is played at a hundred times its pace
_LEAST_LEAP_S = 10.0
_STANDS_S = 3.0
_AHEAD_S, _BEHIND_S = 1.0, 5.0  # of the stamps, when the audio comes
_STAMPS = 50


class ClockWatch:
    """Watches the node's clock from second to second."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0  # that passed on it since the start, without its leaps
        self.stands_s = 0.0  # for which a simulated clock has not moved
        self._last: tuple[float, int] | None = None
        self._moved = False
        self._simulated = False
        self._offsets: deque[float] = deque(maxlen=_STAMPS)

    def tick(self, steady_s: float, now_ns: int, simulated: bool) -> None:
        """
        Note what time it is; to be called about once a second.

        :param steady_s: on a clock that only goes forward
        :param now_ns: on the node's clock
        :param simulated: whether the latter follows /clock
        """
        if self._last is not None and simulated == self._simulated:
            steady, passed = steady_s - self._last[0], (now_ns - self._last[1]) / 1e9
            if not simulated:
                self.elapsed_s += steady
            elif 0 <= passed <= max(_LEAST_LEAP_S, _LEAP * steady):
                self.elapsed_s += passed
            self._moved = self._moved or passed != 0
            self.stands_s = self.stands_s + steady if simulated and passed == 0 else 0.0
        self._last, self._simulated = (steady_s, now_ns), simulated

    def compare(self, stamp_ns: int, now_ns: int) -> None:
        """Note the stamp of the end of some audio, and the time at which it came."""
        self._offsets.append((now_ns - stamp_ns) / 1e9)

    def forget_stamps(self) -> None:
        """Forget what was noted of stamps: another source begins."""
        self._offsets.clear()

    @property
    def failure(self) -> str:
        """Return that there is no time at all, and what to do; or ''."""
        if not self._simulated or self._moved or self.stands_s < _STANDS_S:
            return ''
        return ('use_sim_time is true, but nothing comes on /clock: play the bag with --clock, '
                'start the simulation, or set use_sim_time to false')

    @property
    def warning(self) -> str:
        """Return what is doubtful about the clock, and what to do; or ''."""
        if self._simulated and self._moved and self.stands_s >= _STANDS_S:
            return f'the clock on /clock has stood still for {self.stands_s:.0f} s'
        late_s = self._late_s()
        if -_AHEAD_S <= late_s <= _BEHIND_S or math.isnan(late_s):
            return ''
        where = 'behind' if late_s > 0 else 'ahead of'
        what = 'play a bag with --clock and set use_sim_time to true' if not self._simulated \
            else 'set use_sim_time to false for audio that is recorded now'
        return (f'the stamps of the audio are of another clock, {_duration(abs(late_s))} {where} '
                f'that of this node: {what}, or set the clocks of both machines')

    def _late_s(self) -> float:
        """Return by how much stamps are late, at the least: messages may have been held up."""
        offsets = list(self._offsets)
        return min(offsets, key=abs) if offsets else math.nan


def _duration(seconds: float) -> str:
    for unit, length in (('years', 365.25 * 86400), ('days', 86400), ('hours', 3600)):
        if seconds >= 2 * length:
            return f'{seconds / length:.0f} {unit}'
    return f'{seconds:.1f} s'
