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
How the node is, once a second on /diagnostics, from a thread of its own.

So it is published while a model is loaded, too, which keeps the executor of the node. The node
fills in a `Health`; what has changed over the last ten seconds makes the `Recent`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
import math
from pathlib import Path
import resource
import threading
import traceback

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import numpy as np
from rclpy.node import Node

from voxtral_ros.audio.echo import EchoStats
from voxtral_ros.audio.level import SILENCE_DBFS
from voxtral_ros.node.echo import EchoHealth
from voxtral_ros.node.health import Health, judge, Recent
from voxtral_ros.node.qos import no_events

PERIOD_S = 1.0
_WINDOW = 10  # periods that count as recent
_RATE_WINDOW_S = 5.0  # a rate over less says nothing


class Heartbeat:
    """Calls something once a second, whatever the executor is busy with."""

    def __init__(self, node: Node, beat: Callable[[], None]) -> None:
        """Start the thread; what `beat` raises is logged."""
        self._node, self._beat = node, beat
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name='heartbeat', daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closed.wait(PERIOD_S):
            try:
                self._beat()
            except Exception:
                if not self._closed.is_set():
                    self._node.get_logger().error(
                        f'diagnostics failed:\n{traceback.format_exc()}',
                        throttle_duration_sec=60.0)

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._thread.join()


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
            if now.level_dbfs > SILENCE_DBFS:
                self._loud_s = now.time_s
        else:
            self._loud_s = now.time_s
        self._window.append(now)
        then = self._window[0]
        # The window may begin before the audio did.
        first = next((health for health in self._window if health.received_s), now)
        seconds = now.time_s - first.time_s - (now.stats.paused_s - first.stats.paused_s)
        processed_s = now.stats.processed_s - then.stats.processed_s
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
            undelivered_s=_undelivered_s(now) - _undelivered_s(then),
            repeated=_ratio(now.stats.repeated - then.stats.repeated,
                            now.stats.stamped - then.stats.stamped),
            stamp_rate=_ratio(now.stats.between_stamps_s - then.stats.between_stamps_s,
                              now.stats.stamps_s - then.stats.stamps_s),
            repetition_loops=now.stats.repetition_loops - then.stats.repetition_loops,
            echo_late_s=_echo_late_s(now) - _echo_late_s(then))


def _values(now: Health, recent: Recent) -> list[tuple[str, str]]:
    """Return what is shown, units in the keys, empty where unknown."""
    stats, engine, capture = now.stats, now.engine, now.capture
    p50, p95 = np.percentile(now.latencies_s, (50, 95)) if now.latencies_s else (math.nan,) * 2
    return [
        ('state', now.state),
        ('model', now.model),
        ('backend', now.backend),
        ('source', now.source),
        ('format', now.audio_format and now.audio_format + (' (assumed)' if now.assumed else '')),
        ('phrases', str(now.phrases)),
        ('awake', str(now.awake)),
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
        ('repeated stamps', str(stats.repeated)),
        ('bad samples', str(stats.bad_samples)),
        ('real-time factor', _number(recent.real_time_factor, 3)),
        ('idle for (s)', _number(stats.idle_s, 0)),
        ('audio given to the model (%)', _number(
            100 * _ratio(stats.processed_s - stats.skipped_s, stats.processed_s), 1)),
        ('tokens per pass', _number(engine.tokens_per_pass, 2) if engine else ''),
        ('speculative decoding', ('on' if engine.speculative else 'off') if engine else ''),
        ('accepted tokens per pass', _number(engine.accepted_per_pass, 2) if engine else ''),
        ('latency p50 (s)', _number(float(p50), 3)),
        ('latency p95 (s)', _number(float(p95), 3)),
        ('utterances', str(now.utterances)),
        ('discarded words', str(stats.discarded_words)),
        ('watchdog interventions', str(stats.watchdog)),
        ('repetition loops', str(stats.repetition_loops)),
        ('failures of the recogniser', str(stats.failures)),
        ('memory (MB)', _number(_resident_mb(), 1)),
        ('link', now.link.state if now.link is not None else ''),
        ('server', now.link.url if now.link is not None else ''),
        ('waits for the server (s)',
         _number(now.link.waiting_s, 1) if now.link is not None else ''),
        ('texts ended early by the server',
         str(now.link.early_ends) if now.link is not None else ''),
        *_echo_values(now.echo),
        ('utterances kept', str(capture.n_kept) if capture is not None else ''),
        ('utterances not kept', str(capture.n_lost) if capture is not None else ''),
        ('size of capture.folder (MB)',
         _number(capture.n_bytes / 1e6, 1) if capture is not None else ''),
    ]


def _echo_values(echo: EchoHealth | None) -> list[tuple[str, str]]:
    stats = echo.stats if echo is not None else EchoStats(wait_s=math.nan, late_s=math.nan)
    return [
        ('echo reference', echo.reference if echo is not None else ''),
        ('echo delay (ms)', _number(stats.delay_ms, 0)),
        ('echo return loss enhancement (dB)', _number(stats.erle_db, 1)),
        ('without reference for (s)', _number(stats.missing_s, 1)),
        ('reference too late (s)', _number(stats.late_s, 2)),
        ('waits for the reference (s)', _number(stats.wait_s, 2)),
    ]


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


def _echo_late_s(health: Health) -> float:
    return health.echo.stats.late_s if health.echo is not None else 0.0


def _undelivered_s(health: Health) -> float:
    return health.link.dropped_s if health.link is not None else 0.0


def _number(value: float, digits: int) -> str:
    return '' if math.isnan(value) else f'{value:.{digits}f}'


def _resident_mb() -> float:
    """Return the memory of this process that is in RAM."""
    pages = int(Path('/proc/self/statm').read_text(encoding='ascii').split()[1])
    return pages * resource.getpagesize() / 2 ** 20
