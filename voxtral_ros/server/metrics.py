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

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, Histogram

_LATENCY_BUCKETS = (.01, .02, .04, .08, .16, .32, .64, 1.28, 2.56, 5.12, 10.24, 20.48)


class Metrics:
    """The counters of one server, in a registry of their own."""

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
        self._n_waits = 0
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
        self._audio_s = self._compute_s = 0.0

    def processed(self, audio_s: float) -> None:
        """Count the audio of a round of the engine; called from its thread."""
        self._audio_s += audio_s
        self.audio_seconds.inc(audio_s)

    def computed(self, compute_s: float) -> None:
        """Count the time that a round took; called from the engine's thread."""
        self._compute_s += compute_s
        self.compute_seconds.inc(compute_s)
        self._factor.set(self._compute_s / self._audio_s if self._audio_s else 0.0)

    def slots(self, n_talking: int, n_waiting: int, n_waits: int) -> None:
        """Note who has a stream and who waits for one; called from the engine's thread."""
        self.talking.set(n_talking)
        self.waiting.set(n_waiting)
        self.waits.inc(n_waits - self._n_waits)
        self._n_waits = n_waits

    def exposition(self) -> bytes:
        """Return everything in the text format of Prometheus."""
        return generate_latest(self._registry)

    def value(self, name: str, **labels: str) -> float:
        """Return one sample, 0 when it was never counted."""
        return self._registry.get_sample_value(name, labels) or 0.0

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f'voxtral_{name}', text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f'voxtral_{name}', text, registry=self._registry)
