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
Who has a slot of the engine, and who waits for one.

A stream that shares the slots needs one only while somebody speaks. While it is idle it keeps its
slot, and with that its KV cache, until another one needs it; then the one that has been idle
longest gives it away. Who finds none waits, and the first who came is served first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
import time
from typing import Protocol

from voxtral_ros.recognizer.slot import Slot


class SlotUser(Protocol):
    """A stream, as far as its slot is concerned."""

    slot: Slot | None
    delay: int  # tokens
    idle_slot_s: float  # idle for so long, it gives its slot away; infinite: never

    @property
    def idle_s(self) -> float:
        """Return for how long it has been idle, in seconds of its audio."""

    def begin_slot(self, slot: Slot) -> None:
        """Go on in a slot, with what waits."""

    def give_slot_away(self) -> None:
        """Go on without one."""


class SlotPool:
    """The slots of one engine."""

    def __init__(self, n_slots: int, begin: Callable[[int, int], Slot],
                 clock: Callable[[], float] = time.monotonic) -> None:
        """
        Begin with all slots free.

        :param begin: makes a slot with an index and a delay in tokens, and resets its network
        """
        self.n_slots = n_slots
        self.open: dict[int, Slot] = {}
        self.n_waits = 0  # how often somebody had to wait
        self._begin, self._clock = begin, clock
        self._free = list(range(n_slots))[::-1]
        self._idle: dict[SlotUser, float] = {}  # who has a slot and does not use it, since when
        self._waiting: deque[SlotUser] = deque()

    @property
    def n_waiting(self) -> int:
        """Return how many streams wait for a slot."""
        return len(self._waiting)

    @property
    def n_busy(self) -> int:
        """Return how many slots are used: somebody speaks."""
        return len(self.open) - len(self._idle)

    @property
    def can_serve(self) -> bool:
        """Return whether somebody waits for whom there is a slot now."""
        return bool(self._waiting) and (bool(self._free) or self._longest_idle() is not None)

    def take(self, delay: int) -> Slot | None:
        """Begin a slot with a delay in tokens; None when there is none to be had."""
        if not self._free:
            user = self._longest_idle()
            if user is None or user.slot is None:
                return None
            slot = user.slot
            del self._idle[user]
            user.give_slot_away()
            self.release(slot)
        index = self._free.pop()
        try:
            self.open[index] = self._begin(index, delay)
        except BaseException:
            self._free.append(index)
            raise
        return self.open[index]

    def take_spare(self, delay: int) -> Slot | None:
        """Begin a slot, if there is one that nobody else has or waits for."""
        return self.take(delay) if self._free and not self._waiting else None

    def restart(self, slot: Slot, delay: int) -> Slot:
        """Return a slot in the place of another one, without what that has processed."""
        self.open[slot.index] = self._begin(slot.index, delay)
        return self.open[slot.index]

    def release(self, slot: Slot) -> None:
        """Give a slot back; doing so again changes nothing."""
        if self.open.get(slot.index) is slot:
            del self.open[slot.index]
            self._free.append(slot.index)

    def close(self) -> None:
        """Have no slots any more."""
        self.open.clear()
        self._free.clear()

    # ---- for streams ----

    def begin_idle(self, user: SlotUser) -> None:
        """Note that a stream does not use its slot for now."""
        self._idle[user] = self._clock()

    def end_idle(self, user: SlotUser) -> None:
        """Note that it uses it again."""
        del self._idle[user]

    def wait(self, user: SlotUser) -> None:
        """Let a stream begin in a slot: at once, or when it is its turn and one is free."""
        self._waiting.append(user)
        self.serve()
        self.n_waits += user.slot is None

    def leave(self, user: SlotUser) -> None:
        """Forget a stream that ends."""
        self._idle.pop(user, None)
        if user in self._waiting:
            self._waiting.remove(user)
        if user.slot is not None:
            self.release(user.slot)

    def serve(self) -> None:
        """Give slots to those who wait, in the order in which they came."""
        while self._waiting:
            user = self._waiting[0]
            slot = self.take(user.delay)
            if slot is None:
                return
            self._waiting.popleft()
            user.begin_slot(slot)

    # ---- inside ----

    def _longest_idle(self) -> SlotUser | None:
        """Return the stream that gives its slot away, if one has been idle for long enough."""
        now = self._clock()
        # Of its audio, which may come faster than it was spoken; or that has ceased to come.
        idle_s = {user: max(user.idle_s, now - since) for user, since in self._idle.items()}
        return max((user for user in idle_s if idle_s[user] >= user.idle_slot_s),
                   key=idle_s.__getitem__, default=None)
