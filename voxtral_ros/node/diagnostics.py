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
How the node is, once a second on /diagnostics.

The node fills in a `Health`; what has changed over the last ten seconds makes the `Recent`, and
`judge` turns both into a level and a sentence that says what is wrong and what to do about it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
import math
from pathlib import Path
import resource
import threading
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import numpy as np
from rclpy.node import Node

from voxtral_ros.audio.block import AudioBlock
from voxtral_ros.node.qos_events import no_events
from voxtral_ros.node.worker import WorkerStats

if TYPE_CHECKING:
    from voxtral_ros.recognizer.interface import EngineStats, LinkStatus

PERIOD_S = 1.0
_WINDOW = 10  # periods that count as recent
_RATE_WINDOW_S = 5.0  # a rate over less says nothing
_LEAST_RATE = 0.8
_LONG_SPEECH_S = 60.0  # of the robot; then its publisher has probably died
_SILENCE_DBFS = -120.0  # digital silence

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


class Meter:
    """Level and amount of the audio that comes in, from any thread."""

    def __init__(self) -> None:
        self.received_s = 0.0
        self._lock = threading.Lock()
        self._power, self._n_samples, self._peak = 0.0, 0, 0.0

    def add(self, block: AudioBlock) -> None:
        """Take a block into account."""
        samples = block.samples
        with self._lock:
            self.received_s += block.duration_ns / 1e9
            self._power += float(np.dot(samples, samples))
            self._n_samples += len(samples)
            self._peak = max(self._peak, float(samples.max()), -float(samples.min()))

    def take(self) -> tuple[float, float]:
        """Return level (RMS) and peak since the last call, dBFS; NaN when nothing came."""
        with self._lock:
            power, n_samples, peak = self._power, self._n_samples, self._peak
            self._power, self._n_samples, self._peak = 0.0, 0, 0.0
        if not n_samples:
            return math.nan, math.nan
        return _decibel(math.sqrt(power / n_samples)), _decibel(peak)


def _decibel(amplitude: float) -> float:
    return max(_SILENCE_DBFS, 20 * math.log10(amplitude)) if amplitude else _SILENCE_DBFS


@dataclass(frozen=True)
class Health:
    """The node at one moment; counters are since activation, NaN is unknown."""

    time_s: float  # of the clock that the audio follows
    state: str = 'unconfigured'
    failure: str = ''  # why it is not in a better state
    model: str = ''
    source: str = ''
    hint: str = ''
    trouble: str = ''
    live: bool = False
    timeout_s: float = 3.0
    listening: bool = True
    robot_speaking_s: float = 0.0
    level_dbfs: float = math.nan
    peak_dbfs: float = math.nan
    received_s: float = 0.0
    overflows: int = 0
    waiting_s: float = 0.0
    queue_s: float = 30.0
    stats: WorkerStats = field(default_factory=WorkerStats)
    utterances: int = 0
    latencies_s: tuple[float, ...] = ()
    stuck_s: float = 0.0  # for which the present step has not returned
    stuck_after_s: float = 10.0  # longer is an error; 0: never
    restarts: bool = False  # whether the process is then started anew
    backend: str = ''
    link: LinkStatus | None = None  # to a server, if the model is there
    engine: EngineStats | None = None  # if it is here


@dataclass(frozen=True)
class Recent:
    """What has changed within the window."""

    audio_rate: float  # seconds of audio per second, NaN when unknown
    real_time_factor: float  # seconds of work per second of audio, NaN when unknown
    idle_s: float  # since audio came at all
    mute_s: float  # for which all that came was digital silence
    dropped_s: float
    failures: int
    gaps: int
    jumps: int
    bad_samples: int
    undelivered_s: float  # speech that should have gone to a server


