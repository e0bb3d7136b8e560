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

"""Tokens, pages of other sites, TLS."""

import asyncio
import hmac
import json
import socket
import ssl
import subprocess
from types import SimpleNamespace
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from support.realtime import Client, running, ServedScript, wait_until
from voxtral_ros.server import listener
from voxtral_ros.server.access import has_token, origin_allowed, read_token
from voxtral_ros.server.app import Access
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException

TOKEN = 'sesame'


def status_of(url, **options):
    """Return the status with which a WebSocket is refused."""
    with pytest.raises(InvalidStatus) as refused:
        Client(url, **options)
    return refused.value.response.status_code


@pytest.fixture(scope='module')
def guarded():
    with running(ServedScript(), access=Access(TOKEN)) as server:
        yield server


# ---- tokens ----

def test_without_the_token_nobody_gets_in(guarded):
    assert status_of(guarded.url) == 401
    for wrong in ('Bearer open', 'Bearer', 'Bearer sesame2', f'Basic {TOKEN}', TOKEN, ''):
        assert status_of(guarded.url, additional_headers={'Authorization': wrong}) == 401


@pytest.mark.parametrize('scheme', ['Bearer', 'bearer', 'BEARER'])
def test_with_the_token_everybody_does(guarded, scheme):
    with guarded.client(additional_headers={'Authorization': f'{scheme} {TOKEN}'}):
        pass


def test_a_browser_gives_it_as_a_subprotocol(guarded):
    offers = ['realtime', f'openai-insecure-api-key.{TOKEN}']
    with guarded.client(subprotocols=offers) as client:
        assert client.socket.subprotocol == 'realtime'
    assert status_of(guarded.url, subprotocols=['realtime', 'openai-insecure-api-key.x']) == 401


def test_metrics_need_it_and_health_does_not(guarded):
    with pytest.raises(HTTPError, match='401'):
        urlopen(f'{guarded.http}/metrics')
    assert urlopen(f'{guarded.http}/healthz').status == 200
    request = Request(f'{guarded.http}/metrics', headers={'Authorization': f'Bearer {TOKEN}'})
    assert urlopen(request).status == 200


def test_it_is_compared_in_constant_time(monkeypatch):
    compared = []

    def compare(*pair):
        compared.append(pair)
        return hmac_compare(*pair)
    hmac_compare = hmac.compare_digest
    monkeypatch.setattr(hmac, 'compare_digest', compare)
    assert has_token({'Authorization': f'Bearer {TOKEN}'}, TOKEN)
    assert not has_token({'Authorization': 'Bearer \udcff'}, TOKEN)
    assert len(compared) == 2


@pytest.mark.parametrize('content', [b'', b'\n', b'two words', b'\xff\xfe', b'tab\there'])
def test_a_file_without_a_token_is_refused(tmp_path, content):
    path = tmp_path / 'token'
    path.write_bytes(content)
    with pytest.raises(ValueError, match='token in'):
        read_token(path)
    path.write_text(' sesame \nand more')
    assert read_token(path) == TOKEN
    with pytest.raises(ValueError, match='no token in'):
        read_token(tmp_path / 'nowhere')


# ---- pages ----

@pytest.mark.parametrize('origin, host, allowed, verdict', [
    (None, 'robot:8000', (), True),  # no browser
    ('http://127.0.0.1:8000', '127.0.0.1:8000', (), True),
    ('http://localhost:8000', 'localhost:8000', (), True),
    ('https://[::1]:8000', '[::1]:8000', (), True),
    ('http://192.168.1.5', '192.168.1.5', (), True),
    ('http://127.0.0.1:9000', '127.0.0.1:8000', (), False),
    ('https://evil.example', '127.0.0.1:8000', (), False),
    ('http://evil.example:8000', 'evil.example:8000', (), False),  # its name may point here
    ('null', '127.0.0.1:8000', (), False),
    ('', '', (), False),
    ('http://[', '[', (), False),
    ('https://robot.example', '127.0.0.1:8000', ('https://robot.example/',), True),
    ('https://robot.example.evil', '127.0.0.1:8000', ('https://robot.example',), False),
    ('https://evil.example', '127.0.0.1:8000', ('*',), True),
])
def test_origin(origin, host, allowed, verdict):
    headers = {'Host': host} if origin is None else {'Host': host, 'Origin': origin}
    assert origin_allowed(headers, allowed) is verdict


def test_a_page_of_another_site_does_not_get_in(scripted):
    assert status_of(scripted.server.url, origin='https://evil.example') == 403
    with scripted.server.client(origin=scripted.server.http):
        pass


# ---- TLS ----

@pytest.fixture(scope='module')
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tls')
    cert, key = folder / 'cert.pem', folder / 'key.pem'
    subprocess.run(
        ['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj',
         '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', str(key), '-out',
         str(cert)], check=True, capture_output=True)
    return SimpleNamespace(cert=cert, key=key)


async def nothing_said(url, context):
    """
    Commit an empty buffer, and return the kinds of the events.

    Not with the client of the other tests: it reads in one thread and writes in another, and
    before Python 3.13 that now and then stops an SSL socket for good.
    """
    async with connect(url, ssl=context, proxy=None) as client:
        kinds = [json.loads(await client.recv())['type']]
        await client.send('{"type": "session.update"}')
        await client.send('{"type": "input_audio_buffer.commit"}')
        return [*kinds, json.loads(await client.recv())['type']]


def test_a_tls_handshake_that_does_not_begin_ends(certificate, monkeypatch):
    monkeypatch.setattr(listener, '_HANDSHAKE_S', 0.2)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    with running(ServedScript(), access=Access(tls=context)) as server, \
            socket.create_connection(('127.0.0.1', server.port), timeout=10) as raw:
        assert raw.recv(1) == b''
        wait_until(lambda: not server.server._listener._opening)


def test_tls(certificate):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.cert, certificate.key)
    trust = ssl.create_default_context(cafile=certificate.cert)
    with running(ServedScript(), access=Access(tls=context)) as server:
        assert asyncio.run(nothing_said(server.url, trust)) == [
            'session.created', 'transcription.done']
        with pytest.raises((OSError, WebSocketException)):
            Client(server.url.replace('wss', 'ws'))
