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
The connection of a remote stream: sends segments one after the other, for as long as it takes.

It runs in a thread of its own. Whatever happens to the network or to the server, it connects
again, to the next server if there are several, and a segment whose text was not complete is sent
again. A server that ends a text before its audio is sent what is left as another generation.
"""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
import logging
import math
import random
import threading
import time
from typing import Any

from aiohttp import ClientSession

from voxtral_ros.client.segment import Segment
from voxtral_ros.client.servers import event, EXPECTED, LinkError, Opening, Remote, Servers, Socket
from voxtral_ros.recognizer.interface import LinkStatus
from voxtral_ros.recognizer.phrases import NO_PHRASES, PhraseList

_LOGGER = logging.getLogger(__name__)
_APPEND_BYTES = 16_000  # 500 ms
_FIRST_RETRY_S, _LAST_RETRY_S = 0.25, 10.0
_KEEPALIVE_S = 30.0
_MAX_REFUSALS = 3  # of one segment; then it is given up, so that the others get on
_HARMLESS = 'implausible_audio', 'invalid_phrases'  # the server goes on


class _ConnectAgain(Exception):
    """Another connection is wanted, although there is nothing wrong with this one."""


class Link:
    """Owns the thread; all methods may be called from another one."""

    def __init__(self, remote: Remote, outage_s: float, on_update: Callable[[], None],
                 phrases: PhraseList = NO_PHRASES) -> None:
        """
        Connect.

        :param outage_s: audio that is kept at most, s
        :param on_update: called from the thread when a segment has new text or is done
        :param phrases: that the server is to expect
        """
        self._remote, self._outage_s, self._on_update = remote, outage_s, on_update
        self._servers = Servers(remote)
        self._status = LinkStatus(since=time.monotonic(), url=self._servers.url)
        self._segments: deque[Segment] = deque()
        self._lock = threading.Lock()  # of the two above
        self._sending: Segment | None = None
        self._phrases = phrases
        self._sent_phrases = NO_PHRASES  # over this connection
        self._knows_phrases = False  # the server at its other end
        self._warned = False  # that it does not
        self._stopping = False
        self._refusals = 0  # of the first segment
        self._sent_end = False  # of the first segment
        self._n_done = 0  # over this connection
        self._accepted = False  # the server has the model
        self._warned_early_ends: set[str] = set()  # servers
        self._last_event_s = 0.0  # when the server last sent anything
        self._asked_s = math.inf  # when it was first sent audio after that
        self._loop = asyncio.new_event_loop()
        self._wake = asyncio.Event()
        self._task = self._loop.create_task(self._stay_connected())
        self._thread = threading.Thread(target=self._run, name='realtime link', daemon=True)
        self._thread.start()

    # ---- for the stream ----

    @property
    def status(self) -> LinkStatus:
        waiting_s = sum(segment.waiting_s for segment in list(self._segments))
        return replace(self._status, waiting_s=waiting_s)

    def add(self, segment: Segment) -> None:
        """Send a segment after those before it; it may still grow."""
        self._segments.append(segment)
        self.nudge()

    def nudge(self) -> None:
        """Look at the segments again: one has grown."""
        self._drop_oldest()
        with suppress(RuntimeError):  # the thread has ended
            self._loop.call_soon_threadsafe(self._wake.set)

    def set_phrases(self, phrases: PhraseList) -> None:
        """Let the server expect other phrases from the next utterance on."""
        self._phrases = phrases
        self.nudge()

    def stop(self) -> None:
        """Disconnect; segments that are not done stay so."""
        self._stopping = True
        with suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._task.cancel)
        self.nudge()
        self._thread.join()

    def _drop_oldest(self) -> None:
        """Keep what is kept within the limit; the segment that is being spoken always stays."""
        while len(self._segments) > 1 and self.status.waiting_s > self._outage_s:
            self._give_up('the server was away for too long')

    def _give_up(self, why: str) -> None:
        """Forget the audio of the first segment."""
        with self._lock:
            if not self._segments:
                return
            segment = self._segments.popleft()
            self._refusals = 0  # those were of this segment
            lost_s = segment.waiting_s
            self._status = replace(self._status, dropped_s=self._status.dropped_s + lost_s)
        _LOGGER.warning('%.1f s of speech were not transcribed: %s', lost_s, why)
        segment.complete()
        self._on_update()

    def _note(self, **changes: Any) -> None:
        with self._lock:
            self._status = replace(self._status, **changes)

    # ---- the thread ----

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            with suppress(asyncio.CancelledError):
                self._loop.run_until_complete(self._task)
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
            self._note(state='closed', since=time.monotonic())

    async def _stay_connected(self) -> None:
        pause_s = _FIRST_RETRY_S
        while not self._stopping:
            began, self._n_done = time.monotonic(), 0
            url, all_failed = self._servers.url, True
            try:
                await self._connect(url)
            except _ConnectAgain:
                continue
            except Exception as error:  # whatever it is, the link goes on
                if not isinstance(error, EXPECTED):
                    _LOGGER.exception('the link failed')
                all_failed = self._servers.failed()
                self._went_down(url, f'{type(error).__name__}: {error}'.rstrip(': '))
            if self._n_done or time.monotonic() - began > _LAST_RETRY_S:
                pause_s = _FIRST_RETRY_S  # it was of use
            if all_failed:
                # Robots that lost the same server do not come back all at once.
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
                pause_s = min(2 * pause_s, _LAST_RETRY_S)

    async def _woken(self, timeout_s: float) -> None:
        """Wait until there may be something to do, at most so long."""
        # Not wait_for(), which before Python 3.12 may lose a cancellation.
        timer = self._loop.call_later(timeout_s, self._wake.set)
        try:
            await self._wake.wait()
            self._wake.clear()
        finally:
            timer.cancel()

    def _went_down(self, url: str, error: str) -> None:
        if self._status.state != 'down':
            again = 'again' if self._servers.url == url else self._servers.url
            _LOGGER.warning('no connection to %s: %s; trying %s', url, error, again)
            self._note(state='down', since=time.monotonic())
        self._note(error=error, url=url)

    async def _connect(self, url: str) -> None:
        """Connect and send segments until that fails or the link is stopped."""
        self._sending, self._accepted = None, False
        async with ClientSession() as http, Opening(http, self._remote, url) as opening:
            socket = opening.socket
            await self._configure(socket, url)
            self._knows_phrases, self._sent_phrases = 'phrases' in opening.greeting, NO_PHRASES
            # vLLM answers only a model that it does not have, so that silence is a yes. Audio
            # does not wait for that.
            accepted = self._loop.call_later(opening.accept_s, self._accept, url)
            try:
                await self._converse(socket, url)
            finally:
                accepted.cancel()

    def _accept(self, url: str) -> None:
        """Note that the server does what is asked of it."""
        if not self._accepted:
            self._accepted = True
            self._note(state='connected', since=time.monotonic(), url=url,
                       connects=self._status.connects + 1)
            _LOGGER.info('connected to %s', url)

    async def _configure(self, socket: Socket, url: str) -> None:
        options = {'words': True}  # vLLM does not look at what it does not know
        if self._remote.delay_ms is not None:
            options['delay_ms'] = self._remote.delay_ms  # type: ignore[assignment]
        await socket.send_json(
            {'type': 'session.update', 'model': self._servers.model(url), **options})

    async def _send_phrases(self, socket: Socket) -> None:
        """Send the phrases if the server does not have them yet."""
        phrases = self._phrases
        if self._knows_phrases and phrases != self._sent_phrases:
            await socket.send_json({'type': 'session.update', 'phrases': phrases.lines() or None})
        elif phrases and not (self._knows_phrases or self._warned):
            _LOGGER.warning('%s is a server that knows of no phrases to expect: it goes without '
                            'the %d that are listed', self._servers.url, len(phrases))
            self._warned = True
        self._sent_phrases = phrases

    async def _converse(self, socket: Socket, url: str) -> None:
        """Send and receive at the same time; whichever fails ends both."""
        tasks = [asyncio.ensure_future(self._send(socket, url)),
                 asyncio.ensure_future(self._receive(socket, url))]
        looking = asyncio.ensure_future(self._look_back())
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            looking.cancel()
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _look_back(self) -> None:
        """Go back to a server that is wanted more, when it is well again."""
        await self._servers.look_back()
        self._wake.set()

    async def _send(self, socket: Socket, url: str) -> None:
        configured = time.monotonic()
        while not self._stopping:
            if self._servers.url != url:  # one that is wanted more is well again
                raise _ConnectAgain
            await self._send_phrases(socket)
            if self._segments:
                await self._send_segment(socket, self._segments[0])
                continue
            await self._woken(_KEEPALIVE_S)
            if time.monotonic() - configured >= _KEEPALIVE_S:  # the server may have an idle limit
                await self._configure(socket, url)
                configured = time.monotonic()

    async def _send_segment(self, socket: Socket, segment: Segment) -> None:
        segment.restart()
        self._sending, answer_s = segment, self._remote.answer_s
        self._last_event_s, self._asked_s = time.monotonic(), math.inf
        await socket.send_json({'type': 'input_audio_buffer.commit'})
        n_sent, self._sent_end = segment.first, False
        while not (segment.done or self._stopping):
            ended = segment.ended  # before looking for audio: none comes after it
            audio, n_sent = segment.audio(n_sent, _APPEND_BYTES)
            if audio:
                await socket.send_json({'type': 'input_audio_buffer.append',
                                        'audio': base64.b64encode(audio).decode()})
                self._asked_s = min(self._asked_s, time.monotonic())
            elif ended and not self._sent_end:
                await socket.send_json({'type': 'input_audio_buffer.commit', 'final': True})
                self._sent_end, self._last_event_s = True, time.monotonic()
            elif self._is_silent(answer_s):
                self._refused('timeout', f'nothing for {answer_s:g} s')
            else:
                await self._woken(1.0)
            await self._send_phrases(socket)
        # A segment that was given up is still in the server's hands: only a new connection helps.
        if self._sending is segment and not self._stopping:
            raise LinkError('the server is too slow')

    def _is_silent(self, answer_s: float) -> bool:
        """Return whether a server that has something to do has sent nothing for so long."""
        if self._sent_end:
            return time.monotonic() - self._last_event_s > answer_s
        # One that is late in an utterance is left only if there is another one.
        return len(self._remote.urls) > 1 and time.monotonic() - self._asked_s > answer_s

    async def _receive(self, socket: Socket, url: str) -> None:
        while not self._stopping:
            message = await event(socket)
            kind = message.get('type')
            self._last_event_s, self._asked_s = time.monotonic(), math.inf
            segment = self._sending
            if kind == 'error' and message.get('code') in _HARMLESS:
                _LOGGER.warning('the server says: %s', message.get('error'))
            elif kind == 'error':
                if message.get('code') == 'model_not_found':
                    await self._ask_for_another_name(url)
                self._refused(str(message.get('code')), str(message.get('error')))
            elif kind == 'session.updated':
                self._accept(url)
            elif segment and kind == 'transcription.delta':
                self._accept(url)
                if segment.write(str(message.get('delta', '')), message.get('words')):
                    self._on_update()
            elif segment and kind == 'transcription.done':
                self._accept(url)
                n_tokens = segment.n_tokens(message.get('usage'))
                # A server that counts no tokens at all is believed.
                if not self._sent_end or (n_tokens is not None and segment.ends_early(n_tokens)):
                    self._ended_early(segment, n_tokens or 0, url)
                self._finish(segment)

    async def _ask_for_another_name(self, url: str) -> None:
        found = await self._servers.find_model(url)
        if found:
            _LOGGER.info('%s', found)
            raise _ConnectAgain

    def _ended_early(self, segment: Segment, n_tokens: int, url: str) -> None:
        """
        Send what is left of a segment as another generation, over another connection.

        In this one there may be audio left in the queue of the server, without an order.
        """
        self._note(early_ends=self._status.early_ends + 1)
        if url not in self._warned_early_ends:
            self._warned_early_ends.add(url)
            _LOGGER.warning(
                '%s ended a text after %d tokens, before the audio had ended: the rest is sent as '
                'another one. vLLM does that where --max-model-len is less than the tokens of an '
                'utterance, 12.5 a second and 50 more; any server does when it is '
                'stopped', url, n_tokens)
        if not segment.go_on_after(n_tokens):
            self._refused('early_end', 'the text ended before the audio had begun')
        self._refusals = 0
        self._n_done += 1
        self._servers.worked()
        self._on_update()
        raise _ConnectAgain

    def _finish(self, segment: Segment) -> None:
        """Take the text of a segment as complete."""
        segment.settle()
        self._sending, self._refusals = None, 0
        self._n_done += 1
        self._servers.worked()
        with self._lock:
            if self._segments and self._segments[0] is segment:  # it was not given up
                self._segments.popleft()
        segment.complete()
        self._on_update()
        self._wake.set()

    def _refused(self, code: str, why: str) -> None:
        """Break the connection, and give up a segment that the server cannot cope with."""
        if code in ('processing_error', 'invalid_audio', 'timeout', 'early_end'):
            self._refusals += 1
        if self._refusals >= _MAX_REFUSALS and self._segments and self._segments[0].ended:
            self._refusals = 0
            self._give_up(f'the server has failed at them {_MAX_REFUSALS} times')
        raise LinkError(f'the server says {code}: {why}')
