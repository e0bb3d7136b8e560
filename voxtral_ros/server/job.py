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
A job of the engine's thread: one generation, from its first audio to its usage.

Audio goes in from the event loop, updates come back by a call from the thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count, pairwise
import threading
import time
from typing import Any, TYPE_CHECKING

import numpy as np

from voxtral_ros.audio.block import Samples
from voxtral_ros.audio.resample import TARGET_RATE_HZ
from voxtral_ros.recognizer.events import Event, Transcript
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.phrases import PhraseList

if TYPE_CHECKING:
    from voxtral_ros.recognizer.engine import Engine
    from voxtral_ros.recognizer.stream import Stream
    from voxtral_ros.server.worker import Worker


@dataclass(frozen=True)
class Usage:
    """Tokens of a finished job."""

    prompt_tokens: int
    completion_tokens: int  # as many as if the model had been given all of the audio
    audio_s: float  # that was transcribed


@dataclass(frozen=True)
class Update:
    """What is new in a job; the last update of a job has its usage."""

    events: list[Event]
    # Of every new token, pads and those of skipped audio too: number of events before it
    token_marks: tuple[int, ...] = ()
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
                 delay_ms: float | None, options: StreamOptions, phrases: PhraseList) -> None:
        self._worker, self._on_update, self._delay_ms = worker, on_update, delay_ms
        self._options, self._phrases = options, phrases
        # Audio and when it came, and between it phrases for what comes after them
        self._blocks: deque[tuple[Samples, float] | PhraseList] = deque()
        self._n_waiting = 0
        self._came = 0.0  # when the latest audio came
        self._ending = self.is_cut = self.over = False
        self._stream: Stream | None = None
        self._next_worker: Worker | None = None
        self._new_phrases = False  # that the stream does not know
        self._settled = self._flushed = False
        self._n_tokens = 0
        self._n_all = 0  # that there are at the end; known when it is
        self._n_before = 0  # of them, of the streams before this one
        self._marks: list[int] = []  # of the tokens that were not sent yet
        self._n_fed = 0  # samples, into all streams of this job: a failure begins another one
        self._skipped_s = 0.0  # that is counted
        self._utterance_ids = count(1)

    # ---- for other threads ----

    @property
    def waiting_s(self) -> float:
        """Return the seconds of audio that wait, for the engine or for a slot of it."""
        stream = self._stream
        return self._n_waiting / TARGET_RATE_HZ + (stream.waiting_s if stream else 0.0)

    def feed(self, samples: Samples) -> None:
        """Queue audio: float32, 16 kHz, mono, finite."""
        with self._condition() as condition:
            self._came = time.monotonic()
            self._blocks.append((samples, self._came))
            self._n_waiting += len(samples)
            condition.notify()

    def set_phrases(self, phrases: PhraseList) -> None:
        """Expect other phrases in the audio that comes from now on; they must be prepared."""
        with self._condition() as condition:
            self._blocks.append(phrases)
            condition.notify()

    def finish(self) -> None:
        """End the job when all its audio is processed: the last update follows."""
        with self._condition() as condition:
            self._ending = True
            condition.notify()

    def cut(self) -> None:
        """End the job at once: what is recognised is sent, what waits is not processed."""
        with self._condition() as condition:
            self._blocks.clear()
            self._n_waiting = 0
            self.is_cut = self._ending = True
            condition.notify()

    def cancel(self) -> None:
        """End the job at once and send nothing any more."""
        self._on_update = _nobody
        self.cut()

    def move(self, worker: Worker) -> None:
        """Go on with another worker, as soon as the stream at this one is given up."""
        with self._condition() as condition:
            self._next_worker = worker
            condition.notify()

    @contextmanager
    def _condition(self) -> Iterator[threading.Condition]:
        """Hold the condition of the worker that has the job."""
        while True:
            worker = self._worker
            with worker.condition:
                if worker is self._worker:  # it may have changed while this thread waited
                    yield worker.condition
                    return

    # ---- for the worker's thread ----

    @property
    def has_work(self) -> bool:
        """Return whether there is anything to be done that is possible now."""
        return not self.over and (
            self.is_cut or (bool(self._blocks or self._ending) and not self.is_waiting))

    @property
    def is_waiting(self) -> bool:
        """Return whether somebody speaks, and there is no slot for it."""
        return self._stream is not None and self._stream.waiting_s > 0

    @property
    def is_idle(self) -> bool:
        """Return whether the network does nothing for it."""
        return self._stream is None or self._stream.idle

    @property
    def is_leaving(self) -> bool:
        """Return whether another worker is to go on with it, and can."""
        return self._next_worker is not None and self._stream is None and not self.over

    def leave(self) -> Worker:
        """Belong to the next worker, and return that; the caller holds the condition."""
        assert self._next_worker
        self._worker, self._next_worker = self._next_worker, None
        return self._worker

    def is_stalled(self, idle_slot_s: float) -> bool:
        """Return whether it has a slot and is not idle, but its audio has ceased to come."""
        return not (self.is_idle or self.is_waiting or self._settled or self._blocks
                    or self._ending) and time.monotonic() - self._came >= idle_slot_s

    def settle(self) -> None:
        """Bring out what was said, so that the stream becomes idle."""
        assert self._stream
        self._stream.flush()
        self._settled = True

    def take(self, n_samples: int) -> tuple[Samples, float, bool]:
        """
        Remove up to n samples; the caller holds the condition.

        While the job waits for a slot, its audio stays.

        :return: samples, when the newest of them came, whether they are the last of the job
        """
        taken: list[Samples] = []
        came = 0.0
        n_samples = 0 if self.is_waiting else n_samples
        while self._blocks and n_samples:
            item = self._blocks[0]
            if isinstance(item, PhraseList):
                if taken:
                    break  # that is still to be given to the stream before
                self._phrases, self._new_phrases = item, True
                self._blocks.popleft()
                continue
            block, came = item
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
        Give audio to the stream, which is opened for that; the network computes nothing.

        Without audio there is no stream, and an end costs nothing.
        """
        if self.is_cut or (self._stream is None and not len(samples)):
            return
        if self._stream is None:
            fed_s = self._n_fed / TARGET_RATE_HZ
            self._n_before = round(fed_s / engine.protocol.token_s)
            self._skipped_s = 0.0
            self._stream = engine.open(
                self._delay_ms, replace(self._options, on_token=self._count),
                utterance_ids=self._utterance_ids, start_s=fed_s,
                idle_slot_s=self._worker.idle_slot_s, phrases=self._phrases)
        elif self._new_phrases:
            self._stream.set_phrases(self._phrases)
        self._new_phrases = False
        if len(samples):
            self._n_fed += len(samples)
            self._settled = False
            self._stream.feed(samples, finite=True)
        if last and not self._flushed:  # as long as in vLLM, so that the tokens are as many
            self._flushed = True
            delay = self._delay(engine)
            tail = engine.protocol.tail(delay)
            self._n_all = engine.protocol.n_generated(self._n_fed + tail, delay)
            self._stream.flush(tail)

    def poll_stream(self, last: bool) -> list[Event]:
        """Return what is new."""
        stream = self._stream
        events: list[Event] = []
        if stream and not self.is_cut:
            self._count()  # those of audio that was skipped
            events += stream.poll()
        if stream and last:
            events += stream.abandon()  # after a flush there is nothing to compute any more
        return events

    def emit(self, engine: Engine, events: list[Event], last: bool,
             error: str | None = None) -> bool:
        """Send what is new; return whether there was any text."""
        if last and self._flushed and not (self.is_cut or error):
            self._count_to(self._n_all, len(events))
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

    def skipped_s(self) -> float:
        """Return the seconds of audio that the model was not given, since this was asked last."""
        before = self._skipped_s
        if self._stream:
            self._skipped_s = self._stream.stats.skipped_s
        return self._skipped_s - before

    # ---- tokens ----

    def _count(self, token: Any = None) -> None:
        """
        Count the tokens up to where the stream is.

        Those of skipped audio count like all others, so that who counts knows where the text is.
        """
        if stream := self._stream:
            n_tokens = self._n_before + stream.stats.audio_tokens
            if token and self._flushed:  # those about the silence after the audio
                n_tokens = min(max(n_tokens, self._n_tokens + 1), self._n_all)
            self._count_to(n_tokens, stream.n_events)

    def _count_to(self, n_tokens: int, n_events: int) -> None:
        self._marks += [n_events] * (n_tokens - self._n_tokens)
        self._n_tokens = max(self._n_tokens, n_tokens)

    def _delay(self, engine: Engine) -> int:
        return engine.protocol.delay_tokens(self._delay_ms)

    def _usage(self, engine: Engine) -> Usage:
        self.over = True
        prompt = engine.protocol.prompt_tokens(self._delay(engine)) if self._n_tokens else []
        return Usage(len(prompt), self._n_tokens, self._n_fed / TARGET_RATE_HZ)


def _nobody(_: Update) -> None:
    pass
