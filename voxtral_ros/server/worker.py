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
The one engine thread of a server, and what the event loop sees of it.

A job is one generation: audio goes in from the event loop, updates come back by a call from the
thread. In a round every job with audio waiting is given at most a slice of it, then the engine
advances all of them together: a job with a minute of backlog delays the others by one slice.
No exception ends the thread; what was recognised before a failure is sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, pairwise
import logging
import threading
import time
from typing import Any, TYPE_CHECKING

import numpy as np

from voxtral_ros.audio.block import Samples
from voxtral_ros.audio.resample import TARGET_RATE_HZ
from voxtral_ros.recognizer.events import Event, Transcript
from voxtral_ros.recognizer.options import offline_options
from voxtral_ros.server.metrics import Metrics

if TYPE_CHECKING:
    from voxtral_ros.recognizer.engine import Engine
    from voxtral_ros.recognizer.stream import Stream

_LOGGER = logging.getLogger(__name__)
_MAX_FAILURES = 3
_STOP_S = 5.0  # for the round that is being computed


@dataclass(frozen=True)
class Usage:
    """Tokens of a finished job."""

    prompt_tokens: int
    completion_tokens: int
    audio_s: float  # that was transcribed


@dataclass(frozen=True)
class Update:
    """What is new in a job; the last update of a job has its usage."""

    events: list[Event]
    token_marks: tuple[int, ...] = ()  # of every new token, pads too: number of events before it
    usage: Usage | None = None
    error: str | None = None  # audio was lost; the job goes on unless there is a usage too

    @property
    def n_tokens(self) -> int:
        """Return how many tokens were generated since the last update."""
        return len(self.token_marks)

    def steps(self) -> Iterator[tuple[bool, list[Event]]]:
        """Yield the events in their order, token by token; whether it was a token."""
        marks = (*self.token_marks, len(self.events))
        yield False, self.events[:marks[0]]
        for start, stop in pairwise(marks):
            yield True, self.events[start:stop]


class Job:
    """One generation; its methods may be called from any thread and never wait for the engine."""

    def __init__(self, worker: Worker, on_update: Callable[[Update], None],
                 delay_ms: float | None) -> None:
        self._worker, self._on_update, self._delay_ms = worker, on_update, delay_ms
        self._blocks: deque[tuple[Samples, float]] = deque()  # audio, when it came
        self._n_waiting = 0
        self._ending = self.is_cut = self.over = False
        self._stream: Stream | None = None
        self._n_tokens = 0
        self._marks: list[int] = []  # of the tokens that were not sent yet
        self._fed_s = 0.0  # into all streams of this job: a failure begins another one
        self._utterance_ids = count(1)

    # ---- for other threads ----

    @property
    def waiting_s(self) -> float:
        """Return the seconds of audio that wait."""
        return self._n_waiting / TARGET_RATE_HZ

    def feed(self, samples: Samples) -> None:
        """Queue audio: float32, 16 kHz, mono, finite."""
        with self._worker.condition:
            self._blocks.append((samples, time.monotonic()))
            self._n_waiting += len(samples)
            self._worker.condition.notify()

    def finish(self) -> None:
        """End the job when all its audio is processed: the last update follows."""
        with self._worker.condition:
            self._ending = True
            self._worker.condition.notify()

    def cut(self) -> None:
        """End the job at once: what is recognised is sent, what waits is not processed."""
        with self._worker.condition:
            self._blocks.clear()
            self._n_waiting = 0
            self.is_cut = self._ending = True
            self._worker.condition.notify()

    def cancel(self) -> None:
        """End the job at once and send nothing any more."""
        self._on_update = _nobody
        self.cut()

    # ---- for the worker's thread ----

    @property
    def has_work(self) -> bool:
        return not self.over and bool(self._blocks or self._ending)

    def take(self, n_samples: int) -> tuple[Samples, float, bool]:
        """
        Remove up to n samples; the caller holds the condition.

        :return: samples, when the newest of them came, whether they are the last of the job
        """
        taken, came = [], 0.0
        while self._blocks and n_samples:
            block, came = self._blocks[0]
            taken.append(block[:n_samples])
            if len(block) <= n_samples:
                self._blocks.popleft()
            else:
                self._blocks[0] = block[n_samples:], came
            n_samples -= len(taken[-1])
        samples = np.concatenate(taken) if taken else np.zeros(0, np.float32)
        self._n_waiting -= len(samples)
        return samples, came, self._ending and not self._blocks

    def feed_stream(self, engine: Engine, samples: Samples, last: bool) -> None:
        """
        Give audio to the stream, which is opened for that; nothing is computed.

        Without audio there is no stream, and an end costs nothing.
        """
        if self.is_cut or (self._stream is None and not len(samples)):
            return
        if self._stream is None:
            self._stream = engine.open(
                self._delay_ms, offline_options(self._count),
                utterance_ids=self._utterance_ids, start_s=self._fed_s)
        self._fed_s += len(samples) / TARGET_RATE_HZ
        self._stream.feed(samples, finite=True)
        if last:  # as long as in vLLM, so that the tokens of a generation are as many
            delay = engine.protocol.delay_tokens(self._delay_ms)
            self._stream.flush(engine.protocol.tail(delay))

    def poll_stream(self, last: bool) -> list[Event]:
        """Return what is new."""
        stream = self._stream
        events: list[Event] = []
        if stream and not self.is_cut:
            events += stream.poll()
        if stream and last:
            events += stream.abandon()  # after a flush there is nothing to compute any more
        return events

    def emit(self, engine: Engine, events: list[Event], last: bool,
             error: str | None = None) -> bool:
        """Send what is new; return whether there was any text."""
        usage = self._usage(engine) if last else None
        marks, self._marks = tuple(self._marks), []
        if events or marks or usage or error:
            self._on_update(Update(events, marks, usage, error))
        if last:
            # What was computed with goes now, and not when the garbage collector finds the cycles.
            self._on_update, self._stream = _nobody, None
        return any(isinstance(event, Transcript) and event.delta for event in events)

    def fail(self, engine: Engine, last: bool, error: Exception) -> None:
        """Give the stream up; what it has recognised is sent, and the next audio opens another."""
        stream, self._stream = self._stream, None
        events = stream.abandon() if stream else []
        self.emit(engine, events, last, f'the recogniser failed and audio was lost: {error}')

    def _count(self, _: Any) -> None:
        self._n_tokens += 1
        self._marks.append(self._stream.n_events if self._stream else 0)

    def _usage(self, engine: Engine) -> Usage:
        self.over = True
        delay = engine.protocol.delay_tokens(self._delay_ms)
        prompt = engine.protocol.prompt_tokens(delay) if self._n_tokens else []
        return Usage(len(prompt), self._n_tokens, self._fed_s)


