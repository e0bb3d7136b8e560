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

"""The WebSocket of a client, as aiohttp has it and what robots need besides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
import json
import socket
import time
from typing import Any

from aiohttp import web, WSCloseCode

from voxtral_ros.server.dialects.vllm import ORIGINAL
from voxtral_ros.server.events import Message

_LINGER_S, _QUIET_S = 5.0, 0.2
_CLOSE_FRAME = b'\x88\x02'
_WRONG_FRAMES = {
    int(WSCloseCode.MESSAGE_TOO_BIG): 'the message is too long: send shorter appends',
    int(WSCloseCode.PROTOCOL_ERROR): 'the frame breaks the WebSocket protocol',
    int(WSCloseCode.INVALID_TEXT): 'the text is not UTF-8'}
GONE = ConnectionError, asyncio.TimeoutError, RuntimeError


class Socket(web.WebSocketResponse):
    """A WebSocket that says what was wrong in an event before it is closed for it."""

    transport: asyncio.Transport | None = None
    error: Callable[[str, str], Message] = ORIGINAL.error  # in the dialect of the client

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b'',
                    **options: Any) -> bool:
        """Close; aiohttp calls this when a frame is too long or breaks the protocol."""
        wrong = _WRONG_FRAMES.get(code)
        if wrong and not self.closed and self.transport:
            with suppress(*GONE):
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


def watch_peer(transport: asyncio.BaseTransport | None) -> None:
    """Let the kernel find out within a minute that the machine at the other end is gone."""
    sock = transport.get_extra_info('socket') if transport else None
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (('TCP_KEEPIDLE', 20), ('TCP_KEEPINTVL', 10), ('TCP_KEEPCNT', 3),
                          ('TCP_USER_TIMEOUT', 50_000)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
