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
The thread of an engine in a server, and what the event loop sees of it.

In a round every job with audio waiting is given at most a slice of it, then the engine advances
all of them together: a job with a minute of backlog delays the others by one slice. Jobs in which
nobody speaks take no time of it, and after a while no slot. No exception ends the thread; what was
recognised before a failure is sent. An engine that fails again and again is tried once in a while
when nobody uses it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
import logging
import math
import threading
import time
from typing import TYPE_CHECKING

from voxtral_ros.audio.block import Samples
from voxtral_ros.audio.resample import TARGET_RATE_HZ
from voxtral_ros.recognizer.idle import IdleOptions
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.phrases import NO_PHRASES, PhraseList
from voxtral_ros.recognizer.stuck_timer import StuckTimer
from voxtral_ros.recognizer.turns import TurnOptions
from voxtral_ros.server.job import Job, Update
from voxtral_ros.server.metrics import EngineMetrics, Metrics

if TYPE_CHECKING:
    from voxtral_ros.recognizer.admission import Admission
    from voxtral_ros.recognizer.engine import Engine

_LOGGER = logging.getLogger(__name__)
_MAX_FAILURES = 3
_STOP_S = 5.0  # for the round that is being computed
_LOOK_AGAIN_S = 0.1  # for a slot, while somebody waits for one
_TRY_AGAIN_S = 30.0  # an engine that fails
_IDLE = IdleOptions()
_NO_TURNS = StreamOptions(turns=TurnOptions(eager_s=0))
_Batch = list[tuple[Job, Samples, float, bool]]  # audio, when it came, whether it is the last


