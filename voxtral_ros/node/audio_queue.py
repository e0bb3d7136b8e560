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


"""Audio that waits for the recogniser, and what is to happen at a place in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from voxtral_ros.audio.block import AudioBlock
from voxtral_ros.node.stamps import Origin

Items = tuple[tuple[AudioBlock, int], ...]  # with the times at which they were received, ns

_TOKEN_NS = 80_000_000  # of audio, which is processed at once however many blocks it is in


class Progress(NamedTuple):
    """How far the recogniser is."""

    position_s: float  # in the stream
    is_speaking: bool  # somebody, there
    is_pending: bool  # a server has still to write about what was said
    origin: Origin


class AudioQueue:
    """Blocks in their order; whoever owns it guards it with a lock."""

    def __init__(self) -> None:
        self.waiting_s = 0.0
        self._blocks: deque[tuple[AudioBlock, int] | None] = deque()  # None: flush here
        self._n_put = 0  # that have ever been in there
        self._callbacks: deque[tuple[int, Callable[[Progress], None]]] = deque()

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def put(self, items: Iterable[tuple[AudioBlock, int]]) -> None:
        """Append blocks."""
        for item in items:
            self._append(item)
            self.waiting_s += item[0].duration_ns / 1e9

    def put_flush(self) -> None:
        """Let the utterance end here."""
        self._append(None)

    def call_here(self, callback: Callable[[Progress], None]) -> None:
        """Have somebody called when what is there now is gone."""
        self._callbacks.append((self._n_put, callback))

    def clear(self) -> None:
        """Forget what waits."""
        self._blocks.clear()
        self.waiting_s = 0.0

    def take(self) -> Items:
        """Take the blocks that are next: a token of audio, or one block that is longer."""
        items = []
        duration_ns = 0
        while duration_ns < _TOKEN_NS and self._blocks and (item := self._blocks[0]) is not None:
            items.append(item)
            duration_ns += item[0].duration_ns
            self._blocks.popleft()
        self.waiting_s = max(0.0, self.waiting_s - duration_ns / 1e9)
        return tuple(items)

    def take_flush(self) -> bool:
        """Return whether the utterance is to end before the next block."""
        if self._blocks and self._blocks[0] is None:
            self._blocks.popleft()
            return True
        return False

    def drop(self, until_s: float, keep: int = 1) -> float:
        """Drop the oldest blocks until so much waits; return what was dropped, s."""
        dropped_s = 0.0
        while self.waiting_s - dropped_s > until_s and len(self._blocks) > keep:
            item = self._blocks.popleft()
            if item is not None:  # a gap ends the utterance anyway
                dropped_s += item[0].duration_ns / 1e9
        self.waiting_s -= dropped_s
        return dropped_s

    @property
    def is_due(self) -> bool:
        """Return whether somebody is to be called."""
        return bool(self._callbacks) and self._callbacks[0][0] <= self._n_put - len(self._blocks)

    def take_callback(self) -> Callable[[Progress], None] | None:
        """Return who is to be called next, None if it is nobody's time yet."""
        return self._callbacks.popleft()[1] if self.is_due else None

    def _append(self, item: tuple[AudioBlock, int] | None) -> None:
        self._blocks.append(item)
        self._n_put += 1
