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
Where connections come from: accepted here, and no more than there are file descriptors for.

asyncio's own server tries a hundred times at once when descriptors run out, logs each, and does so
again without a pause; and it accepts whatever comes.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import ssl

from aiohttp import web

from voxtral_ros.server.log import RateLimitedLog

_BACKLOG = 128
_HANDSHAKE_S = 10.0  # of TLS
_RETRY_S = 0.5
_MARGIN = 128  # descriptors for everything that is no connection
_USUAL_CONNECTIONS = 512
# A client that is slowed down has filled the buffers of TCP, and its pings stand behind that:
# 19 MB on one machine if the kernel chooses, 2 MB so. The buffer of the client grows with the size
# of the segments.
_RECEIVE_BYTES = 64 << 10
_SEGMENT_BYTES = 1400
_NO_RESOURCES = errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM


def connection_limit(asked: int | None = None) -> int:
    """
    Return how many connections there may be at the same time.

    :param asked: None is 512, or half of the descriptors of this process if that is less
    :raises ValueError: there are not so many descriptors
    """
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if descriptors == resource.RLIM_INFINITY:
        return asked or _USUAL_CONNECTIONS
    if asked is None:
        return max(1, min(_USUAL_CONNECTIONS, descriptors // 2))
    if asked + _MARGIN > descriptors:
        raise ValueError(
            f'{asked} connections are too many: this process may open {descriptors} files, and '
            f'{_MARGIN} of them are for other things; "ulimit -n {asked + _MARGIN}" allows more')
    return asked


class Listener:
    """Accepts connections; when there are too many, closes the oldest that is no session."""

    def __init__(self, server: web.Server, max_connections: int, tls: ssl.SSLContext | None,
                 log: RateLimitedLog) -> None:
        """
        Prepare; nothing is opened yet.

        :param server: makes the protocol of a connection
        """
        self._server, self._max, self._tls, self._log = server, max_connections, tls, log
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._opening: dict[asyncio.Task[None], None] = {}  # TLS handshakes, the oldest first
        self._sessions: set[object] = set()  # protocols

    def start(self, host: str, port: int) -> int:
        """
        Listen on all addresses of a host; return the port.

        :raises OSError: the address cannot be listened on
        """
        self._sockets = _bound(host, port)
        self._accepting = [asyncio.ensure_future(self._accept(sock)) for sock in self._sockets]
        return int(self._sockets[0].getsockname()[1])

    def close(self) -> None:
        """Free the port; connections stay."""
        for task in (*self._accepting, *self._opening):
            task.cancel()
        for sock in self._sockets:
            sock.close()

    def keep(self, protocol: object) -> None:
        """Never close this connection in favour of another one."""
        self._sessions.add(protocol)

    def release(self, protocol: object) -> None:
        """Let this connection be as all the others."""
        self._sessions.discard(protocol)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError as error:
                self._log.warning('no connection can be accepted: %s', error, once=True)
                if error.errno in _NO_RESOURCES:
                    self._make_room()
                await asyncio.sleep(_RETRY_S)
                continue
            if len(self._opening) + len(self._others()) + len(self._sessions) >= self._max:
                self._log.warning('there are %d connections: for every new one the oldest that '
                                  'is no session is closed', self._max, once=True)
                self._make_room()
            task = asyncio.ensure_future(self._open(sock))
            self._opening[task] = None
            task.add_done_callback(self._opening.pop)

    async def _open(self, sock: socket.socket) -> None:
        handshake_s = _HANDSHAKE_S if self._tls else None
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._server, sock, ssl=self._tls, ssl_handshake_timeout=handshake_s)
        except (OSError, asyncio.TimeoutError) as error:
            self._log.warning('a connection could not be opened: %s', error)

    def _others(self) -> list[web.RequestHandler]:
        """Return the open connections that are no sessions, the oldest first."""
        return [protocol for protocol in self._server.connections
                if protocol not in self._sessions and protocol.transport
                and not protocol.transport.is_closing()]

    def _make_room(self) -> None:
        if others := self._others():
            assert others[0].transport
            others[0].transport.abort()
        elif self._opening:
            next(iter(self._opening)).cancel()


def _bound(host: str, port: int) -> list[socket.socket]:
    """Return listening sockets for the addresses of a host that this machine has."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM,
                               flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    problem: OSError | None = None
    for family, _, _, _, address in dict.fromkeys(found):
        try:
            sock = socket.create_server(address, family=family, backlog=_BACKLOG)
        except OSError as error:
            problem = error
            if error.errno != errno.EADDRNOTAVAIL:  # as where localhost is ::1, without IPv6
                break
        else:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT_BYTES)
            sockets.append(sock)
    if problem and (not sockets or problem.errno != errno.EADDRNOTAVAIL):
        for sock in sockets:
            sock.close()
        raise problem
    return sockets
