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

"""One WebSocket connection: reads events, sends events, keeps within the limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
import json
import logging
import socket
import time
from typing import Any

from aiohttp import web, WSCloseCode, WSMsgType

from voxtral_ros.server.dialects.vllm import ORIGINAL
from voxtral_ros.server.events import Message
from voxtral_ros.server.limits import Limits, RateLimit
from voxtral_ros.server.metrics import Metrics
from voxtral_ros.server.outbox import Outbox
from voxtral_ros.server.session import Session
from voxtral_ros.server.worker import Worker

_LOGGER = logging.getLogger(__name__)
_POLL_S = 0.05  # while a client is slowed down
_LINGER_S, _QUIET_S = 5.0, 0.2
_CLOSE_FRAME = b'\x88\x02'
_WRONG_FRAMES = {
    int(WSCloseCode.MESSAGE_TOO_BIG): 'the message is too long: send shorter appends',
    int(WSCloseCode.PROTOCOL_ERROR): 'the frame breaks the WebSocket protocol',
    int(WSCloseCode.INVALID_TEXT): 'the text is not UTF-8'}
_GONE = ConnectionError, asyncio.TimeoutError, RuntimeError


class Socket(web.WebSocketResponse):
    """A WebSocket that says what was wrong in an event before it is closed for it."""

    transport: asyncio.Transport | None = None
    error: Callable[[str, str], Message] = ORIGINAL.error  # in the dialect of the client

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b'',
                    **options: Any) -> bool:
        """Close; aiohttp calls this when a frame is too long or breaks the protocol."""
        wrong = _WRONG_FRAMES.get(code)
        if wrong and not self.closed and self.transport:
            with suppress(*_GONE):
                event = json.dumps(self.error('invalid_event', wrong))
                await asyncio.wait_for(self.send_str(event), 1.0)
                self.transport.write(_CLOSE_FRAME + int(code).to_bytes(2, 'big'))
                await _discard(self.transport)
        return await super().close(code=code, message=message, **options)


class _Discard(asyncio.Protocol):
    """Reads and forgets."""

    def __init__(self) -> None:
        self.read = asyncio.Event()
        self.ended = False

    def data_received(self, _: bytes) -> None:
        self.read.set()

    def connection_lost(self, _: Exception | None) -> None:
        self.ended = True
        self.read.set()


async def _discard(transport: asyncio.Transport) -> None:
    """
    Let a client finish what it is sending, for a while.

    A TCP connection that is closed with bytes unread is reset, and what was sent to the client is
    lost if it has not read that yet.
    """
    discard, protocol = _Discard(), transport.get_protocol()
    transport.set_protocol(discard)
    transport.resume_reading()
    end = time.monotonic() + _LINGER_S
    try:
        while not discard.ended and time.monotonic() < end:
            await asyncio.wait_for(discard.read.wait(), _QUIET_S)
            discard.read.clear()
    except asyncio.TimeoutError:
        pass
    finally:
        transport.set_protocol(protocol)
    if discard.ended:
        protocol.connection_lost(None)


class Connection:
    """Joins a socket with its session."""

    def __init__(self, worker: Worker, models: Sequence[str], limits: Limits, metrics: Metrics,
                 dialect: str = '') -> None:
        """Begin; `dialect` is the one that the address of the client names, '' if none."""
        self._limits, self._metrics = limits, metrics
        self._outbox = Outbox(limits)
        self._socket = Socket(max_msg_size=limits.message_bytes, compress=False,
                              protocols=('realtime',), timeout=2.0)
        self._sender: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._stopping = False
        loop = asyncio.get_running_loop()
        self.session = Session(worker, models, limits.buffered_s, self._send, _safely(loop),
                               dialect)
        self._socket.error = lambda code, message: self.session.dialect.error(code, message)

    async def run(self, request: web.Request) -> web.WebSocketResponse:
        """Serve the client until one side has enough."""
        self._transport = self._socket.transport = request.transport
        _watch_peer(request.transport)
        await self._socket.prepare(request)
        self._sender = asyncio.ensure_future(self._send_all())
        overflow = asyncio.ensure_future(self._cut_off())
        try:
            await self._receive_all()
        finally:
            # First of all: what the client leaves behind is not computed any more.
            if not self._stopping:
                self.session.close()
            overflow.cancel()
            await self._close(WSCloseCode.OK)
        return self._socket

    async def stop(self) -> None:
        """Finish what is being transcribed, report that, and close."""
        self._stopping = True
        self.session.finish()
        deadline = asyncio.get_running_loop().time() + self._limits.stop_s
        while self.session.busy and not self._socket.closed:
            if asyncio.get_running_loop().time() > deadline:
                self.session.cut()
                deadline = float('inf')
            await asyncio.sleep(_POLL_S)
        await self._close(WSCloseCode.GOING_AWAY, b'the server is being stopped')
        self.session.close()

    # ---- receiving ----

    async def _receive_all(self) -> None:
        rate = RateLimit(self._limits.messages_per_s)
        while True:
            try:
                message = await self._socket.receive(self._limits.idle_s)
            except asyncio.TimeoutError:
                if self.session.busy:
                    continue
                self.session.complain('idle_timeout', 'nothing came for '
                                      f'{self._limits.idle_s:g} s: closing')
                return
            if message.type is WSMsgType.TEXT:
                self.session.receive(message.data)
            elif message.type is WSMsgType.BINARY:
                self.session.complain('invalid_event', 'binary frames are not understood: send '
                                      'audio as base64 in input_audio_buffer.append')
            else:  # closed, or failed
                return
            self._metrics.messages.inc()
            pause_s = rate.take()
            if pause_s:
                await asyncio.sleep(pause_s)
            # Not reading is what slows a client down, by the flow control of TCP.
            while (self.session.must_wait or self._outbox.full) and not self._is_lost():
                await asyncio.sleep(_POLL_S)

    def _is_lost(self) -> bool:
        return self._socket.closed or self._transport is None or self._transport.is_closing()

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
        except _GONE:
            pass  # the receiving side finds out

    async def _cut_off(self) -> None:
        await self._outbox.overflowed.wait()
        self._abort(f'{self._limits.reply_bytes} bytes of events wait')

    def _abort(self, why: str) -> None:
        _LOGGER.warning('a client does not read, cutting it off: %s', why)
        self._metrics.slow_readers.inc()
        if self._transport:
            self._transport.abort()

    async def _close(self, code: int, message: bytes = b'') -> None:
        """Send what is left, then close."""
        self._outbox.close()
        if self._sender:
            await asyncio.wait([self._sender], timeout=1.0)
            self._sender.cancel()
        with suppress(*_GONE):
            await asyncio.wait_for(self._socket.close(code=code, message=message), 3.0)


def _safely(loop: asyncio.AbstractEventLoop) -> Any:
    def call_soon(*call: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left to send to
            loop.call_soon_threadsafe(*call)
    return call_soon


def _watch_peer(transport: asyncio.BaseTransport | None) -> None:
    """Let the kernel find out within a minute that the machine at the other end is gone."""
    sock = transport.get_extra_info('socket') if transport else None
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (('TCP_KEEPIDLE', 20), ('TCP_KEEPINTVL', 10), ('TCP_KEEPCNT', 3),
                          ('TCP_USER_TIMEOUT', 50_000)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
