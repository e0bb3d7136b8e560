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

"""What to do with audio that comes in while the robot itself speaks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
import time

import numpy as np

from voxtral_ros.audio.block import AudioBlock

_SET_BACK_NS = 1_000_000_000


class RobotVoice:
    """
    Follows `robot_speaking`, and mutes or marks the blocks that are received meanwhile.

    Blocks are judged by the time at which they are received, as is the topic, so the clocks of
    their publishers need not agree; what is marked is remembered by the stamps of the audio.
    """

    def __init__(self, steady_s: Callable[[], float] = time.monotonic) -> None:
        """Take durations from a clock that only goes forward: the node's may do anything."""
        self.speaks = False
        self._steady_s = steady_s
        self._since_s = 0.0  # on that clock
        self._stopped_ns = self._until_ns = 0
        self._latest_ns = 0
        self._marked = _Marks()  # what was captured while it spoke
        self._doubtful = _Marks()  # of that, what it may have said itself
        self._behind_ns = 0  # by how much receiving is later than capturing

    def update(self, speaks: bool, now_ns: int, tail_s: float) -> None:
        """Note that the robot starts or stops; its voice lingers in the room for `tail_s`."""
        if speaks and not self.speaks:
            self._since_s = self._steady_s()
        elif self.speaks and not speaks:
            self._stopped_ns, self._until_ns = now_ns, now_ns + round(tail_s * 1e9)
        self.speaks = speaks

    def speaking_s(self) -> float:
        """Return for how long the robot has been speaking, 0 when it is silent."""
        return self._steady_s() - self._since_s if self.speaks else 0.0

    def silent(self, now_ns: int) -> bool:
        """Return whether the robot is silent, and its voice has left the room."""
        # Before it stopped, it is again when a clock was set back: that was in another round.
        return not self.speaks and not self._stopped_ns <= now_ns < self._until_ns

    def treat(self, block: AudioBlock, received_ns: int, mode: str) -> AudioBlock:
        """Return a block as it is to be recognised in a mode, one of `robot_speaking_mode`."""
        if received_ns < self._latest_ns - _SET_BACK_NS:
            self._marked.clear()
            self._doubtful.clear()
        self._latest_ns = received_ns
        if block.stamp_ns is not None:
            self._behind_ns = received_ns - block.stamp_ns - block.duration_ns
        if mode == 'ignore' or self.silent(received_ns):
            return block
        if mode == 'mute':
            # Silence instead of a hole: the stamps go on, and an open utterance ends by itself.
            return replace(block, samples=np.zeros_like(block.samples))
        start_ns = received_ns - block.duration_ns if block.stamp_ns is None else block.stamp_ns
        self._marked.add(start_ns, block.duration_ns)
        if mode == 'mark':
            self._doubtful.add(start_ns, block.duration_ns)
        return block

    def captured_ns(self, received_ns: int) -> int:
        """Return the stamp of audio that is received at a time."""
        return received_ns - self._behind_ns

    def marked(self, start_ns: int, end_ns: int) -> bool:
        """Return whether it spoke while any audio between two stamps was captured."""
        return self._marked.overlap(start_ns, end_ns)

    def doubtful(self, start_ns: int, end_ns: int) -> bool:
        """Return whether what was said between two stamps may have been the robot."""
        return self._doubtful.overlap(start_ns, end_ns)


class _Marks:
    """Times between stamps."""

    def __init__(self) -> None:
        self._marks: deque[tuple[int, int]] = deque(maxlen=256)  # from and to

    def __len__(self) -> int:
        return len(self._marks)

    def clear(self) -> None:
        self._marks.clear()

    def add(self, start_ns: int, duration_ns: int) -> None:
        """Mark a block, together with those right before it."""
        end_ns = start_ns + duration_ns
        if self._marks and self._marks[-1][1] >= start_ns - duration_ns:
            self._marks[-1] = (min(self._marks[-1][0], start_ns), end_ns)
        else:
            self._marks.append((start_ns, end_ns))

    def overlap(self, start_ns: int, end_ns: int) -> bool:
        """Return whether anything between two stamps is marked; from any thread."""
        return any(start_ns < end and start < end_ns for start, end in list(self._marks))
