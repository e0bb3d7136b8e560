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

"""What one client may take of a server."""

from __future__ import annotations

from dataclasses import dataclass
import time


@dataclass(frozen=True)
class Limits:
    """
    Limits of a server.

    What a client sends waits while the session is over `buffered_s` or `replies`; reading stops
    while that is over `backlog_bytes`, or `messages_per_s` are exceeded: the client is slowed
    down, not cut off. Over the others it gets an error event and the connection is closed.
    """

    sessions: int = 16
    message_bytes: int = 8 << 20  # 196 s of audio in one append
    buffered_s: float = 300.0  # audio of a session that waits for the engine
    backlog_bytes: int = 64 << 20  # messages that wait for that: 26 minutes of audio
    messages_per_s: float = 500.0  # pings too
    replies: int = 256  # events that wait to be sent, deltas not counted
    deltas: int = 4096  # that wait to be sent one by one, 5 minutes of audio
    reply_bytes: int = 4 << 20
    idle_slot_s: float = 10.0  # in which nobody speaks; then others may have the stream
    idle_s: float = 600.0  # without an event from the client; a ping is none
    send_s: float = 30.0  # for one event to leave
    step_s: float = 10.0  # of the model; after twice that it hangs, see run.serve; 0: never
    stop_s: float = 10.0  # for the audio that waits, when the server is stopped
    connections: int | None = None  # of any kind; None: see listener.connection_limit
    overload: bool = True  # take sessions with which the engine would be slower than the audio


class RateLimit:
    """A token bucket that holds one second."""

    def __init__(self, per_s: float) -> None:
        self._per_s = self._tokens = per_s
        self._filled = time.monotonic()

    def take(self) -> float:
        """Count one message; return how many seconds to wait before the next one is read."""
        now = time.monotonic()
        self._tokens = min(self._per_s, self._tokens + (now - self._filled) * self._per_s) - 1
        self._filled = now
        return max(0.0, -self._tokens / self._per_s)
