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
Repetition in what a model writes: the same tokens, one time after the other.

Pads and announcements of groups do not count, so the words may come at any pace.
"""

from __future__ import annotations

from collections import deque
import sys

_MAX_PERIOD = 32  # tokens; a sentence of twenty words or so
_LEAST_TIMES = 4  # that the same is written in a row: people do say a sentence three times


class Repetition:
    """Follows the text tokens of one stream."""

    def __init__(self, n_tokens: int) -> None:
        """
        Begin.

        :param n_tokens: so many that repeat what was written just before are a loop; 0: none are
        """
        # Per period p, from 1: tokens in a row that must equal the one p before.
        self._least = [max(n_tokens, (_LEAST_TIMES - 1) * (period + 1))
                       for period in range(_MAX_PERIOD)] if n_tokens else []
        self._recent: deque[int] = deque(maxlen=_MAX_PERIOD)
        self.forget()

    def forget(self) -> None:
        """Begin anew: what comes next repeats nothing."""
        self._recent.clear()
        self._n_equal = [0] * _MAX_PERIOD  # that do so by now
        self._since_s = [0.0] * _MAX_PERIOD  # time of the first of them
        # After so many tokens more this can be a loop; 0 or less: it is one.
        self.n_missing = min(self._missing(), default=sys.maxsize)

    def push(self, token: int, time_s: float) -> None:
        """Take a text token that is about the audio up to `time_s`."""
        for at, before in enumerate(reversed(self._recent)):
            if token != before:
                self._n_equal[at] = 0
            else:
                if not self._n_equal[at]:
                    self._since_s[at] = time_s
                self._n_equal[at] += 1
        self._recent.append(token)
        self.n_missing = min(self._missing(), default=sys.maxsize)

    @property
    def is_long(self) -> bool:
        """Return whether this is a loop, and twice as long as the shortest one."""
        return min(self._missing(times=2), default=1) <= 0

    @property
    def begin_s(self) -> float:
        """Return when the loop began to repeat itself."""
        missing = self._missing()
        return self._since_s[missing.index(min(missing))]

    def _missing(self, times: int = 1) -> list[int]:
        return [times * least - n_equal
                for least, n_equal in zip(self._least, self._n_equal, strict=False)]
