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
Which server is talked to: its address, the next one when it fails, and what its model is called.

The first address is the one that is wanted; the others stand in for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
import json
import re
import ssl
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from aiohttp import ClientError, ClientSession, WSMsgType

from voxtral_ros.recognizer.model_name import matching_model

ANSWER_S = 20.0  # for a server that is at work to send anything
_STAND_IN_ANSWER_S = 10.0  # where there is another one to go to
_HEARTBEAT_S = 10.0
_CLOSE_S = 1.0
_ACCEPT_S = 0.5  # without an error, besides what the way there and back takes
_LOOK_BACK_S, _LAST_LOOK_BACK_S = 10.0, 320.0
_MAX_EVENT_BYTES = 16 << 20
_PATH = '/realtime'


class LinkError(RuntimeError):
    """The server answers, but not with what is needed."""


Socket = Any  # aiohttp.ClientWebSocketResponse, a generic type in some versions only
EXPECTED = ClientError, OSError, asyncio.TimeoutError, LinkError


@dataclass(frozen=True)
class Remote:
    """Where the servers are and how to talk to them."""

    urls: tuple[str, ...]
    model: str = ''  # the empty one is right for vLLM as for voxtral
    token: str = ''
    tls: ssl.SSLContext | None = None
    delay_ms: float | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Return what every request needs."""
        options: dict[str, Any] = {'ssl': self.tls} if self.tls else {}
        if self.token:
            options['headers'] = {'Authorization': f'Bearer {self.token}'}
        return options

    @property
    def answer_s(self) -> float:
        """Return how long a server may be silent."""
        return ANSWER_S if len(self.urls) == 1 else _STAND_IN_ANSWER_S


def addresses(urls: str | Sequence[str]) -> tuple[str, ...]:
    """
    Return the addresses in a text, apart by space, commas or line ends, or in a list.

    :raises ValueError: one is not that of a WebSocket, or there is none
    """
    found = re.split(r'[\s,]+', urls.strip()) if isinstance(urls, str) else list(urls)
    for url in found or ['']:
        parts = urlsplit(url)
        if parts.scheme not in ('ws', 'wss') or not parts.hostname:
            raise ValueError(f'{url!r} is no address of a server: expected something like '
                             'ws://host:8000/v1/realtime')
    return tuple(dict.fromkeys(found))


class Servers:
    """Chooses among several addresses; used from one thread."""

    def __init__(self, remote: Remote) -> None:
        """Begin with the first one."""
        self._remote = remote
        self._index = self._n_failed = 0
        self._models: dict[str, str] = {}  # what they are called there, if that is not as asked
        self._look_back_s = _LOOK_BACK_S

    @property
    def url(self) -> str:
        """Return the address to use."""
        return self._remote.urls[self._index]

    def failed(self) -> bool:
        """Go on to the next address; return whether all of them have failed by now."""
        self._n_failed += 1
        self._index = (self._index + 1) % len(self._remote.urls)
        return self._n_failed % len(self._remote.urls) == 0

    def worked(self) -> None:
        """Note that the server has done something of use."""
        self._n_failed = 0
        if self._index == 0:
            self._look_back_s = _LOOK_BACK_S

    async def look_back(self) -> None:
        """Return when an address before the present one is well again, having chosen it."""
        while True:
            await asyncio.sleep(self._look_back_s if self._index else 3600.0)
            for index in range(self._index):
                if await self._is_well(self._remote.urls[index]):
                    self._index, self._n_failed = index, 0
                    # If it is not so well after all, it is looked at less often.
                    self._look_back_s = min(2 * self._look_back_s, _LAST_LOOK_BACK_S)
                    return

    async def _is_well(self, url: str) -> bool:
        """Return whether a server takes a client and has the model."""
        with suppress(*EXPECTED):
            async with ClientSession() as http, Opening(http, self._remote, url) as opening:
                await opening.socket.send_json(
                    {'type': 'session.update', 'model': self.model(url)})
                try:
                    answer = await asyncio.wait_for(event(opening.socket), opening.accept_s)
                except asyncio.TimeoutError:
                    return True
                return answer.get('type') != 'error'
        return False

    # ---- models ----

    def model(self, url: str) -> str:
        """Return the name to ask a server for."""
        return self._models.get(url, self._remote.model)

    async def find_model(self, url: str) -> str:
        """
        Look for the model under another name, after the one asked for was refused.

        Returns what is to be said of it: the new name and why, or '' where nothing fits.
        """
        names = await self._listed(url)
        asked = self._remote.model
        name = matching_model(asked, names) or (names[0] if len(names) == 1 else '')
        if not name or name == self.model(url):
            return ''
        self._models[url] = name
        return f'{url} has no model {asked!r}: {name!r} of it is taken'

    async def _listed(self, url: str) -> list[str]:
        """Return the names of the models of a server, none where it has no list."""
        parts = urlsplit(url)
        if not parts.path.endswith(_PATH):
            return []
        path = f'{parts.path[:-len(_PATH)]}/models'
        models = urlunsplit((parts.scheme.replace('ws', 'http'), parts.netloc, path, '', ''))
        with suppress(*EXPECTED, ValueError, KeyError, TypeError):
            async with ClientSession() as http:
                response = await asyncio.wait_for(
                    http.get(models, **self._remote.options), self._remote.answer_s)
                async with response:
                    listed = await asyncio.wait_for(
                        response.json(content_type=None), self._remote.answer_s)
                return [str(model['id']) for model in listed['data']]
        return []


class Opening:
    """An open connection whose server has greeted; `async with`."""

    def __init__(self, http: ClientSession, remote: Remote, url: str) -> None:
        self._http, self._remote, self._url = http, remote, url
        self.accept_s = _ACCEPT_S
        self.greeting: dict[str, Any] = {}

    async def __aenter__(self) -> Opening:
        """
        Connect.

        :raises LinkError, OSError, aiohttp.ClientError, asyncio.TimeoutError: what failed
        """
        loop, answer_s = asyncio.get_running_loop(), self._remote.answer_s
        self.socket: Socket = await asyncio.wait_for(
            self._http.ws_connect(self._url, heartbeat=_HEARTBEAT_S,
                                  max_msg_size=_MAX_EVENT_BYTES, **self._remote.options),
            answer_s)
        began = loop.time()
        try:
            self.greeting = await asyncio.wait_for(event(self.socket), answer_s)
            if self.greeting.get('type') != 'session.created':
                raise LinkError(f'{self._url} greets with {str(self.greeting)[:80]}: it is no '
                                '/v1/realtime of vLLM or voxtral')
        except BaseException:
            await self.__aexit__()
            raise
        self.accept_s += 2 * (loop.time() - began)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection."""
        with suppress(*EXPECTED):
            await asyncio.wait_for(self.socket.close(), _CLOSE_S)


async def event(socket: Socket) -> dict[str, Any]:
    """Return the next event; raise LinkError when the connection ends."""
    message = await socket.receive()
    if message.type is not WSMsgType.TEXT:
        error = socket.exception()
        raise LinkError(f'the server closed the connection ({socket.close_code})'
                        + (f': {error}' if error else ''))
    try:
        found = json.loads(message.data)
    except ValueError as error:
        raise LinkError(f'the server sent no JSON: {error}') from None
    if not isinstance(found, dict):
        raise LinkError(f'the server sent {str(found)[:80]}, which is no event')
    return found
