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

"""What a server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, Histogram

_LATENCY_BUCKETS = (.01, .02, .04, .08, .16, .32, .64, 1.28, 2.56, 5.12, 10.24, 20.48)


class Metrics:
    """The counters of one server, over all its engines, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.sessions = self._gauge('sessions', 'Connected clients')
        self.connections = self._counter('connections', 'Clients that were ever connected')
        self.rejected = self._counter('rejected', 'Connections refused', 'reason')
        self.messages = self._counter('messages', 'Messages from clients')
        self.errors = self._counter('errors', 'Error events sent', 'code')
        self.audio_seconds = self._counter('audio_seconds', 'Seconds of audio processed')
        self.compute_seconds = self._counter('compute_seconds', 'Seconds the engine was busy')
        self.dropped_seconds = self._counter('dropped_audio_seconds', 'Seconds of audio dropped')
        self.slow_readers = self._counter('slow_readers', 'Clients cut off for not reading')
        self.failures = self._counter('engine_failures', 'Exceptions of the recogniser')
        self.skipped_seconds = self._counter(
            'skipped_audio_seconds', 'Seconds of audio in which nobody spoke, not given to the '
            'model')
        self.talking = self._gauge('talking_sessions', 'Clients for whom the model computes')
        self.waiting = self._gauge('waiting_sessions', 'Clients who speak and wait for a stream')
        self.waits = self._counter('stream_waits', 'Times that a client had to wait for a stream')
        self.waiting_seconds = self._gauge('waiting_audio_seconds', 'Seconds of audio that wait')
        self.step_seconds = self._gauge(
            'step_seconds', 'Predicted seconds of work per 80 ms of audio, if all clients that '
            'are connected speak, or as many as there are streams; 0 when unknown')
        self.delta_latency = Histogram(
            'voxtral_delta_latency_seconds', 'From the arrival of the audio that completed a '
            'piece of text to the sending of that text', registry=self._registry,
            buckets=_LATENCY_BUCKETS)
        self._factor = self._gauge('real_time_factor', 'compute_seconds / audio_seconds since '
                                   'the start; below 1 the engine keeps up')
        self._lock = Lock()  # engines count at the same time
        self._audio_s = self._compute_s = 0.0
        self.of_engines: dict[str, Counter | Gauge] = {
            'audio_seconds': self._counter(
                'engine_audio_seconds', 'Seconds of audio processed by each engine', 'engine'),
            'compute_seconds': self._counter(
                'engine_compute_seconds', 'Seconds each engine was busy', 'engine'),
            'talking': self._gauge('engine_talking_sessions',
                                   'Clients for whom each engine computes', 'engine'),
            'waiting': self._gauge('engine_waiting_sessions',
                                   'Clients who wait for a stream of each engine', 'engine'),
            'sessions': self._gauge('engine_sessions', 'Connected clients of each engine',
                                    'engine'),
            'step_seconds': self._gauge('engine_step_seconds', 'step_seconds of each engine',
                                        'engine'),
            'failing': self._gauge('engine_failing', '1 while an engine fails again and again',
                                   'engine')}

    def watch(self, engine: str, gauges: Mapping[str, Callable[[], float]]) -> None:
        """Let gauges of an engine be asked for when somebody reads them."""
        for name, function in gauges.items():
            gauge = self.of_engines[name].labels(engine)
            assert isinstance(gauge, Gauge)
            gauge.set_function(function)

    def processed(self, audio_s: float) -> None:
        """Count the audio of a round, before anybody has its text; from any thread."""
        with self._lock:
            self._audio_s += audio_s
        self.audio_seconds.inc(audio_s)

    def computed(self, compute_s: float) -> None:
        """Count the time that a round took; from any thread."""
        with self._lock:
            self._compute_s += compute_s
            self._factor.set(self._compute_s / self._audio_s if self._audio_s else 0.0)
        self.compute_seconds.inc(compute_s)

    def exposition(self) -> bytes:
        """Return everything in the text format of Prometheus."""
        return generate_latest(self._registry)

    def value(self, name: str, **labels: str) -> float:
        """Return one sample, 0 when it was never counted."""
        return self._registry.get_sample_value(name, labels) or 0.0

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f'voxtral_{name}', text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f'voxtral_{name}', text, labels, registry=self._registry)


class EngineMetrics:
    """What one engine counts, under its name and in the totals; called from its thread."""

    def __init__(self, totals: Metrics, name: str) -> None:
        self._totals = totals
        self._own = {key: metric.labels(name) for key, metric in totals.of_engines.items()}
        self._n_talking = self._n_waiting = self._n_waits = 0

    def processed(self, audio_s: float) -> None:
        """Count the audio of a round, before anybody has its text."""
        self._totals.processed(audio_s)
        self._own['audio_seconds'].inc(audio_s)

    def computed(self, compute_s: float) -> None:
        """Count the time that a round took."""
        self._totals.computed(compute_s)
        self._own['compute_seconds'].inc(compute_s)

    def slots(self, n_talking: int, n_waiting: int, n_waits: int) -> None:
        """Note who has a stream and who waits for one, and how often anybody had to wait."""
        # By how much they have changed: so the totals are right whoever counts besides.
        for name, total, grown in (
                ('talking', self._totals.talking, n_talking - self._n_talking),
                ('waiting', self._totals.waiting, n_waiting - self._n_waiting)):
            self._own[name].inc(grown)
            total.inc(grown)
        self._totals.waits.inc(n_waits - self._n_waits)
        self._n_talking, self._n_waiting, self._n_waits = n_talking, n_waiting, n_waits