class Worker:
    """Owns an engine and the thread in which it computes for all jobs."""

    def __init__(self, engine: Engine, metrics: Metrics, idle_slot_s: float = 10.0,
                 idle: IdleOptions = _IDLE, phrases: PhraseList = NO_PHRASES,
                 name: str = 'engine') -> None:
        """
        Begin.

        :param metrics: of the server
        :param idle_slot_s: a job that is idle for so long gives its slot to who needs one
        :param phrases: for clients that list none of their own
        :param name: of the engine, for people
        :raises ValueError: the model cannot expect phrases
        """
        self.name = name
        self.idle_slot_s, self._idle, self.phrases = idle_slot_s, idle, phrases
        self.n_talking = 0  # jobs that the engine has computed for of late
        self.condition = threading.Condition()
        self._engine, self.metrics = engine, metrics
        self._own_metrics = EngineMetrics(metrics, name)
        self._slice = engine.max_chunk_tokens * engine.protocol.samples_per_token
        self._jobs: list[Job] = []
        self._stopping = False
        self._n_failures = 0  # rounds in a row
        self._busy_since_s: float | None = None
        self._stuck = StuckTimer()
        self.stuck_s = 0.0  # for which the present step has not come back, see watch
        self._stuck_after_s = math.inf
        if phrases:
            engine.prepare_phrases(phrases)
        # One thread for all: phrases are found in Python, whose lock the engine needs as well.
        self._preparer = ThreadPoolExecutor(1, 'phrases')
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def check_delay(self, delay_ms: float) -> None:
        """Raise ValueError for a delay that the model does not have."""
        self._engine.protocol.delay_tokens(delay_ms)

    def open(self, on_update: Callable[[Update], None],  # noqa: A003
             delay_ms: float | None = None, options: StreamOptions = _NO_TURNS,
             phrases: PhraseList = NO_PHRASES) -> Job:
        """
        Begin a job.

        :param on_update: called from the worker's thread with every update; must not block
        :param options: of its stream; when it is idle, the worker knows
        :param phrases: to expect; they must be prepared
        """
        job = Job(self, on_update, delay_ms, replace(options, idle=self._idle), phrases)
        with self.condition:
            self._jobs.append(job)
        return job

    def prepare(self, phrases: PhraseList) -> Future[None]:
        """Find the tokens of phrases, without holding up the engine; ValueError: impossible."""
        return self._preparer.submit(self._engine.prepare_phrases, phrases)

    @property
    def n_slots(self) -> int:
        """Return for how many jobs the engine can compute at the same time."""
        return self._engine.slots.n_slots

    @property
    def admission(self) -> Admission:
        """Return what predicts whether there is time for another job; for any thread."""
        return self._engine.admission

    @property
    def is_failing(self) -> bool:
        """Return whether the last rounds failed, or one does not come back."""
        return self._n_failures >= _MAX_FAILURES or self.stuck_s >= self._stuck_after_s

    def watch(self, stuck_after_s: float) -> float:
        """
        Return for how long the present step has not come back, s; to be called once a second.

        :param stuck_after_s: an engine that has been stuck for so long is failing
        """
        was_failing, self._stuck_after_s = self.is_failing, stuck_after_s
        begun_s = self._busy_since_s
        self.stuck_s = self._stuck.stuck_s(
            None if begun_s is None else (begun_s, self._engine.n_done))
        if self.is_failing and not was_failing:
            _LOGGER.error('a step of %s has not come back for %.0f s: does its GPU hang?',
                          self.name, self.stuck_s)
        return self.stuck_s

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
        self._preparer.shutdown(wait=False, cancel_futures=True)
        self._thread.join(_STOP_S)
        if self.is_alive:
            _LOGGER.error('%s computes for more than %g s: it is left alone', self.name, _STOP_S)

    @property
    def is_alive(self) -> bool:
        """Return whether the thread still runs."""
        return self._thread.is_alive()

    # ---- the thread ----

    def _run(self) -> None:
        while True:
            is_due = False
            with self.condition:
                while not self._stopping and not is_due:
                    if (leaving := self._leaving()) or (batch := self._next_batch()):
                        break
                    is_due = self._wait()
                if self._stopping:
                    return
            self._busy_since_s = time.monotonic()
            if leaving:
                self._hand_over(leaving)
            elif is_due:
                self._try_again()
            else:
                self._compute(batch)
            self._busy_since_s = None

    def _compute(self, batch: _Batch) -> None:
        """Do a round, and count what it takes."""
        slots = self._engine.slots
        n_samples = sum(len(samples) for _, samples, _, _ in batch)
        self._own_metrics.processed(n_samples / TARGET_RATE_HZ)
        begin = time.perf_counter()
        try:
            self._round(batch)
        except Exception:  # the server goes on, whatever it is
            _LOGGER.exception('a round of %s went wrong', self.name)
        self._own_metrics.computed(time.perf_counter() - begin)
        with self.condition:
            self._jobs = [job for job in self._jobs if not job.over]
        self.n_talking = slots.n_busy
        self._own_metrics.slots(slots.n_busy, slots.n_waiting, slots.n_waits)

    def _wait(self) -> bool:
        """Wait for something to do; return whether a failing engine is to be tried instead."""
        if self._engine.slots.n_waiting:
            self.condition.wait(_LOOK_AGAIN_S)
            return False
        return not self.condition.wait(_TRY_AGAIN_S if self.is_failing else None)

    def _leaving(self) -> list[Job]:
        """Remove and return the jobs with which another worker is to go on."""
        leaving = [job for job in self._jobs if job.is_leaving]
        if leaving:
            self._jobs = [job for job in self._jobs if job not in leaving]
        return leaving

    def _hand_over(self, jobs: list[Job]) -> None:
        for job in jobs:
            with self.condition:
                worker = job.leave()
            with worker.condition:
                worker._jobs.append(job)
                worker.condition.notify()
        _LOGGER.warning('%s fails: others go on with %d of its sessions', self.name, len(jobs))

    def _try_again(self) -> None:
        """Compute a second of silence: without clients, who else would notice that all is well."""
        try:
            self._engine.warm_up()
        except Exception as error:
            _LOGGER.warning('%s still fails: %s', self.name, error)
        else:
            self._n_failures = 0
            _LOGGER.warning('%s is well again', self.name)

    def _next_batch(self) -> _Batch:
        """Return what is to be done in the next round; who waits for a slot may be given one."""
        jobs = [job for job in self._jobs if job.has_work]
        waiting = [job for job in self._jobs if job.is_waiting and not job.is_cut]
        if waiting:
            for job in self._jobs:
                if job.is_stalled(self.idle_slot_s):
                    job.settle()
                    jobs.append(job)
            if jobs or self._engine.slots.can_serve:
                jobs += waiting
        return [(job, *job.take(self._slice)) for job in jobs]

    def _round(self, batch: _Batch) -> None:
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
        is_well = False  # nor is it known of an engine that has nothing to do
        try:
            while self._engine.step():
                is_well = True
        except Exception as error:
            # A step that fails takes all streams along that had audio waiting.
            self._failed([(job, last) for job, _, last in fed if not job.is_idle], error)
            fed = [item for item in fed if item[0].is_idle and not item[0].over]
            is_well = False
        for job, came, last in fed:
            try:
                # What waits for a slot comes to its end later.
                last = last and not job.is_waiting
                events = job.poll_stream(last)
                if is_well:
                    self._n_failures = 0  # before anybody reads that all is well
                has_text = job.emit(self._engine, events, last)
            except Exception as error:
                self._failed([(job, last)], error)
                continue
            self.metrics.skipped_seconds.inc(job.skipped_s())
            if has_text and came:
                self.metrics.delta_latency.observe(time.monotonic() - came)

    def _failed(self, jobs: list[tuple[Job, bool]], error: Exception) -> None:
        _LOGGER.error('%s failed for %d sessions', self.name, len(jobs), exc_info=error)
        self.metrics.failures.inc()
        self._n_failures += 1
        for job, last in jobs:
            try:
                job.fail(self._engine, last, error)
            except Exception:
                _LOGGER.exception('a stream could not be given up')
                job.over = True