def judge(now: Health, recent: Recent) -> tuple[bytes, str]:
    """Return the level and the most important thing to know."""
    if now.failure:
        return ERROR, now.failure
    if now.state != 'active':
        return OK, now.state
    if now.stuck_after_s and now.stuck_s >= now.stuck_after_s:
        return ERROR, (f'a step of the recogniser has not returned for {now.stuck_s:.0f} s '
                       f'({now.backend}): ' + (
                           f'the process starts anew after {2 * now.stuck_after_s:.0f} s'
                           if now.restarts else 'end the process and start it again'))
    if recent.failures:
        return ERROR, (f'the recogniser failed {recent.failures} times in the last seconds and '
                       'was started anew: see the log')
    if now.trouble:
        return ERROR, now.trouble
    judged = now.live and now.timeout_s > 0
    if judged and recent.idle_s >= now.timeout_s:
        return ERROR, f'no audio for {recent.idle_s:.0f} s from the {now.source}: {now.hint}'
    if now.link is not None and now.link.state == 'down':
        return ERROR, (f'no connection to {now.model}: {now.link.error}; {now.link.waiting_s:.0f} '
                       's of speech wait for it')
    if recent.undelivered_s:
        return WARN, (f'{recent.undelivered_s:.1f} s of speech were given up, because the server '
                      'was away for too long or did not answer: see its log, or engine.outage_s')
    slow = 'choose a faster device, a smaller model, or give the node more of the CPU'
    if recent.dropped_s:
        return WARN, (f'{recent.dropped_s:.1f} s of audio were dropped, because recognition is '
                      f'slower than the audio: {slow}')
    if now.waiting_s > now.queue_s / 2:
        return WARN, f'recognition is {now.waiting_s:.0f} s behind the audio: {slow}'
    if judged and recent.audio_rate < _LEAST_RATE:
        return WARN, (f'only {100 * recent.audio_rate:.0f} % of the audio arrives: look for lost '
                      'messages (network, CPU load, queue depth of the publisher)')
    if recent.bad_samples:
        return WARN, (f'{recent.bad_samples} samples were NaN or absurdly large and count as '
                      'silence: check the sample format of the source')
    if recent.gaps or recent.jumps:
        return WARN, (f'{recent.gaps} gaps and {recent.jumps} jumps in the stamps of the audio: '
                      'look for lost messages, a second publisher, or a clock that is being set')
    if recent.mute_s >= _WINDOW * PERIOD_S:
        return WARN, ('the audio is digital silence: is the microphone muted, or the parameter '
                      'channel a channel without a microphone?')
    if now.robot_speaking_s >= _LONG_SPEECH_S:
        return WARN, (f'robot_speaking has been true for {now.robot_speaking_s:.0f} s: did its '
                      'publisher end without saying false?')
    if not now.listening:
        return OK, 'muted by ~/set_listening'
    return OK, f'listening to the {now.source}'


