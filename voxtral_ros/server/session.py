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
A session: what a client has sent so far, and what its next event means because of that.

Audio and end marks stand in one queue, as in vLLM; a generation takes from it until it meets an
end mark. What starts a generation and what a bare commit means is the business of the dialect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
import logging
import secrets
import time
from typing import Any

import numpy as np

from voxtral_ros.audio.block import Samples
from voxtral_ros.audio.resample import Resampler, TARGET_RATE_HZ
from voxtral_ros.recognizer.model_name import matching_model
from voxtral_ros.recognizer.phrases import MAX_PHRASES, PhraseList
from voxtral_ros.server.audio_check import AudioCheck
from voxtral_ros.server.dialects.base import Dialect, Transcription
from voxtral_ros.server.dialects.openai import OpenAIDialect
from voxtral_ros.server.dialects.parse import load, parse
from voxtral_ros.server.dialects.vllm import ORIGINAL, VLLM
from voxtral_ros.server.events import (
    Append, Clear, ClientEvent, Commit, EventError, Message, SessionOptions, SessionUpdate)
from voxtral_ros.server.job import Job, Update
from voxtral_ros.server.pending import END, EndMark, Pending
from voxtral_ros.server.worker_pool import WorkerPool

_LOGGER = logging.getLogger(__name__)


