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
The one worker thread of the node: sound out of a bounded queue, through a stream, into events.

Everybody else only puts blocks into the queue. When the engine cannot keep up, the oldest sound is
dropped and counted, so that the node never falls behind for ever. No exception ends the thread: a
stream that fails is abandoned, what it has told stays told, and another one is opened.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
import logging
import threading
import time
from typing import NamedTuple

import numpy as np

from voxtral_ros.audio.block import AudioBlock
from voxtral_ros.audio.gaps import Kind, Timeline
from voxtral_ros.audio.resample import Resampler, TARGET_RATE_HZ
from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.recognizer.events import Event, Transcript
from voxtral_ros.recognizer.stream import Stream, StreamOptions

_LOGGER = logging.getLogger(__name__)
_RETRY_S = 1.0


class Origin(NamedTuple):
    """Where sound came from: its frame, and the way from stream time to stamps."""

    frame_id: str
    stamp_ns: Callable[[float], int]


@dataclass
class WorkerStats:
    """Counters since the worker was started."""

    heard_s: float = 0.0
    dropped_s: float = 0.0
    gaps: int = 0
    jumps: int = 0
    bad_samples: int = 0
    failures: int = 0
    busy_s: float = 0.0


class StampMap:
    """Seconds of a stream to stamps in nanoseconds, by anchors that are passed on the way."""

    def __init__(self) -> None:
        self._anchors: deque[tuple[float, int]] = deque(maxlen=4096)

    def anchor(self, stream_s: float, stamp_ns: int) -> None:
        """Note that the sample at `stream_s` was captured at `stamp_ns`."""
        self._anchors.append((stream_s, stamp_ns))

    def __call__(self, stream_s: float) -> int:
        """Return the stamp of a moment, counted from the last anchor before it."""
        best = self._anchors[0] if self._anchors else (0.0, 0)
        for anchor in reversed(self._anchors):
            if anchor[0] <= stream_s + 1e-6:
                best = anchor
                break
        return best[1] + round((stream_s - best[0]) * 1e9)


