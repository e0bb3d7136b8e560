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

"""Connections: no more than there are descriptors for, and newcomers get in all the same."""

import errno
import json
import logging
import resource
import socket
from unittest import mock
from urllib.request import urlopen

import pytest
from support.realtime import wait_until

from voxtral_ros.server import app, listener
from voxtral_ros.server.listener import connection_limit

HEALTH = b'GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n'


def asked_once(server):
    """Return a connection that has asked for /healthz and stays."""
    raw = socket.create_connection(('127.0.0.1', server.port), timeout=10)
    raw.sendall(HEALTH)
    assert raw.recv(4096).startswith(b'HTTP/1.1 200')
    return raw


def n_open(server):
    return len(server.server._runner.server.connections)


def is_closed(raw):
    try:
        return raw.recv(4096) == b''
    except ConnectionError:
        return True


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# ---- how many ----

@pytest.mark.parametrize('descriptors, asked, limit', [
    (20_000, None, 512), (1024, None, 512), (256, None, 128), (1, None, 1),
    (1024, 896, 896), (resource.RLIM_INFINITY, None, 512), (resource.RLIM_INFINITY, 9999, 9999)])
def test_the_limit_stays_below_the_descriptors_of_the_process(descriptors, asked, limit):
    with mock.patch.object(resource, 'getrlimit', lambda _: (descriptors, descriptors)):
        assert connection_limit(asked) == limit


def test_more_than_there_are_descriptors_for_is_an_error_that_names_the_remedy():
    with mock.patch.object(resource, 'getrlimit', lambda _: (1024, 4096)), \
            pytest.raises(ValueError, match=r'900 connections .* 1024 files.* "ulimit -n 1028"'):
        connection_limit(900)


# ---- who stays ----

def test_idle_connections_make_room_for_new_ones_and_sessions_stay(limited, caplog):
    serve, order = limited
    with serve(connections=6) as server, server.client() as client:
        client.update()
        client.append(order[:len(order) // 2])
        kept = [asked_once(server) for _ in range(20)]
        assert n_open(server) <= 6 + 1  # and one that is just being closed
        assert [is_closed(raw) for raw in kept[:15]] == [True] * 15
        kept[-1].sendall(HEALTH)
        assert kept[-1].recv(4096)
        with server.client() as newcomer:
            newcomer.update()
            newcomer.append(order)
            newcomer.commit()
            assert newcomer.until('transcription.done')[-1]['text'] == 'go left'
        client.append(order[len(order) // 2:])
        client.commit()
        assert client.until('transcription.done')[-1]['text'] == 'go left'
        for raw in kept:
            raw.close()
    assert len(warnings(caplog)) == 1  # not one per connection
    assert 'there are 6 connections' in warnings(caplog)[0]


def test_a_connection_whose_session_is_over_is_idle_again(limited):
    serve, _ = limited
    with serve(connections=4) as server:
        for _ in range(8):
            server.client().socket.close()
        wait_until(lambda: n_open(server) == 0)
        assert server.server._listener._sessions == set()


def test_a_connection_that_has_asked_once_is_closed_soon(limited, monkeypatch):
    monkeypatch.setattr(app, '_KEEP_ALIVE_S', 0.1)
    serve, order = limited
    with serve() as server, server.client() as client:
        with asked_once(server) as raw:
            assert is_closed(raw)
        client.update()  # a session has its own, much longer limit
        client.append(order)
        client.commit()
        assert client.until('transcription.done')[-1]['text'] == 'go left'


def test_a_request_that_never_ends_is_closed_too(limited, monkeypatch):
    monkeypatch.setattr(app, '_KEEP_ALIVE_S', 0.1)
    serve, _ = limited
    with serve() as server, \
            socket.create_connection(('127.0.0.1', server.port), timeout=10) as raw:
        raw.sendall(b'GET /healthz HTTP/1.1\r\nHost: ')
        assert is_closed(raw)


# ---- no descriptors left ----

def test_no_descriptor_left_is_survived_and_logged_once(limited, monkeypatch, caplog):
    monkeypatch.setattr(listener, '_RETRY_S', 0.01)
    serve, _ = limited
    with serve() as server:
        accept, attempts = server.loop.sock_accept, []

        async def refuse(sock):
            attempts.append(sock)
            if len(attempts) < 30:
                raise OSError(errno.EMFILE, 'Too many open files')
            return await accept(sock)
        old = asked_once(server)  # after this one, accepting was going on already
        server.loop.sock_accept = refuse
        asked_once(server).close()
        with urlopen(f'{server.http}/healthz', timeout=10) as answer:
            assert json.load(answer)['status'] == 'ok'
        assert len(attempts) >= 30
        assert is_closed(old)  # its descriptor was of more use to a new client
        texts = [text for text in warnings(caplog) if 'Too many open files' in text]
        assert len(texts) == 1


def test_the_port_is_free_after_a_stop(limited):
    serve, _ = limited
    with serve() as server:
        port = server.port
    with socket.create_server(('127.0.0.1', port)):
        pass


def test_an_address_that_is_in_use_is_an_error():
    with socket.create_server(('127.0.0.1', 0)) as taken:
        with pytest.raises(OSError) as error:
            listener._bound('127.0.0.1', taken.getsockname()[1])
        assert error.value.errno == errno.EADDRINUSE


def test_an_address_that_this_machine_lacks_is_left_out_where_there_are_others():
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, '', ('203.0.113.1', 0)),
             (socket.AF_INET, socket.SOCK_STREAM, 6, '', ('127.0.0.1', 0))]
    with mock.patch.object(socket, 'getaddrinfo', lambda *_, **__: found):
        [sock] = listener._bound('localhost', 0)
        assert sock.getsockname()[0] == '127.0.0.1'
        sock.close()
    with mock.patch.object(socket, 'getaddrinfo', lambda *_, **__: found[:1]), \
            pytest.raises(OSError) as error:
        listener._bound('localhost', 0)
    assert error.value.errno == errno.EADDRNOTAVAIL
