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
The one worker thread of the node: audio out of a bounded queue, through a stream, into events.

Everybody else only puts blocks into the queue. When the engine cannot keep up, the older half of
what waits is dropped and counted, so that the node never stays behind. No exception ends the node:
a stream that fails is abandoned, what it has published stays, and another one is opened. Only when
one after the other fails, the worker gives up and says so: then the engine is to be loaded anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
import logging
import threading
import time
from typing import NamedTuple

from voxtral_ros.audio.block import AudioBlock
from voxtral_ros.audio.echo import EchoCanceller
from voxtral_ros.node.audio_queue import AudioQueue, Items, Progress
from voxtral_ros.node.intake import Intake, no_audio, OnAudio
from voxtral_ros.node.stamps import Origin
from voxtral_ros.node.stats import StampCounter, WorkerStats
from voxtral_ros.recognizer.events import Event, SpeechActivity, Transcript, Turn, TurnKind
from voxtral_ros.recognizer.interface import SpeechEngine, SpeechStream
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.phrases import NO_PHRASES, PhraseList
from voxtral_ros.recognizer.stuck_timer import StuckTimer

_LOGGER = logging.getLogger(__name__)
_SHORT_LIFE = 25  # tokens, 2 s: a stream that fails sooner did not help
_MOST_SHORT_LIVES = 3  # in a row, then the engine itself is at fault
_TRACEBACK_EVERY_S = 10.0
_UNSTAMPED_S = 0.3  # by which audio may be late on its way
_LAST_FLUSH_S = 7.0  # what the last flush may take: a server has 5 s, and is then disconnected


class _Job(NamedTuple):
    """What the thread is to do next, in this order."""

    reset: bool = False
    torn: bool = False  # audio before the block was dropped
    items: Items = ()
    flush: bool = False
    stop: bool = False
    updated: bool = False  # a server has written something


