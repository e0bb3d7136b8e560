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

"""What the package logs, where a robot's log is read: in /rosout, under the node's name."""

from __future__ import annotations

import logging
import re
import time
import traceback

from rclpy.logging import LoggingSeverity
from rclpy.node import Node

_PACKAGE = 'voxtral_ros'
_REPEAT_S = 5.0
_KINDS = 64  # of messages that are remembered


class Throttle:
    """Lets a message pass once in a while, whatever numbers are in it."""

    def __init__(self, repeat_s: float = _REPEAT_S) -> None:
        self._repeat_s = repeat_s
        self._passed_s: dict[str, float] = {}

    def __call__(self, message: str) -> bool:
        """Return whether the message is to be logged now."""
        kind, now_s = re.sub(r'\d+', '#', message), time.monotonic()
        if now_s - self._passed_s.get(kind, -self._repeat_s) < self._repeat_s:
            return False
        self._passed_s.pop(kind, None)
        self._passed_s[kind] = now_s
        while len(self._passed_s) > _KINDS:
            del self._passed_s[next(iter(self._passed_s))]
        return True


class RosHandler(logging.Handler):
    """Gives the records of the package's Python loggers to the logger of a node."""

    def __init__(self, node: Node) -> None:
        """Take over from other handlers; `close` gives back."""
        super().__init__()
        self._ros = node.get_logger()
        self._logger = logging.getLogger(_PACKAGE)
        self._before = self._logger.level, self._logger.propagate
        self._logger.setLevel(logging.DEBUG)  # it is the node's level that counts
        self._logger.propagate = False
        self._logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record."""
        try:
            message = record.getMessage()
            if record.exc_info:
                message += '\n' + ''.join(traceback.format_exception(*record.exc_info)).rstrip()
            self._log(record.levelno, message)
        except Exception:  # such as a context that has been shut down
            self.handleError(record)

    def _log(self, level: int, message: str) -> None:
        # A line for each: rclpy allows a line of code no second severity.
        if level >= logging.CRITICAL:
            self._ros.fatal(message)
        elif level >= logging.ERROR:
            self._ros.error(message)
        elif level >= logging.WARNING:
            self._ros.warning(message)
        elif level >= logging.INFO:
            self._ros.info(message)
        elif self._ros.is_enabled_for(LoggingSeverity.DEBUG):
            self._ros.debug(message)

    def close(self) -> None:
        """Leave the loggers as they were."""
        self._logger.removeHandler(self)
        level, self._logger.propagate = self._before
        self._logger.setLevel(level)
        super().close()
