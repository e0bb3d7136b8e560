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
Admission control: whether there is time for another live stream.

Late streams make each other later, so a stream too many spoils all of them. What a token of audio
costs is measured while streams run: a pass is shared by its streams, and what the host does with
the tokens, voice activity above all, comes once per stream.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from statistics import median
from threading import Lock
from time import perf_counter

_KEEP, _KEEP_S = 400, 60.0  # passes that are remembered, and for how long
_ENOUGH = 8  # passes of a size before it counts: the first ones capture graphs and load kernels
# Of the time there is, for as many streams as were seen at once and for more. What is not measured
# here, prompts and messages, took a tenth of it with the demo model and 9 clients on two cores.
_SEEN, _MORE = 0.9, 0.8


class Admission:
    """Measures what streams cost and predicts it for one more; may be asked from any thread."""

    def __init__(self, token_s: float, clock: Callable[[], float] = perf_counter) -> None:
        """
        Know nothing yet, and so admit everybody.

        :param token_s: seconds of audio that a token stands for
        """
        self.clock = clock
        self._token_s = token_s
        self._passes: deque[tuple[float, int, float]] = deque(maxlen=_KEEP)  # when, streams, cost
        self._host: deque[tuple[float, float]] = deque(maxlen=_KEEP)  # when, cost of one stream
        self._lock = Lock()

    def passed(self, n_streams: int, n_tokens: int, seconds: float) -> None:
        """Record what a pass over some streams took; prompts are another matter."""
        with self._lock:
            self._passes.append((self.clock(), n_streams, seconds / n_tokens))

    def host_took(self, n_tokens: int, seconds: float) -> None:
        """Record what the host took to do its part with some tokens of one stream."""
        with self._lock:
            self._host.append((self.clock(), seconds / n_tokens))

    def predicted_s(self, n_streams: int) -> float:
        """Return the seconds of work per token of audio of all streams; 0 when unknown."""
        return self._predict(n_streams)[0]

    def refusal(self, n_streams: int) -> str:
        """
        Return why a stream beside n others would be one too many, '' if it would not.

        :param n_streams: that the model computes for; those in which nobody speaks do not count
        """
        predicted_s, n_seen = self._predict(n_streams + 1)
        limit_s = self._token_s * (_SEEN if n_streams < n_seen else _MORE)
        if not n_streams or predicted_s <= limit_s:
            return ''
        return (f'the model computes for {n_streams} streams, and with one more '
                f'{1e3 * self._token_s:.0f} ms of audio would take about {1e3 * predicted_s:.0f} '
                'ms: try again when somebody has ceased to speak, or take a faster device or a '
                'smaller model')

    def _predict(self, n_streams: int) -> tuple[float, int]:
        """Return seconds, and how many streams at once were seen."""
        costs, host_s = self._recent()
        if not costs:
            return 0.0, 0
        least, most = min(costs), max(costs)
        # Passes of one size do not say how much of them is shared: as if nothing were.
        slope = costs[most] / most if least == most else \
            max(0.0, (costs[most] - costs[least]) / (most - least))
        line = costs[most] + slope * (n_streams - most)
        seen = max((cost for count, cost in costs.items() if count <= n_streams), default=0.0)
        return max(line, seen) + n_streams * host_s, most

    def _recent(self) -> tuple[dict[int, float], float]:
        """Return the usual cost of passes by number of streams, and of the host per stream."""
        with self._lock:
            since = self.clock() - _KEEP_S
            passes = [(count, cost) for when, count, cost in self._passes if when >= since]
            host = [cost for when, cost in self._host if when >= since]
        by_count: dict[int, list[float]] = defaultdict(list)
        for count, cost in passes:
            by_count[count].append(cost)
        costs = {count: median(some) for count, some in by_count.items() if len(some) >= _ENOUGH}
        return costs, median(host) if len(host) >= _ENOUGH else 0.0
