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

"""A server as a process: until a signal ends it, or for one recording."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterable
from contextlib import suppress
import json
import signal

from aiohttp import ClientSession, WSMsgType
import numpy as np

from voxtral_ros.audio.block import Samples
from voxtral_ros.server.app import Server

_APPEND = 8000  # samples, 500 ms
_WATCH_S = 1.0


class ServerError(RuntimeError):
    """The server did not do what it is there for."""


class EngineHangs(ServerError):
    """A GPU or its driver hangs: no thread that waits for it can be ended, only the process."""


def serve(server: Server, host: str, port: int, announce: Callable[[int], None]) -> bool:
    """
    Serve until SIGTERM or SIGINT, then finish what is being transcribed.

    :param announce: called with the port when the server listens
    :return: whether all engines have come to rest; else Python would wait for one that hangs
    :raises OSError: the address cannot be listened on
    :raises EngineHangs: a step of an engine does not come back
    """
    async def until_signal() -> None:
        stop = asyncio.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
        try:
            announce(await server.start(host, port))
            while not stop.is_set():
                if hangs := server.pool.watch(server.limits.step_s):
                    raise EngineHangs(hangs)
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(stop.wait(), _WATCH_S)
        finally:
            await server.stop()

    asyncio.run(until_signal())
    return not server.pool.is_computing


def serve_recording(server: Server, blocks: Iterable[Samples], show: Callable[[str], None]) -> str:
    """
    Send a recording through the server's own socket, as a client of the original does.

    :param blocks: float32, 16 kHz, mono
    :param show: called with every piece of text when it comes
    :return: the text
    :raises ServerError: an error event came, or no text
    """
    async def transcribe() -> str:
        port = await server.start('127.0.0.1', 0)
        try:
            async with ClientSession() as http, \
                    http.ws_connect(f'ws://127.0.0.1:{port}/v1/realtime',
                                    headers=_authorization(server)) as socket:
                await socket.send_json({'type': 'session.update'})
                sending = asyncio.ensure_future(_send(socket.send_json, blocks))
                try:
                    async for message in socket:
                        if message.type is not WSMsgType.TEXT:
                            break
                        event = json.loads(message.data)
                        if event['type'] == 'transcription.delta':
                            show(event['delta'])
                        elif event['type'] == 'transcription.done':
                            return str(event['text'])
                        elif event['type'] == 'error':
                            raise ServerError(event['error'])
                finally:
                    sending.cancel()
                    await asyncio.gather(sending, return_exceptions=True)
                if sending.done() and not sending.cancelled() and (error := sending.exception()):
                    raise error
                raise ServerError(f'the server closed the connection ({socket.close_code})')
        finally:
            await server.stop()

    return asyncio.run(transcribe())


def _authorization(server: Server) -> dict[str, str]:
    token = server.access.token
    return {'Authorization': f'Bearer {token}'} if token else {}


async def _send(send: Callable[..., object], blocks: Iterable[Samples]) -> None:
    for block in blocks:
        for start in range(0, len(block), _APPEND):
            pcm = np.clip(block[start:start + _APPEND] * 32768, -32768, 32767).astype('<i2')
            await send({'type': 'input_audio_buffer.append',  # type: ignore[misc]
                        'audio': base64.b64encode(pcm.tobytes()).decode()})
    await send({'type': 'input_audio_buffer.commit'})  # type: ignore[misc]
