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

"""A server as the recogniser of a command: whoever reads a recording waits for the server."""

from __future__ import annotations

from pathlib import Path
import time
from typing import Any

import numpy as np

from voxtral_ros.client.engine import RemoteEngine
from voxtral_ros.recognizer.events import Event
from voxtral_ros.recognizer.interface import ServerAway
from voxtral_ros.server.access import read_token

_MOST_WAITING_S = 60.0  # of audio: a file is read faster than it is transcribed
_AWAY_S = 10.0
_POLL_S = 0.02


class PatientEngine:
    """Opens streams on a server that take no more audio than it can follow."""

    def __init__(self, url: str, model: str, token_file: Path | None) -> None:
        """
        Note where the server is.

        :raises ValueError: the address or the token cannot be used
        """
        token = read_token(token_file) if token_file else ''
        self._engine = RemoteEngine(url, model, token, outage_s=float('inf'))

    def open(self, *arguments: Any, **options: Any) -> PatientStream:  # noqa: A003
        """Open a stream, as RemoteEngine does."""
        return PatientStream(self._engine.open(*arguments, **options))


class PatientStream:
    """A stream on a server; `poll` and `close` wait, ServerAway if that is for nothing."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def feed(self, samples: np.ndarray, *, finite: bool = False) -> None:
        """Queue audio."""
        self._stream.feed(samples, finite=finite)

    def poll(self) -> list[Event]:
        """Send what was fed and return what is new."""
        return self._follow(_MOST_WAITING_S)

    def close(self) -> list[Event]:
        """Return the last events."""
        self._stream.flush()
        return [*self._follow(0.0), *self._stream.close()]

    def abandon(self) -> None:
        """Disconnect."""
        self._stream.abandon()

    def _follow(self, most_s: float) -> list[Event]:
        """Wait until no more than so many seconds of audio are without their text."""
        events = list(self._stream.poll())
        while (link := self._stream.link).waiting_s > most_s:
            if link.state == 'down' and time.monotonic() - link.since > _AWAY_S:
                raise ServerAway(f'no connection to {link.url}: {link.error}')
            time.sleep(_POLL_S)
            events += self._stream.poll()
        return events
