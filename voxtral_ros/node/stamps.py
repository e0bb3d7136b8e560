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

"""From the time inside a stream to the stamps of the audio."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

# Anchors nearer than this to what the one before them says are left out.
_TOLERANCE_NS = 500_000


class Origin(NamedTuple):
    """Where audio came from: its frame, and the way from stream time to stamps."""

    frame_id: str
    stamp_ns: Callable[[float], int]
    processed_s: float = 0.0  # stream time up to which audio has been processed


class StampMap:
    """Seconds of a stream to stamps in nanoseconds, by anchors that are passed on the way."""

    def __init__(self) -> None:
        self._anchors: deque[tuple[float, int]] = deque(maxlen=4096)

    def anchor(self, stream_s: float, stamp_ns: int) -> None:
        """Note that the sample at `stream_s` was captured at `stamp_ns`."""
        if not self._anchors or abs(self(stream_s) - stamp_ns) > _TOLERANCE_NS:
            self._anchors.append((stream_s, stamp_ns))

    def __call__(self, stream_s: float) -> int:
        """Return the stamp of a moment, counted from the last anchor before it."""
        best = self._anchors[0] if self._anchors else (0.0, 0)
        for anchor in reversed(self._anchors):
            if anchor[0] <= stream_s + 1e-6:
                best = anchor
                break
        return best[1] + round((stream_s - best[0]) * 1e9)
