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

"""For how long work that is under way has not come on."""

from __future__ import annotations

from collections.abc import Callable
import time

# That count between two questions: a process that was stopped meanwhile is not stuck.
_MOST_S = 2.0


class StuckTimer:
    """Follows work that another thread does; to be asked about once a second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._done: object = None
        self._asked_s = clock()
        self._stuck_s = 0.0

    def stuck_s(self, done: object) -> float:
        """
        Return for how long nothing has been done, s.

        :param done: what changes whenever something is done, such as a count; None: nothing is
            under way
        """
        now_s = self._clock()
        passed_s, self._asked_s = min(now_s - self._asked_s, _MOST_S), now_s
        if done is None or done != self._done:
            self._done, self._stuck_s = done, 0.0
        else:
            self._stuck_s += passed_s
        return self._stuck_s