def _nobody(_: Update) -> None:
    pass


class Worker:
    """Owns an engine and the thread in which it computes for all jobs."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self.condition = threading.Condition()
        self._engine, self.metrics = engine, metrics
        self._slice = engine.max_chunk_tokens * engine.protocol.samples_per_token
        self._jobs: list[Job] = []
        self._stopping = False
        self._n_failures = 0  # rounds in a row
        self._thread = threading.Thread(target=self._run, name='engine', daemon=True)
        self._thread.start()

    def check_delay(self, delay_ms: float) -> None:
        """Raise ValueError for a delay that the model does not have."""
        self._engine.protocol.delay_tokens(delay_ms)

    def open(self, on_update: Callable[[Update], None],  # noqa: A003
             delay_ms: float | None = None) -> Job:
        """
        Begin a job.

        :param on_update: called from the worker's thread with every update; must not block
        """
        job = Job(self, on_update, delay_ms)
        with self.condition:
            self._jobs.append(job)
        return job

    @property
    def is_failing(self) -> bool:
        """Return whether the last rounds failed: the engine may need a new start."""
        return self._n_failures >= _MAX_FAILURES

    @property
    def waiting_s(self) -> float:
        """Return the seconds of audio that wait in all jobs."""
        with self.condition:
            return sum(job.waiting_s for job in self._jobs)

    @property
    def generation_s(self) -> float:
        """Return the seconds of silence that are computed for a generation besides its audio."""
        protocol = self._engine.protocol
        n_samples = protocol.left_pad + protocol.right_pad(0, protocol.delay_tokens())
        return n_samples / TARGET_RATE_HZ

    def stop(self) -> None:
        """End the thread after its round; jobs that are not over stay as they are."""
        with self.condition:
            self._stopping = True
            self.condition.notify()
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            _LOGGER.error('the recogniser computes for more than %g s: it is left alone', _STOP_S)

    # ---- the thread ----

    def _run(self) -> None:
        while True:
            with self.condition:
                while not self._stopping and not any(job.has_work for job in self._jobs):
                    self.condition.wait()
                if self._stopping:
                    return
                batch = [(job, *job.take(self._slice)) for job in self._jobs if job.has_work]
            n_samples = sum(len(samples) for _, samples, _, _ in batch)
            self.metrics.processed(n_samples / TARGET_RATE_HZ)
            begin = time.perf_counter()
            try:
                self._round(batch)
            except Exception:  # the server goes on, whatever it is
                _LOGGER.exception('a round of the engine went wrong')
            self.metrics.computed(time.perf_counter() - begin)
            with self.condition:
                self._jobs = [job for job in self._jobs if not job.over]

    def _round(self, batch: list[tuple[Job, Samples, float, bool]]) -> None:
        """Give every job its slice first, so that the same passes serve them all."""
        fed = []
        batch.sort(key=lambda item: not item[0].is_cut)  # they give slots back
        for job, samples, came, last in batch:
            try:
                if job.is_cut:
                    job.emit(self._engine, job.poll_stream(last=True), last=True)
                    continue
                job.feed_stream(self._engine, samples, last)
            except Exception as error:
                self._failed([(job, last)], error)
            else:
                fed.append((job, came, last))
        try:
            self._engine.process()
        except Exception as error:
            # A step that fails takes all streams along that had audio waiting.
            self._failed([(job, last) for job, _, last in fed], error)
            return
        for job, came, last in fed:
            try:
                events = job.poll_stream(last)
                self._n_failures = 0  # before anybody reads that all is well
                has_text = job.emit(self._engine, events, last)
            except Exception as error:
                self._failed([(job, last)], error)
                continue
            if has_text and came:
                self.metrics.delta_latency.observe(time.monotonic() - came)

    def _failed(self, jobs: list[tuple[Job, bool]], error: Exception) -> None:
        _LOGGER.error('the recogniser failed for %d sessions', len(jobs), exc_info=error)
        self.metrics.failures.inc()
        self._n_failures += 1
        for job, last in jobs:
            try:
                job.fail(self._engine, last, error)
            except Exception:
                _LOGGER.exception('a stream could not be given up')
                job.over = True