class Worker:
    """Owns one stream of an engine and the thread that advances it."""

    def __init__(self, engine: Engine, delay_ms: float, options: StreamOptions,
                 tell: Callable[[list[Event], Origin], None], *, queue_s: float = 30.0,
                 max_gap_s: float = 2.0, n_utterances: int = 0) -> None:
        """
        Start the thread.

        :param tell: called from the thread with new events
        :param queue_s: sound that may wait
        :param n_utterances: told by earlier workers: ids go on from there
        """
        self.stats = WorkerStats()
        self.n_utterances = n_utterances
        self._engine, self._delay_ms, self._options, self._tell = engine, delay_ms, options, tell
        self._queue_s, self._max_gap_s = queue_s, max_gap_s
        self._blocks: deque[tuple[AudioBlock, int]] = deque()
        self._waiting_s = 0.0
        self._flush = self._reset = self._stop = False
        self._condition = threading.Condition()
        self._stream: Stream | None = None
        self._begin_stream()
        self._thread = threading.Thread(target=self._run, name='recognizer', daemon=True)
        self._thread.start()

    # ---- for other threads ----

    def put(self, block: AudioBlock, received_ns: int) -> None:
        """Queue a block; drop the oldest ones when too much waits."""
        with self._condition:
            self._blocks.append((block, received_ns))
            self._waiting_s += block.duration_ns / 1e9
            while self._waiting_s > self._queue_s and len(self._blocks) > 1:
                old, _ = self._blocks.popleft()
                self._waiting_s -= old.duration_ns / 1e9
                self.stats.dropped_s += old.duration_ns / 1e9
            self._condition.notify()

    def flush(self) -> None:
        """End the open utterance after what is queued now."""
        with self._condition:
            self._flush = True
            self._condition.notify()

    def reset(self) -> None:
        """Forget everything heard so far; the open utterance is told as it is."""
        with self._condition:
            self._reset = True
            self._blocks.clear()
            self._waiting_s = 0.0
            self._condition.notify()

    @property
    def waiting_s(self) -> float:
        return self._waiting_s

    def stop(self, timeout_s: float = 10.0) -> None:
        """Finish the open utterance, tell it, and end the thread."""
        with self._condition:
            self._stop = True
            self._condition.notify()
        self._thread.join(timeout_s)

    # ---- the thread ----

    def _begin_stream(self) -> None:
        self._stream = self._engine.open(self._delay_ms, self._options)
        self._first_id = self.n_utterances  # a stream counts its own utterances from 1
        self._timeline: Timeline | None = None
        self._resampler: Resampler | None = None
        self._fed = 0  # samples at 16 kHz
        self._stamps = StampMap()
        self._frame_id = ''

    def _run(self) -> None:
        while True:
            with self._condition:
                while not (self._blocks or self._flush or self._reset or self._stop):
                    self._condition.wait()
                item = self._blocks.popleft() if self._blocks else None
                if item:
                    self._waiting_s -= item[0].duration_ns / 1e9
                reset, self._reset = self._reset, False
                flush = self._flush and not self._blocks
                self._flush = self._flush and not flush
                stop = self._stop and not self._blocks
            begin = time.perf_counter()
            try:
                if reset:
                    self._restart()
                if item:
                    self._hear(*item)
                if flush and self._stream:
                    self._stream.flush()
                    self._tell_new(self._stream.poll())
                if stop and self._stream:
                    self._tell_new(self._stream.close())
            except Exception:  # a robot must not lose its ears
                self.stats.failures += 1
                _LOGGER.exception('the recogniser failed; starting a new stream')
                self._recover()
            self.stats.busy_s += time.perf_counter() - begin
            if stop:
                return

    def _recover(self) -> None:
        try:
            self._restart()
        except Exception:
            _LOGGER.exception('no new stream could be opened; trying again')
            time.sleep(_RETRY_S)

    def _restart(self) -> None:
        if self._stream:
            stream, self._stream = self._stream, None
            self._tell_new(stream.abandon())
        self._begin_stream()

    def _hear(self, block: AudioBlock, received_ns: int) -> None:
        if self._stream is None:
            self._begin_stream()
        assert self._stream is not None
        self.stats.heard_s += block.duration_ns / 1e9
        self.stats.bad_samples += block.n_bad
        if self._timeline is None or self._timeline.rate_hz != block.rate_hz:
            self._change_format(block.rate_hz)
        assert self._timeline is not None and self._resampler is not None
        place = self._timeline.place(len(block.samples), block.stamp_ns, received_ns)
        samples = block.samples
        stamp_ns = place.stamp_ns
        if place.kind is Kind.JUMP:
            self.stats.jumps += 1
            self._stream.flush()
        elif place.silence > 0:
            self.stats.gaps += 1
            samples = np.concatenate((np.zeros(place.silence, np.float32), samples))
            stamp_ns -= round(place.silence / block.rate_hz * 1e9)
        self._frame_id = block.frame_id or self._frame_id
        # The next sample out of the resampler is as old as what it still holds.
        self._stamps.anchor(self._fed / TARGET_RATE_HZ,
                            stamp_ns - round(self._resampler.delay_s * 1e9))
        self._feed(self._resampler.process(samples))
        self._tell_new(self._stream.poll())

    def _change_format(self, rate_hz: int) -> None:
        if self._resampler is not None:
            self._feed(self._resampler.process(np.zeros(0, np.float32), last=True))
        self._resampler = Resampler(rate_hz)
        self._timeline = Timeline(rate_hz, max_gap_s=self._max_gap_s)

    def _feed(self, samples: np.ndarray) -> None:
        assert self._stream is not None
        self._stream.feed(samples)
        self._fed += len(samples)

    def _tell_new(self, events: list[Event]) -> None:
        told: list[Event] = []
        for event in events:
            if isinstance(event, Transcript):
                event = replace(event, utterance_id=self._first_id + event.utterance_id)
                self.n_utterances = max(self.n_utterances, event.utterance_id)
            told.append(event)
        if told:
            self._tell(told, Origin(self._frame_id, self._stamps))


def latest(events: list[Event]) -> list[Event]:
    """Return the events without partial transcripts that a later one of them overtakes."""
    kept: list[Event] = []
    for event in events:
        last = kept[-1] if kept else None
        if isinstance(event, Transcript) and isinstance(last, Transcript) \
                and last.utterance_id == event.utterance_id:
            kept[-1] = replace(event, delta=last.delta + event.delta)
        else:
            kept.append(event)
    return kept
