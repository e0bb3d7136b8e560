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

"""Messages of one client that wait for its session: bounded, whatever the client sends."""

from __future__ import annotations

import asyncio
from collections import deque

_OVERHEAD = 128  # bytes of memory for a message besides its text


class Inbox:
    """
    A queue of messages, as they came: text, or bytes, which are no events.

    The socket is read while there is room here, however long the session needs for what it has:
    a ping that comes behind minutes of audio is answered at once.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._messages: deque[str | bytes] = deque()
        self._closed = False
        self._changed = asyncio.Event()
        self.n_bytes = 0

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def full(self) -> bool:
        return self.n_bytes >= self._max_bytes

    def put(self, message: str | bytes) -> None:
        """Add a message; who reads the socket looks at `full` before the next one."""
        self._messages.append(message)
        self.n_bytes += len(message) + _OVERHEAD
        self._changed.set()

    def close(self) -> None:
        """Let `get` return None when everything is taken."""
        self._closed = True
        self._changed.set()

    def clear(self) -> None:
        """Forget everything."""
        self._messages.clear()
        self.n_bytes = 0

    async def get(self) -> str | bytes | None:
        """Wait for the next message; None is the end."""
        while not self._messages:
            if self._closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        message = self._messages.popleft()
        self.n_bytes -= len(message) + _OVERHEAD
        return message
