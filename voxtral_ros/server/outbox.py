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

"""Events on their way to one client: bounded, whatever the client does not read."""

from __future__ import annotations

import asyncio
from collections import deque
import json

from voxtral_ros.server.events import Message
from voxtral_ros.server.limits import Limits


class Outbox:
    """A queue of events; of deltas, those beyond the limit grow together."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._messages: deque[Message] = deque()
        self._n_bytes = self._n_deltas = 0
        self._closed = False
        self._changed = asyncio.Event()
        self.overflowed = asyncio.Event()

    def put(self, message: Message) -> None:
        """Add an event; when too much waits, note that the client does not read."""
        last = self._messages[-1] if self._messages else None
        is_delta = _is_plain_delta(message)
        if last and is_delta and _is_plain_delta(last) and self._n_deltas >= self._limits.deltas:
            last['delta'] += message['delta']
            self._n_bytes += len(message['delta'])
        else:
            self._messages.append(dict(message))
            self._n_bytes += _size(message)
            self._n_deltas += is_delta
        if self._n_bytes > self._limits.reply_bytes:
            self.overflowed.set()
        self._changed.set()

    def close(self) -> None:
        """Let `get` return None when everything is taken."""
        self._closed = True
        self._changed.set()

    @property
    def full(self) -> bool:
        """Return whether the client had better read; deltas count as audio that waits."""
        return len(self._messages) - self._n_deltas >= self._limits.replies

    async def get(self) -> str | None:
        """Wait for the next event, as JSON; None is the end."""
        while not self._messages:
            if self._closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        message = self._messages.popleft()
        self._n_deltas -= _is_plain_delta(message)
        self._n_bytes = max(0, self._n_bytes - _size(message)) if self._messages else 0
        return json.dumps(message)


def _is_plain_delta(message: Message) -> bool:
    return message.keys() == {'type', 'delta'}


def _size(message: Message) -> int:
    return 100 + sum(len(value) if isinstance(value, str) else 100 * len(value)
                     if isinstance(value, list) else 20 for value in message.values())