class Diagnostics:
    """Publishes the health of a node; keeps a few seconds of it, and no more."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher = node.create_publisher(
            DiagnosticArray, '/diagnostics', 10, event_callbacks=no_events())
        self._window: deque[Health] = deque(maxlen=_WINDOW + 1)
        self._audio_s = self._loud_s = 0.0  # when audio, and not only digital silence, came last

    def publish(self, now: Health) -> None:
        """Publish one status."""
        recent = self._compare(now)
        level, message = judge(now, recent)
        node = self._node
        status = DiagnosticStatus(
            level=level, name=f'{node.get_fully_qualified_name()[1:]}: speech recognition',
            message=message, hardware_id=now.source,
            values=[KeyValue(key=key, value=value) for key, value in _values(now, recent)])
        array = DiagnosticArray(status=[status])
        array.header.stamp = node.get_clock().now().to_msg()
        self._publisher.publish(array)

    def _compare(self, now: Health) -> Recent:
        """Note the health and return what has changed within the window."""
        # A copy: the worker goes on counting in its own.
        now = replace(now, stats=replace(now.stats))
        last = self._window[-1] if self._window else None
        if last is None or now.state != last.state or now.received_s < last.received_s \
                or now.time_s < last.time_s:
            self._window.clear()
            self._audio_s = self._loud_s = now.time_s
        elif now.received_s > last.received_s:
            self._audio_s = now.time_s
            if now.level_dbfs > _SILENCE_DBFS:
                self._loud_s = now.time_s
        else:
            self._loud_s = now.time_s
        self._window.append(now)
        then = self._window[0]
        # The window may begin before the audio did.
        first = next((health for health in self._window if health.received_s), now)
        seconds, processed_s = (
            now.time_s - first.time_s, now.stats.processed_s - then.stats.processed_s)
        return Recent(
            audio_rate=(now.received_s - first.received_s) / seconds
            if seconds >= _RATE_WINDOW_S else math.nan,
            real_time_factor=(now.stats.busy_s - then.stats.busy_s) / processed_s
            if processed_s > 0 else math.nan,
            idle_s=now.time_s - self._audio_s, mute_s=now.time_s - self._loud_s,
            dropped_s=now.stats.dropped_s - then.stats.dropped_s,
            failures=now.stats.failures - then.stats.failures,
            gaps=now.stats.gaps - then.stats.gaps, jumps=now.stats.jumps - then.stats.jumps,
            bad_samples=now.stats.bad_samples - then.stats.bad_samples,
            undelivered_s=_undelivered_s(now) - _undelivered_s(then))


def _values(now: Health, recent: Recent) -> list[tuple[str, str]]:
    """Return what is shown, units in the keys, empty where unknown."""
    stats, engine = now.stats, now.engine
    p50, p95 = np.percentile(now.latencies_s, (50, 95)) if now.latencies_s else (math.nan,) * 2
    return [
        ('state', now.state),
        ('model', now.model),
        ('backend', now.backend),
        ('source', now.source),
        ('listening', str(now.listening)),
        ('robot speaking', str(now.robot_speaking_s > 0)),
        ('level (dBFS)', _number(now.level_dbfs, 1)),
        ('peak (dBFS)', _number(now.peak_dbfs, 1)),
        ('audio rate (s/s, expected 1)', _number(recent.audio_rate, 3)),
        ('received (s)', _number(now.received_s, 1)),
        ('queue (s)', _number(now.waiting_s, 2)),
        ('dropped (s)', _number(stats.dropped_s, 2)),
        ('overflows of the source', str(now.overflows)),
        ('gaps', str(stats.gaps)),
        ('jumps', str(stats.jumps)),
        ('bad samples', str(stats.bad_samples)),
        ('real-time factor', _number(recent.real_time_factor, 3)),
        ('tokens per pass', _number(engine.tokens_per_pass, 2) if engine else ''),
        ('speculative decoding', ('on' if engine.speculative else 'off') if engine else ''),
        ('accepted tokens per pass', _number(engine.accepted_per_pass, 2) if engine else ''),
        ('latency p50 (s)', _number(float(p50), 3)),
        ('latency p95 (s)', _number(float(p95), 3)),
        ('utterances', str(now.utterances)),
        ('discarded words', str(stats.discarded_words)),
        ('watchdog interventions', str(stats.watchdog)),
        ('failures of the recogniser', str(stats.failures)),
        ('memory (MB)', _number(_resident_mb(), 1)),
        ('link', now.link.state if now.link is not None else ''),
        ('waits for the server (s)',
         _number(now.link.waiting_s, 1) if now.link is not None else ''),
    ]


def _undelivered_s(health: Health) -> float:
    return health.link.dropped_s if health.link is not None else 0.0


def _number(value: float, digits: int) -> str:
    return '' if math.isnan(value) else f'{value:.{digits}f}'


def _resident_mb() -> float:
    """Return the memory of this process that is in RAM."""
    pages = int(Path('/proc/self/statm').read_text(encoding='ascii').split()[1])
    return pages * resource.getpagesize() / 2 ** 20