class Worker:
    """Owns one stream of an engine and the thread that advances it."""

    def __init__(self, engine: SpeechEngine, delay_ms: float, options: StreamOptions,
                 publish: Callable[[list[Event], Origin], None], *, queue_s: float = 30.0,
                 max_gap_s: float = 2.0, n_utterances: int = 0,
                 phrases: PhraseList | None = None,
                 canceller: EchoCanceller | None = None,
                 on_audio: OnAudio = no_audio) -> None:
        """
        Start the thread.

        :param publish: called from the thread with new events, and when time has passed
        :param queue_s: audio that may wait
        :param max_gap_s: longer gaps end the utterance, also one that has no end yet
        :param n_utterances: of earlier workers: ids go on from there
        :param phrases: to expect; None: none
        :param canceller: that the audio goes through; None: none
        :param on_audio: as of Intake
        """
        self.stats = WorkerStats()
        self.n_utterances = n_utterances
        self.broken = ''  # why the worker has given up
        self._engine, self._delay_ms, self._options = engine, delay_ms, options
        self._phrases = self._expected = phrases or NO_PHRASES  # the latter by the stream
        self._publish_events = publish
        self._canceller, self._on_audio = canceller, on_audio
        self._utterance_ids = count(n_utterances + 1)
        self._queue_s, self._max_gap_s = queue_s, max_gap_s
        # Stamps will tell how long a pause was; where there are none, it is one when it is long.
        self._idle_s = max_gap_s + 1.0
        self._stamp_counter = StampCounter(self.stats)
        self._queue = AudioQueue()
        self._last_audio_s = 0.0  # when some was processed
        self._reset = self._stop = self._torn = self._updated = False
        self._deadline_s = 0.0
        self._condition = threading.Condition()
        self._unfinished = False  # audio was processed since the last flush
        self._open: Transcript | None = None  # the last one published, unless it was final
        self._turn: Turn | None = None  # the last one published, unless it was the end
        self._speaking = False
        self._short_lives = 0
        self._traceback_s = -_TRACEBACK_EVERY_S
        self._busy_since_s: float | None = None
        self._stuck = StuckTimer()
        self._given_up = False
        self._stream: SpeechStream | None = None
        self._begin_stream()
        self._thread = threading.Thread(target=self._run, name='recognizer', daemon=True)
        self._thread.start()

    # ---- for other threads ----

    def put(self, block: AudioBlock, received_ns: int) -> None:
        """Queue a block; when too much waits, drop the older half."""
        self.put_all([(block, received_ns)])

    def put_all(self, items: list[tuple[AudioBlock, int]]) -> None:
        """Queue blocks with the times at which they were received, ns, as `put` does."""
        with self._condition:
            self._queue.put(items)
            if self._queue.waiting_s > self._queue_s:
                # Not block by block: the words between would make no sense.
                self._drop(self._queue_s / 2)
            self._condition.notify()

    def flush(self) -> None:
        """End the open utterance after what is queued now."""
        with self._condition:
            self._queue.put_flush()
            self._condition.notify()

    def after_queued(self, callback: Callable[[Progress], None]) -> None:
        """Call back, from the thread, when what is queued now has been processed."""
        with self._condition:
            self._queue.call_here(callback)
            self._condition.notify()

    def tune(self, options: StreamOptions) -> None:
        """Take over other options, with the next audio."""
        with self._condition:
            self._options = options

    def set_phrases(self, phrases: PhraseList) -> None:
        """Expect other phrases, from the next utterance on."""
        with self._condition:
            self._phrases = phrases

    def wake(self) -> None:
        """Poll the stream although no audio came: a server has written something."""
        with self._condition:
            self._updated = True
            self._condition.notify()

    def reset(self) -> None:
        """Forget everything so far; the open utterance is published as it is."""
        with self._condition:
            self._reset = True
            self._queue.clear()
            self._condition.notify()

    @property
    def waiting_s(self) -> float:
        return self._queue.waiting_s

    def stuck_s(self) -> float:
        """
        Return for how long the present step has not come back, s; 0 while none is under way.

        To be asked about once a second.
        """
        stream, begun_s = self._stream, self._busy_since_s
        return self._stuck.stuck_s(None if begun_s is None else (
            begun_s, stream.stats.tokens if stream is not None else 0))

    def give_up(self) -> None:
        """End the open utterance as it stands, from another thread: this one does not return."""
        self._end_utterance()
        self._given_up = True  # should it return after all, it has nothing to say any more

    @property
    def quiet(self) -> bool:
        """Whether nobody speaks, or seems to, and nothing is left to be published."""
        stream = self._stream
        return not (self._speaking or self._open or self._turn
                    or (stream is not None and stream.stats.is_alert))

    def stop(self, patience_s: float = 10.0) -> bool:
        """
        Finish the open utterance, publish it, and end the thread; return whether it has ended.

        :param patience_s: audio that still waits after this time is dropped
        """
        with self._condition:
            self._stop = True
            self._deadline_s = time.monotonic() + patience_s
            self._condition.notify()
        self._thread.join(patience_s + _LAST_FLUSH_S)
        return not self._thread.is_alive()

    # ---- the thread ----

    def _run(self) -> None:
        while not self.broken:
            job = self._next()
            begin = time.perf_counter()
            self._busy_since_s = time.monotonic()
            try:
                self._do(job)
            except Exception as error:  # the node goes on, whatever it is
                self._recover(error)
            self._busy_since_s = None
            self._count()
            self.stats.busy_s += time.perf_counter() - begin
            if job.stop:
                break
        self._end_stream()

    def _next(self) -> _Job:
        """Wait for something to do; audio that stops coming ends its utterance, too."""
        queue = self._queue
        with self._condition:
            if not self._condition.wait_for(
                    lambda: (queue or queue.is_due or self._reset or self._stop
                             or self._updated), self._patience_s()):
                _LOGGER.debug('no audio for too long: the utterance ends')
                return _Job(flush=True)
            if self._stop and time.monotonic() > self._deadline_s:
                self._drop(0.0, keep=0)
            items = queue.take()
            flush = not items and queue.take_flush()
            job = _Job(self._reset, self._torn, items, flush, self._stop and not queue,
                       self._updated)
            self._reset = self._torn = self._updated = False
            return job

    def _patience_s(self) -> float | None:
        """Return for how long audio may still stay away before its utterance is ended, s."""
        if not self._unfinished:
            return None
        stamped = self._stamp_counter.last_ns is not None
        patience_s = self._idle_s if stamped else self._options.endpoint.silence_s + _UNSTAMPED_S
        return max(0.0, self._last_audio_s + patience_s - time.monotonic())

    def _drop(self, until_s: float, keep: int = 1) -> None:
        """Drop the oldest audio until so much waits."""
        dropped_s = self._queue.drop(until_s, keep)
        self.stats.dropped_s += dropped_s
        self._torn = self._torn or dropped_s > 0

    def _call_back(self) -> None:
        """Call those who waited for what has been processed by now."""
        while True:
            with self._condition:
                callback = self._queue.take_callback()
            if callback is None:
                return
            link = self._engine.link
            try:
                origin = self._intake.origin
                callback(Progress(origin.processed_s, self._speaking,
                                  link is not None and link.waiting_s > 0, origin))
            except Exception:  # no reason to give up the stream
                _LOGGER.exception('a callback failed')

    def _do(self, job: _Job) -> None:
        if job.reset:
            self._restart()
        if self._stream is None:
            self._begin_stream()
        assert self._stream is not None
        if self._stream.options != self._options:
            self._stream.tune(self._options)
        if self._expected is not self._phrases:
            self._expected = self._phrases
            self._stream.set_phrases(self._expected)
        if job.torn:
            self._intake.tear()
        for item in job.items:
            self._unfinished = True
            self._intake.process(*item)
            self._last_audio_s = time.monotonic()
        if job.updated:
            self._intake.poll()
        if job.flush and self._unfinished:
            self._unfinished = False
            self._intake.flush()
        if job.stop:
            self._intake.drain()
            self._publish(self._stream.close())
        elif job.items or job.flush or job.updated:
            self._publish(self._stream.poll())
        self._call_back()

    def _recover(self, error: Exception) -> None:
        """Go on in another stream, or give up when that has not helped before."""
        self.stats.failures += 1
        now_s = time.monotonic()
        if now_s - self._traceback_s >= _TRACEBACK_EVERY_S:
            self._traceback_s = now_s
            _LOGGER.error('the recogniser failed; starting a new stream', exc_info=error)
        lived = self._stream is not None and self._stream.stats.tokens >= _SHORT_LIFE
        self._short_lives = 1 if lived else self._short_lives + 1
        if self._short_lives >= _MOST_SHORT_LIVES:
            self.broken = f'the recogniser failed {self._short_lives} times in a row: {error}'
            return
        try:
            self._restart()
        except Exception:  # the next block tries again
            _LOGGER.exception('no new stream could be opened')

    def _begin_stream(self) -> None:
        self._expected = self._phrases
        self._stream = self._engine.open(
            self._delay_ms, self._options, utterance_ids=self._utterance_ids,
            phrases=self._expected)
        self._intake = Intake(self._stream, self.stats, self._stamp_counter, self._max_gap_s,
                              self._canceller, self._on_audio)
        self._unfinished = False
        self._discarded_before = self.stats.discarded_words
        self._watchdog_before = self.stats.watchdog
        self._repetition_before = self.stats.repetition_loops
        self._skipped_before = self.stats.skipped_s

    def _restart(self) -> None:
        self._end_stream()
        self._begin_stream()

    def _end_stream(self) -> None:
        """Give the stream up; whatever it does, what was begun is ended."""
        stream, self._stream = self._stream, None
        if stream is not None:
            try:
                self._publish(stream.abandon())
            except Exception:
                _LOGGER.exception('the stream could not be given back')
        self._end_utterance()

    def _end_utterance(self) -> None:
        """Publish what is open as it stands."""
        if self._open is not None:
            self._publish([replace(self._open, is_final=True, delta='',
                                   revision=self._open.revision + 1)])
        if self._turn is not None:
            self._publish([replace(self._turn, kind=TurnKind.END)])
        if self._speaking:
            self._publish([SpeechActivity(False, self._intake.origin.processed_s)])

    def _count(self) -> None:
        """Add up what the streams count."""
        if self._stream is not None:
            stats = self._stream.stats
            self.stats.discarded_words = self._discarded_before + stats.discarded_words
            self.stats.watchdog = self._watchdog_before + stats.watchdog_penalties \
                + stats.watchdog_resets
            self.stats.repetition_loops = self._repetition_before + stats.repetition_loops
            self.stats.skipped_s = self._skipped_before + stats.skipped_s
            self.stats.idle_s = stats.idle_s

    # ---- events out ----

    def _publish(self, events: list[Event]) -> None:
        if self._given_up:
            return
        for event in events:
            if isinstance(event, SpeechActivity):
                self._speaking = event.active
            elif isinstance(event, Turn):
                self._turn = None if event.kind is TurnKind.END else event
                self.n_utterances = max(self.n_utterances, event.utterance_id)
            else:
                self._open = None if event.is_final else event
                self.n_utterances = max(self.n_utterances, event.utterance_id)
        try:
            self._publish_events(events, self._intake.origin)
        except Exception:  # no reason to give up the stream
            self.stats.failures += 1
            _LOGGER.exception('what was recognised could not be published')
