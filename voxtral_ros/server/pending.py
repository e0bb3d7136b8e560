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

"""Audio and end marks that wait in a session for the next generation, in order."""

from __future__ import annotations

from collections import deque

import numpy as np

from voxtral_ros.audio.block import Samples
from voxtral_ros.audio.resample import TARGET_RATE_HZ


class EndMark:
    """Where the client said that the audio ends."""


END = EndMark()


class Pending:
    """A queue that knows how much work stands in it."""

    def __init__(self) -> None:
        self._items: deque[Samples | EndMark] = deque()
        self._n_samples = 0
        self.n_ends = 0

    def __bool__(self) -> bool:
        return bool(self._items)

    @property
    def audio_s(self) -> float:
        """Return the seconds of audio."""
        return self._n_samples / TARGET_RATE_HZ

    @property
    def is_open(self) -> bool:
        """Return whether audio stands at the end: the client may go on with it."""
        return bool(self._items) and self._items[-1] is not END

    def append(self, item: Samples | EndMark) -> None:
        """Add at the end."""
        self._items.append(item)
        self._count(item, 1)

    def popleft(self) -> Samples | EndMark:
        """Remove the oldest."""
        item = self._items.popleft()
        self._count(item, -1)
        return item

    def clear(self) -> None:
        """Forget everything."""
        self._items.clear()
        self._n_samples = self.n_ends = 0

    def _count(self, item: Samples | EndMark, sign: int) -> None:
        if isinstance(item, np.ndarray):
            self._n_samples += sign * len(item)
        else:
            self.n_ends += sign