class Session:
    """One client. Belongs to the event loop; waits for nothing but the tokens of phrases."""

    def __init__(self, pool: WorkerPool, models: Sequence[str], buffered_s: float,
                 send: Callable[[Message], None],
                 call_soon: Callable[..., object], dialect: str = '') -> None:
        """
        Greet the client, and give it the emptiest engine.

        :param models: names that a client may ask for; the empty one is always right
        :param buffered_s: audio that may wait before a generation is started
        :param send: takes the events for the client
        :param call_soon: loop.call_soon_threadsafe
        :param dialect: name of the one that the address of the client says; without one it is
            not known before the first session.update, and until then audio only waits
        """
        session_id = f'sess-{secrets.token_hex(16)}'
        openai = OpenAIDialect(session_id, models[0])
        self._dialects: dict[str, Dialect] = {
            known.name: known for known in (ORIGINAL, VLLM, openai)}
        self.dialect = self._dialects[dialect or ORIGINAL.name]
        self._validated = bool(dialect)
        self._pool, self._models, self._buffered_s = pool, models, buffered_s
        self.worker = pool.enter()  # computes for this client
        self.options = self._defaults(self.dialect)
        self._send, self._call_soon = send, call_soon
        self._queue = Pending()
        self._n_received = 0  # samples at 16 kHz
        self._resampler = Resampler(self.options.sample_rate)
        self._check = AudioCheck()
        self._job: Job | None = None
        self._transcription: Transcription | None = None
        self._ending = self._stopping = False
        # vLLM's greeting and OpenAI's in one: nobody has said yet which he expects. And how many
        # phrases may be listed: clients see that they can be at all.
        send({**openai.created(self._defaults(openai)),
              'id': session_id, 'created': int(time.time()), 'phrases': MAX_PHRASES})

    # ---- what the connection asks ----

    @property
    def waiting_s(self) -> float:
        """Return the seconds of audio that wait in this session."""
        return (self._job.waiting_s if self._job else 0.0) + self._queue.audio_s

    @property
    def must_wait(self) -> bool:
        """Return whether the engine has enough of this session to do for now."""
        return self._job is not None and self._waiting_work_s > self._buffered_s

    @property
    def _waiting_work_s(self) -> float:
        """Return the audio that waits, and what the generations of it take besides."""
        return self.waiting_s + self._queue.n_ends * self.worker.generation_s

    @property
    def busy(self) -> bool:
        """Return whether a generation is being ended: the client has every reason to wait."""
        return self._job is not None and (self._ending or self._job.waiting_s > 0)

    # ---- what comes in ----

    async def receive(self, text: str) -> None:
        """
        Take one text frame; what is wrong with it goes back to the client.

        The next one may come when this is over.
        """
        event: Message = {}
        try:
            event = load(text)
            meant = parse(event)
            if isinstance(meant, SessionUpdate) and meant.phrases:
                await self._prepare(meant.phrases)
            self._handle(meant)
        except EventError as error:
            self.complain(error.code, str(error), event.get('event_id'))
        except Exception:  # one client's event must not end anything
            _LOGGER.exception('an event could not be handled: %.200s', text)
            self.complain('processing_error', 'the server could not handle this event')

    def complain(self, code: str, message: str, event_id: Any = None) -> None:
        """Send an error event; `event_id` is what the client calls the event that was wrong."""
        known = event_id[:512] if isinstance(event_id, str) else None
        self._send(self.dialect.error(code, message, known))

    def finish(self) -> None:
        """End the audio here, because the server stops: what was said so far is transcribed."""
        self._stopping = True
        if self._job and not self._ending:
            self._end_job()
        elif self._queue.is_open:
            self._queue.append(END)

    def cut(self, unread: str = '') -> None:
        """
        End with what is recognised by now; tell the client what is not.

        :param unread: what waits outside of the session
        """
        n_generations = self._queue.n_ends + bool(self._job)
        waiting = f'{self.waiting_s:.1f} s of audio of {n_generations} generations'
        self.complain('server_stopping', f'the server is being stopped: {waiting}{unread} are not '
                      'transcribed')
        self._stopping = True
        self._queue.clear()
        if self._job:
            self._job.cut()

    def close(self) -> None:
        """Forget everything: the client has gone."""
        if self._job:
            self._job.cancel()
        self._job = None
        self._queue.clear()

    def _handle(self, event: ClientEvent) -> None:
        if self._stopping:
            raise EventError('server_stopping', 'the server is being stopped')
        if isinstance(event, SessionUpdate):
            self._update(event)
        elif isinstance(event, Append):
            self._append(event.samples)
        elif isinstance(event, Commit):
            self._commit(event.final)
        elif isinstance(event, Clear):
            self._clear()

    async def _prepare(self, phrases: PhraseList) -> None:
        """Find the tokens of phrases, so that neither the engine nor other clients wait."""
        try:
            await asyncio.wrap_future(self.worker.prepare(phrases))
        except ValueError as error:
            raise EventError('invalid_phrases', str(error)) from None

    def _defaults(self, dialect: Dialect) -> SessionOptions:
        return SessionOptions(**dialect.defaults, phrases=self.worker.phrases)

    def _update(self, update: SessionUpdate) -> None:
        if update.model and not matching_model(update.model, self._models):
            raise EventError('model_not_found', f'the model {update.model[:80]!r} does not exist: '
                             f'this server has {", ".join(self._models)}')
        if update.delay_ms is not None:
            try:
                self.worker.check_delay(update.delay_ms)
            except ValueError as error:
                raise EventError('invalid_event', str(error)) from None
        dialect = self._dialects[update.dialect or self.dialect.name]
        options = self.options
        if dialect.defaults != self.dialect.defaults:
            options = self._defaults(dialect)
        if update.default_phrases:
            options = replace(options, phrases=self.worker.phrases)
        options = replace(options, **{
            name: value for name in (
                'delay_ms', 'words', 'utterances', 'turns', 'silence_s', 'sample_rate', 'phrases')
            if (value := getattr(update, name)) is not None})
        if options.sample_rate != self._resampler.source_rate_hz:
            self._change_rate(options.sample_rate)
        if options.phrases != self.options.phrases and self._job and not self._ending:
            self._job.set_phrases(options.phrases)
        self.options, self.dialect, self._validated = options, dialect, True
        if answer := dialect.updated(update.reply, options):
            self._send(answer)
        if self._queue and dialect.append_starts and not self._job:
            self._start()

    def _change_rate(self, rate_hz: int) -> None:
        if self._validated and (self._job or self._queue):
            raise EventError('invalid_event', 'sample_rate cannot change while audio of the '
                             'old rate is being transcribed: wait for transcription.done')
        self._resampler = Resampler(rate_hz)
        # What came before the first update has the rate that this update says.
        waiting, self._queue, self._n_received = self._queue, Pending(), 0
        while waiting:
            samples = waiting.popleft()
            assert isinstance(samples, np.ndarray)
            self._put(self._resampler.process(samples))

    def _append(self, samples: Samples) -> None:
        seconds = len(samples) / self._resampler.source_rate_hz
        if not self._job and self.waiting_s + seconds > self._buffered_s:
            self.worker.metrics.dropped_seconds.inc(seconds)
            raise EventError('buffer_full', f'more than {self._buffered_s:g} s of audio wait for '
                             'a commit; this append was dropped')
        if doubt := self._check.look(samples, self._resampler.source_rate_hz):
            _LOGGER.warning('a client sends what cannot be audio: %s', doubt)
            self.complain('implausible_audio', doubt)
        self._put(self._resampler.process(samples))
        if self._validated and self.dialect.append_starts and not self._job:
            self._start()

    def _commit(self, final: bool | None) -> None:
        if not self._validated:
            raise EventError('model_not_validated', 'commit before session.update: send '
                             '{"type": "session.update"} first')
        if final is None:
            final = self.dialect.bare_commit_ends
        if final and self.dialect.empty_commit_is_wrong and not self._has_open_audio:
            raise EventError('input_audio_buffer_commit_empty', 'there is nothing to commit: no '
                             'audio has come since the last commit')
        # In vLLM a final commit starts nothing, and the end mark waits for the next bare one.
        if not self._job and (not final or self.dialect.append_starts):
            self._start()
        if final:
            if not self._job and self._queue.n_ends * self.worker.generation_s > self._buffered_s:
                raise EventError('buffer_full', f'{self._queue.n_ends} commits with "final" wait '
                                 'for one without; this one was dropped')
            rest = self._resampler.process(np.zeros(0, np.float32), last=True)
            if len(rest):
                self._put(rest)
            self._put(END)

    @property
    def _has_open_audio(self) -> bool:
        """Return whether audio has come that no commit has ended."""
        if self._job and not self._ending:
            return True
        return self._queue.is_open

    def _clear(self) -> None:
        self.close()
        self._resampler.reset()
        self._ending = False
        if answer := self.dialect.cleared():
            self._send(answer)

    # ---- generations ----

    def _put(self, item: Samples | EndMark) -> None:
        if isinstance(item, np.ndarray):
            self._n_received += len(item)
        if self._job and not self._ending:
            self._feed(item)
        else:
            self._queue.append(item)

    def _feed(self, item: Samples | EndMark) -> None:
        assert self._job
        if isinstance(item, np.ndarray):
            self._job.feed(item)
            return
        assert self._transcription
        if answer := self._transcription.committed():
            self._send(answer)
        self._end_job()

    def _end_job(self) -> None:
        assert self._job
        self._ending = True
        self._job.finish()

    def _start(self) -> None:
        """Start a generation over what is queued, up to the first end mark."""
        options = self.options
        self.worker = self._pool.next_worker(self.worker)
        self._transcription = self.dialect.transcription(
            options, self._n_received / TARGET_RATE_HZ - self._queue.audio_s)

        def on_update(update: Update) -> None:
            self._call_soon(self._take_update, job, update)

        job = self._job = self.worker.open(on_update, options.delay_ms, options.of_stream(),
                                           options.phrases)
        self._ending = False
        while self._queue and not self._ending:
            self._feed(self._queue.popleft())

    def _flee(self, job: Job) -> None:
        """Let another engine go on with a generation, if its own fails again and again."""
        worker = self._pool.next_worker(self.worker)
        if worker is not self.worker:
            self.worker = worker
            worker.prepare(self.options.phrases).add_done_callback(lambda _: job.move(worker))

    def _take_update(self, job: Job, update: Update) -> None:
        """Send what is new; a job that was cleared has nothing to send any more."""
        if self._job is None or job is not self._job:
            return
        assert self._transcription
        for message in self._transcription.events(update):
            self._send(message)
        if not update.usage:
            if update.error:
                self._flee(job)
            return
        self._job = self._transcription = None
        self._ending = False
        if not self.dialect.keeps_late_audio:
            self._queue.clear()
        elif self._queue:
            self._start()
