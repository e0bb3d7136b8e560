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

"""The server: the WebSocket, the page, and what operators ask for, on one port."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
import logging
from pathlib import Path
import ssl
from typing import TYPE_CHECKING

from aiohttp import web

from voxtral_ros.recognizer.idle import IdleOptions
from voxtral_ros.recognizer.phrases import NO_PHRASES, PhraseList
from voxtral_ros.server.access import has_token, origin_allowed
from voxtral_ros.server.connection import Connection
from voxtral_ros.server.dialects.parse import dialect_of
from voxtral_ros.server.limits import Limits
from voxtral_ros.server.listener import connection_limit, Listener
from voxtral_ros.server.log import HttpLogger, RateLimitedLog
from voxtral_ros.server.metrics import Metrics
from voxtral_ros.server.worker import Worker
from voxtral_ros.server.worker_pool import WorkerPool

if TYPE_CHECKING:
    from voxtral_ros.recognizer.engine import Engine

_LOGGER = logging.getLogger(__name__)
_PAGE = Path(__file__).parent / 'page'
_PAGE_TYPES = {'.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript',
               '.svg': 'image/svg+xml'}
_KEEP_ALIVE_S = 20.0  # a connection without a request
_SHUTDOWN_S = 2.0  # for answers that are being sent
# Nothing from elsewhere, and nowhere else: the page is all there is.
_HEADERS = {
    'Content-Security-Policy': "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    'X-Content-Type-Options': 'nosniff', 'Referrer-Policy': 'no-referrer',
    'Cache-Control': 'no-cache'}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Access:
    """Who may connect."""

    token: str = ''
    origins: tuple[str, ...] = ()  # besides the server's own pages
    tls: ssl.SSLContext | None = None


@dataclass
class Server:
    """Serves one engine or several of the same model; `start`, then `stop`."""

    engines: Mapping[str, Engine]  # by the names that operators read
    models: tuple[str, ...]
    limits: Limits = field(default_factory=Limits)
    access: Access = field(default_factory=Access)
    idle: IdleOptions = field(default_factory=IdleOptions)
    phrases: PhraseList = NO_PHRASES  # for clients that list none of their own

    def __post_init__(self) -> None:
        """
        Begin to compute for whoever connects.

        :raises ValueError: the model cannot expect phrases
        """
        self.metrics = Metrics()
        self.connections: set[Connection] = set()
        self.pool = WorkerPool(
            [Worker(engine, self.metrics, self.limits.idle_slot_s, self.idle, self.phrases, name)
             for name, engine in self.engines.items()], self.metrics, self.limits.overload)
        self._runner: web.AppRunner | None = None
        self._listener: Listener | None = None
        self._log = RateLimitedLog()
        self._stopping = False

    async def start(self, host: str, port: int) -> int:
        """
        Listen; return the port, which was chosen by the system if `port` is 0.

        :raises OSError: the address cannot be listened on
        :raises ValueError: more connections are wanted than there are file descriptors
        """
        app = web.Application(middlewares=[self._guard])
        app.router.add_get('/v1/realtime', self._realtime)
        app.router.add_get('/v1/models', self._models)
        app.router.add_get('/healthz', self._healthz)
        app.router.add_get('/metrics', self._metrics)
        for path in sorted(_PAGE.iterdir()):
            name = '/' if path.name == 'index.html' else f'/{path.name}'
            app.router.add_get(name, _file(path))
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, logger=HttpLogger(self._log),
            keepalive_timeout=_KEEP_ALIVE_S, shutdown_timeout=_SHUTDOWN_S)
        await self._runner.setup()
        assert self._runner.server
        listener = Listener(self._runner.server, connection_limit(self.limits.connections),
                            self.access.tls, self._log)
        port = listener.start(host, port)
        self._listener = listener
        return port

    async def stop(self) -> None:
        """Take no new clients, finish what is being transcribed, close, and free the port."""
        self._stopping = True
        if self._listener:
            self._listener.close()
        if self.connections:
            await asyncio.wait([asyncio.ensure_future(connection.stop())
                                for connection in self.connections])
        if self._runner:
            await self._runner.cleanup()
        await self.pool.stop()

    # ---- requests ----

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let nobody in who may not."""
        if request.path in ('/v1/realtime', '/v1/models', '/metrics') and self.access.token \
                and not has_token(request.headers, self.access.token):
            return self._refuse('token', 401, 'give the token of this server: "Authorization: '
                                'Bearer TOKEN"', {'WWW-Authenticate': 'Bearer'})
        response = await handler(request)
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response

    async def _realtime(self, request: web.Request) -> web.StreamResponse:
        if not origin_allowed(request.headers, self.access.origins):
            return self._refuse('origin', 403, 'this page may not connect: start the server with '
                                '--allow-origin')
        if reason := self._full():
            return self._refuse('full', 503, reason, {'Retry-After': '5'})
        if request.headers.get('Upgrade', '').lower() != 'websocket':
            return web.Response(status=426, text='this is a WebSocket\n',
                                headers={'Upgrade': 'websocket'})
        connection = Connection(self.pool, self.models, self.limits, self.metrics, self._log,
                                dialect_of(request.query))
        assert self._listener
        self._listener.keep(request.protocol)
        self.connections.add(connection)
        self.metrics.connections.inc()
        self.metrics.sessions.set(len(self.connections))
        try:
            return await connection.run(request)
        finally:
            self._listener.release(request.protocol)
            self.connections.discard(connection)
            self.pool.leave(connection.session.worker)
            self.metrics.sessions.set(len(self.connections))

    def _full(self) -> str:
        """Return why nobody else can be served now, '' if somebody can."""
        if self._stopping:
            return 'the server is being stopped'
        if len(self.connections) >= self.limits.sessions:
            return f'all {self.limits.sessions} sessions are taken: try again later'
        return self.pool.refusal()

    def _refuse(self, reason: str, status: int, text: str,
                headers: dict[str, str] | None = None) -> web.Response:
        self.metrics.rejected.labels(reason).inc()
        return web.Response(status=status, text=f'{text}\n', headers=headers)

    async def _healthz(self, _: web.Request) -> web.Response:
        """Report whether a new client would be served."""
        broken = 'stopping' if self._stopping else 'failing' if self.pool.is_failing else ''
        return web.json_response(
            {'status': broken or ('full' if self._full() else 'ok'),
             'sessions': len(self.connections), 'max_sessions': self.limits.sessions,
             'talking': self.pool.n_talking, 'max_streams': self.pool.n_slots,
             'model': self.models[0], 'token_needed': bool(self.access.token),
             'engines': self.pool.health()},
            status=503 if broken else 200)

    async def _models(self, _: web.Request) -> web.Response:
        """List the model as OpenAI's API and vLLM do, by the first of its names."""
        return web.json_response({'object': 'list', 'data': [
            {'id': self.models[0], 'object': 'model', 'owned_by': 'voxtral'}]})

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self.metrics.exposition(), headers={
            'Content-Type': 'text/plain; version=0.0.4; charset=utf-8'})


def _file(path: Path) -> Handler:
    async def send(_: web.Request) -> web.Response:
        return web.Response(body=path.read_bytes(), content_type=_PAGE_TYPES[path.suffix],
                            charset='utf-8')
    return send
