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
One WebSocket connection: reads messages, sends events, keeps within the limits.

    socket -> _read_all -> Inbox -> _handle_all -> Session -> Outbox -> _send_all -> socket

Reading never waits for the session, so that pings are answered while it has enough to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from aiohttp import web, WebSocketError, WSCloseCode, WSMessage, WSMsgType

from voxtral_ros.server.events import Message
from voxtral_ros.server.inbox import Inbox
from voxtral_ros.server.limits import Limits, RateLimit
from voxtral_ros.server.log import RateLimitedLog
from voxtral_ros.server.metrics import Metrics
from voxtral_ros.server.outbox import Outbox
from voxtral_ros.server.session import Session
from voxtral_ros.server.websocket import GONE, Socket, watch_peer
from voxtral_ros.server.worker_pool import WorkerPool

_POLL_S = 0.05  # while a client is slowed down
_CUT_S = 2.0  # for the round of the engine in which a generation is cut


class Connection:
    """Joins a socket with its session."""

    def __init__(self, pool: WorkerPool, models: Sequence[str], limits: Limits, metrics: Metrics,
                 log: RateLimitedLog, dialect: str = '') -> None:
        """Begin; `dialect` is the one that the address of the client names, '' if none."""
        self._limits, self._metrics, self._log = limits, metrics, log
        self._inbox, self._outbox = Inbox(limits.backlog_bytes), Outbox(limits)
        self._socket = Socket(max_msg_size=limits.message_bytes, compress=False, autoping=False,
                              protocols=('realtime',), timeout=2.0)
        self._sender: asyncio.Task[None] | None = None
        self._handler: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._peer = 'a client'
        self._stopping = self._aborted = False
        loop = asyncio.get_running_loop()
        self._event_s = loop.time()  # when the latest event came
        self.session = Session(pool, models, limits.buffered_s, self._send, _safely(loop),
                               dialect)
        self._socket.error = lambda code, message: self.session.dialect.error(code, message)

    async def run(self, request: web.Request) -> web.WebSocketResponse:
        """Serve the client until one side has enough."""
        self._transport = self._socket.transport = request.transport
        self._peer = f'the client {request.remote}'
        watch_peer(request.transport)
        await self._socket.prepare(request)
        self._sender = asyncio.ensure_future(self._send_all())
        self._handler = asyncio.ensure_future(self._handle_all())
        overflow = asyncio.ensure_future(self._cut_off())
        try:
            await self._read_all()
        finally:
            # First of all: what the client leaves behind is not computed any more.
            if not self._stopping:
                self.session.close()
            overflow.cancel()
            await self._close(WSCloseCode.OK)
        return self._socket

    async def stop(self) -> None:
        """Finish what is being transcribed, report that and what is left, and close."""
        self._stopping = True
        self._inbox.close()
        if not await self._finished(self._limits.stop_s) or self.session.waiting_s:
            unread = f' and {len(self._inbox)} messages that were not read' if self._inbox else ''
            self._inbox.clear()
            self.session.cut(unread)
            await self._finished(_CUT_S)
        await self._close(WSCloseCode.GOING_AWAY, b'the server is being stopped')
        self.session.close()

    async def _finished(self, timeout_s: float) -> bool:
        """Wait until everything that came is transcribed; return whether it is."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        while (self._handler and not self._handler.done()) or self.session.busy:
            if self._socket.closed:
                return True  # nobody waits for it
            if loop.time() > end:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    # ---- receiving ----

    async def _read_all(self) -> None:
        rate = RateLimit(self._limits.messages_per_s)
        while (message := await self._read()) is not None:
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                self._take(message.data)
            elif message.type is WSMsgType.PING:
                await self._answer(message.data)
            elif message.type is not WSMsgType.PONG:
                self._report_end(message)
                return
            if pause_s := rate.take():
                await asyncio.sleep(pause_s)
            # Not reading is what slows a client down, by the flow control of TCP.
            while self._inbox.full and not self._is_lost():
                await asyncio.sleep(_POLL_S)

    async def _read(self) -> WSMessage | None:
        """Return the next frame; None when no event has come for too long, whatever else did."""
        loop, idle_s = asyncio.get_running_loop(), self._limits.idle_s
        while True:
            left_s = self._event_s + idle_s - loop.time()
            if left_s > 0:
                with suppress(asyncio.TimeoutError):
                    return await self._socket.receive(left_s)
            elif self.session.busy or self._inbox:
                self._event_s = loop.time()
            else:
                self.session.complain('idle_timeout', f'no event came for {idle_s:g} s: closing')
                self._log.warning('%s has sent no event for %g s: closing', self._peer, idle_s)
                return None

    def _take(self, data: str | bytes) -> None:
        self._metrics.messages.inc()
        self._event_s = asyncio.get_running_loop().time()
        if self._stopping:
            self.session.complain('server_stopping', 'the server is being stopped')
        else:
            self._inbox.put(data)

    async def _handle_all(self) -> None:
        while (data := await self._inbox.get()) is not None:
            if isinstance(data, str):
                await self.session.receive(data)
            else:
                self.session.complain('invalid_event', 'binary frames are not understood: send '
                                      'audio as base64 in input_audio_buffer.append')
            await asyncio.sleep(0)  # a long backlog does not hold up the other clients
            while (self.session.must_wait or self._outbox.full) and not self._is_lost():
                await asyncio.sleep(_POLL_S)
        self.session.finish()

    def _is_lost(self) -> bool:
        return self._socket.closed or self._transport is None or self._transport.is_closing()

    async def _answer(self, ping: bytes) -> None:
        try:
            await asyncio.wait_for(self._socket.pong(ping), self._limits.send_s)
        except asyncio.TimeoutError:
            self._abort('a pong could not be sent')
        except GONE:
            pass  # the next read finds out

    # ---- sending ----

    def _send(self, message: Message) -> None:
        if message['type'] == 'error':
            error = message['error']
            code = error['code'] if isinstance(error, dict) else message['code']
            self._metrics.errors.labels(code).inc()
        self._outbox.put(message)

    async def _send_all(self) -> None:
        try:
            while (text := await self._outbox.get()) is not None:
                await asyncio.wait_for(self._socket.send_str(text), self._limits.send_s)
        except asyncio.TimeoutError:
            self._abort('an event could not be sent')
        except GONE:
            pass  # the receiving side finds out

    async def _cut_off(self) -> None:
        await self._outbox.overflowed.wait()
        self._abort(f'{self._limits.reply_bytes} bytes of events wait')

    # ---- the end ----

    def _report_end(self, message: WSMessage) -> None:
        """Log why a client goes, if that is our doing or it leaves anything behind."""
        if self._stopping or self._aborted:
            return
        if isinstance(message.data, WebSocketError):
            self._log.warning('%s is cut off: %s', self._peer, message.data)
        elif self.session.busy or self._inbox:
            why = f'it closed with code {message.data} {message.extra!r}' \
                if message.type is WSMsgType.CLOSE else 'the connection broke'
            self._log.warning('%s has gone while %.1f s of its audio and %d messages waited: %s',
                              self._peer, self.session.waiting_s, len(self._inbox), why)

    def _abort(self, why: str) -> None:
        self._aborted = True
        self._log.warning('%s does not read, cutting it off: %s', self._peer, why)
        self._metrics.slow_readers.inc()
        if self._transport:
            self._transport.abort()

    async def _close(self, code: int, message: bytes = b'') -> None:
        """Send what is left, then close."""
        self._outbox.close()
        if self._handler and self._sender:
            self._handler.cancel()
            await asyncio.wait([self._handler, self._sender], timeout=1.0)
            self._sender.cancel()
        with suppress(*GONE):
            await asyncio.wait_for(self._socket.close(code=code, message=message), 3.0)


def _safely(loop: asyncio.AbstractEventLoop) -> Any:
    def call_soon(*call: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left to send to
            loop.call_soon_threadsafe(*call)
    return call_soon
