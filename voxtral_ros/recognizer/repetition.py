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
        self._n_tokens = n_tokens
        self._recent: deque[int] = deque(maxlen=_MAX_PERIOD)
        self.forget()

    def forget(self) -> None:
        """Begin anew: what comes next repeats nothing."""
        self._recent.clear()
        # Per period p: tokens in a row that equal the one p before, and when the first came.
        self._n_equal = [0] * (_MAX_PERIOD + 1)
        self._since_s = [0.0] * (_MAX_PERIOD + 1)

    def push(self, token: int, time_s: float) -> None:
        """Take a text token that is about the audio up to `time_s`."""
        for period, before in enumerate(reversed(self._recent), 1):
            if token != before:
                self._n_equal[period] = 0
            else:
                if not self._n_equal[period]:
                    self._since_s[period] = time_s
                self._n_equal[period] += 1
        self._recent.append(token)

    def n_missing(self, times: int = 1) -> int:
        """
        Return after how many more tokens this can be a loop, 0 or less if it is one.

        :param times: that it must be as long as the shortest loop
        """
        return self._nearest(times)[0] if self._n_tokens else sys.maxsize

    @property
    def begin_s(self) -> float:
        """Return when the loop began to repeat itself."""
        return self._since_s[self._nearest()[1]]

    def _nearest(self, times: int = 1) -> tuple[int, int]:
        """Return how many tokens are missing, and at which period."""
        return min((times * max(self._n_tokens, (_LEAST_TIMES - 1) * period)
                    - self._n_equal[period], period) for period in range(1, _MAX_PERIOD + 1))
