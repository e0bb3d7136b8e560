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

"""Log lines that strangers can cause: so many a minute, whatever they do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import logging
import time

from aiohttp.http import HttpProcessingError

_LOGGER = logging.getLogger(__name__)
_PERIOD_S = 60.0
_MAX_DETAIL = 160


@dataclass
class _Window:
    """What was logged of one kind."""

    begin_s: float
    n_logged: int = 0
    n_dropped: int = 0


class RateLimitedLog:
    """Logs some lines of each kind in a minute, and with the next one how many it has dropped."""

    def __init__(self, per_minute: int = 10, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._windows: dict[str, _Window] = {}

    def warning(self, kind: str, *arguments: object, error: BaseException | None = None,
                once: bool = False) -> None:
        """
        Log a warning.

        :param kind: the text, with places for the arguments
        :param error: logged with its traceback
        :param once: one line a minute says it all
        """
        now = self._clock()
        window = self._windows.setdefault(kind, _Window(now))
        n_dropped = 0
        if now - window.begin_s >= _PERIOD_S:
            n_dropped = window.n_dropped
            window = self._windows[kind] = _Window(now)
        if window.n_logged >= (1 if once else self._per_minute):
            window.n_dropped += 1
            return
        window.n_logged += 1
        if n_dropped:
            kind, arguments = f'{kind} (%d more like this before)', (*arguments, n_dropped)
        _LOGGER.warning(kind, *arguments, exc_info=error)


class HttpLogger(logging.Logger):
    """What aiohttp logs to: what only the other side has done is one line and no traceback."""

    def __init__(self, log: RateLimitedLog) -> None:
        super().__init__(f'{__name__}.http')
        self._log_limited = log

    def handle(self, record: logging.LogRecord) -> None:
        """Log a record of aiohttp, if it is of any use to an operator."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, (HttpProcessingError, ConnectionError)):
            # repr: what is quoted in it was written by a stranger
            self._log_limited.warning('%s: %s', record.getMessage(),
                                      repr(' '.join(str(error).split()))[:_MAX_DETAIL])
        elif record.levelno >= logging.WARNING:
            self._log_limited.warning(str(record.msg), *(record.args or ()), error=error)
