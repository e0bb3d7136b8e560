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
again, and a segment whose text was not complete is sent again.
"""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
import json
import logging
import random
import ssl
import threading
import time
from typing import Any

from aiohttp import ClientError, ClientSession, WSMsgType

from voxtral_ros.client.segment import Segment
from voxtral_ros.recognizer.interface import LinkStatus
from voxtral_ros.recognizer.phrases import NO_PHRASES, PhraseList

_LOGGER = logging.getLogger(__name__)
_APPEND_BYTES = 16_000  # 500 ms
_FIRST_RETRY_S, _LAST_RETRY_S = 0.25, 10.0
_ANSWER_S = 20.0  # for a server that is at work to send anything
_KEEPALIVE_S = 30.0
_HEARTBEAT_S = 10.0
_CLOSE_S = 1.0
_MAX_REFUSALS = 3  # of one segment; then it is given up, so that the others get on
_MAX_EVENT_BYTES = 16 << 20
_HARMLESS = 'implausible_audio', 'invalid_phrases'  # the server goes on


class LinkError(RuntimeError):
    """The server answers, but not with what is needed."""


Socket = Any  # aiohttp.ClientWebSocketResponse, a generic type in some versions only
_EXPECTED = ClientError, OSError, asyncio.TimeoutError, LinkError


@dataclass(frozen=True)
class Remote:
    """Where the server is and how to talk to it."""

    url: str
    model: str = ''  # the empty one is right for vLLM as for voxtral
    token: str = ''
    tls: ssl.SSLContext | None = None
    delay_ms: float | None = None


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
        self._status = LinkStatus(since=time.monotonic())
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
        self._last_event_s = 0.0  # when the server last sent anything
        self._loop = asyncio.new_event_loop()
        self._wake = asyncio.Event()
        self._task = self._loop.create_task(self._stay_connected())
        self._thread = threading.Thread(target=self._run, name='realtime link', daemon=True)
        self._thread.start()

    # ---- for the stream ----

    @property
    def status(self) -> LinkStatus:
        waiting_s = sum(segment.duration_s for segment in list(self._segments))
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
            lost_s = segment.duration_s
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
            try:
                await self._connect()
            except Exception as error:  # whatever it is, the link goes on
                if not isinstance(error, _EXPECTED):
                    _LOGGER.exception('the link failed')
                self._went_down(f'{type(error).__name__}: {error}'.rstrip(': '))
            if self._n_done or time.monotonic() - began > _LAST_RETRY_S:
                pause_s = _FIRST_RETRY_S  # it was of use
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

    def _went_down(self, error: str) -> None:
        if self._status.state != 'down':
            _LOGGER.warning('no connection to %s: %s; trying again', self._remote.url, error)
            self._note(state='down', since=time.monotonic())
        self._note(error=error)

    async def _connect(self) -> None:
        """Connect and send segments until that fails or the link is stopped."""
        remote = self._remote
        headers = {'Authorization': f'Bearer {remote.token}'} if remote.token else {}
        options: dict[str, Any] = {'ssl': remote.tls} if remote.tls else {}
        async with ClientSession() as http:
            opening = http.ws_connect(remote.url, headers=headers, heartbeat=_HEARTBEAT_S,
                                      max_msg_size=_MAX_EVENT_BYTES, **options)
            socket = await asyncio.wait_for(opening, _ANSWER_S)
            self._sending = None
            try:
                greeting = await asyncio.wait_for(_event(socket), _ANSWER_S)
                if greeting.get('type') != 'session.created':
                    raise LinkError(f'{remote.url} greets with {str(greeting)[:80]}: it is no '
                                    '/v1/realtime of vLLM or voxtral')
                await self._configure(socket)
                self._knows_phrases, self._sent_phrases = 'phrases' in greeting, NO_PHRASES
                await self._send_phrases(socket)
                self._note(state='connected', since=time.monotonic(),
                           connects=self._status.connects + 1)
                _LOGGER.info('connected to %s', remote.url)
                await self._converse(socket)
            finally:
                with suppress(*_EXPECTED):
                    await asyncio.wait_for(socket.close(), _CLOSE_S)

    async def _configure(self, socket: Socket) -> None:
        options = {'words': True}  # vLLM does not look at what it does not know
        if self._remote.delay_ms is not None:
            options['delay_ms'] = self._remote.delay_ms  # type: ignore[assignment]
        await socket.send_json({'type': 'session.update', 'model': self._remote.model, **options})

    async def _send_phrases(self, socket: Socket) -> None:
        """Send the phrases if the server does not have them yet."""
        phrases = self._phrases
        if self._knows_phrases and phrases != self._sent_phrases:
            await socket.send_json({'type': 'session.update', 'phrases': phrases.lines() or None})
        elif phrases and not (self._knows_phrases or self._warned):
            _LOGGER.warning('%s is a server that knows of no phrases to expect: it goes without '
                            'the %d that are listed', self._remote.url, len(phrases))
            self._warned = True
        self._sent_phrases = phrases

    async def _converse(self, socket: Socket) -> None:
        """Send and receive at the same time; whichever fails ends both."""
        tasks = [asyncio.ensure_future(self._send(socket)),
                 asyncio.ensure_future(self._receive(socket))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _send(self, socket: Socket) -> None:
        configured = time.monotonic()
        while not self._stopping:
            await self._send_phrases(socket)
            if self._segments:
                await self._send_segment(socket, self._segments[0])
                continue
            await self._woken(_KEEPALIVE_S)
            if time.monotonic() - configured >= _KEEPALIVE_S:  # the server may have an idle limit
                await self._configure(socket)
                configured = time.monotonic()

    async def _send_segment(self, socket: Socket, segment: Segment) -> None:
        segment.restart()
        self._sending = segment
        self._last_event_s = time.monotonic()
        await socket.send_json({'type': 'input_audio_buffer.commit'})
        n_sent, self._sent_end = 0, False
        while not (segment.done or self._stopping):
            ended = segment.ended  # before looking for audio: none comes after it
            audio, n_sent = segment.audio(n_sent, _APPEND_BYTES)
            if audio:
                await socket.send_json({'type': 'input_audio_buffer.append',
                                        'audio': base64.b64encode(audio).decode()})
            elif ended and not self._sent_end:
                await socket.send_json({'type': 'input_audio_buffer.commit', 'final': True})
                self._sent_end, self._last_event_s = True, time.monotonic()
            elif self._sent_end and time.monotonic() - self._last_event_s > _ANSWER_S:
                self._refused('timeout', f'nothing for {_ANSWER_S:g} s')
            else:
                await self._woken(1.0)
            await self._send_phrases(socket)
        # A segment that was given up is still in the server's hands: only a new connection helps.
        if self._sending is segment and not self._stopping:
            raise LinkError('the server is too slow')

    async def _receive(self, socket: Socket) -> None:
        while not self._stopping:
            event = await _event(socket)
            kind = event.get('type')
            self._last_event_s = time.monotonic()
            segment = self._sending
            if kind == 'error' and event.get('code') in _HARMLESS:
                _LOGGER.warning('the server says: %s', event.get('error'))
            elif kind == 'error':
                self._refused(str(event.get('code')), str(event.get('error')))
            elif segment and kind == 'transcription.delta':
                if segment.write(str(event.get('delta', '')), event.get('words')):
                    self._on_update()
            elif segment and kind == 'transcription.done':
                self._finish(segment)

    def _finish(self, segment: Segment) -> None:
        """Take the text of a segment as complete."""
        if not self._sent_end:
            raise LinkError('the server ended the text before the audio had ended')
        self._sending, self._refusals = None, 0
        self._n_done += 1
        with self._lock:
            if self._segments and self._segments[0] is segment:  # it was not given up
                self._segments.popleft()
        segment.complete()
        self._on_update()
        self._wake.set()

    def _refused(self, code: str, why: str) -> None:
        """Break the connection, and give up a segment that the server cannot cope with."""
        if code in ('processing_error', 'invalid_audio', 'timeout'):
            self._refusals += 1
        if self._refusals >= _MAX_REFUSALS and self._segments and self._segments[0].ended:
            self._refusals = 0
            self._give_up(f'the server has failed at them {_MAX_REFUSALS} times')
        raise LinkError(f'the server says {code}: {why}')


async def _event(socket: Socket) -> dict[str, Any]:
    """Return the next event; raise LinkError when the connection ends."""
    message = await socket.receive()
    if message.type is not WSMsgType.TEXT:
        error = socket.exception()
        raise LinkError(f'the server closed the connection ({socket.close_code})'
                        + (f': {error}' if error else ''))
    try:
        event = json.loads(message.data)
    except ValueError as error:
        raise LinkError(f'the server sent no JSON: {error}') from None
    if not isinstance(event, dict):
        raise LinkError(f'the server sent {str(event)[:80]}, which is no event')
    return event
