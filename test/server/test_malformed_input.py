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

"""Whatever a client sends, an error event names what was wrong, and others do not notice."""

from contextlib import suppress
import json
import socket

import pytest
from support.realtime import encoded
from websockets.exceptions import ConnectionClosed


@pytest.fixture
def neighbour(scripted):
    """Have somebody else in the middle of an utterance; check afterwards that he gets his text."""
    with scripted.server.client() as other:
        other.update()
        half = len(scripted.order) // 2
        other.append(scripted.order[:half])
        yield other
        other.append(scripted.order[half:])
        other.commit()
        assert other.until('transcription.done')[-1]['text'] == 'go to the kitchen'


@pytest.mark.parametrize('text, code', [
    ('', 'invalid_json'),
    ('{"type"', 'invalid_json'),
    ('nonsense', 'invalid_json'),
    ('[' * 100_000, 'invalid_json'),
    ('{"a":' * 50_000, 'invalid_json'),
    ('{"type": "input_audio_buffer.commit", "final": ' + '9' * 5000 + '}', 'invalid_json'),
    ('[]', 'invalid_event'),
    ('null', 'invalid_event'),
    ('5', 'invalid_event'),
    ('NaN', 'invalid_event'),
    ('"session.update"', 'invalid_event'),
    ('{}', 'unknown_event'),
    ('{"type": null}', 'unknown_event'),
    ('{"type": 5}', 'unknown_event'),
    ('{"type": {"a": []}}', 'unknown_event'),
    ('{"type": "transcription.delta"}', 'unknown_event'),
    ('{"type": "\\ud800"}', 'unknown_event'),
    (json.dumps({'type': 'x' * 100_000}), 'unknown_event'),
    ('{"type": "session.update", "model": "\\ud800"}', 'model_not_found'),
    ('{"type": "input_audio_buffer.commit", "final": 2}', 'invalid_event'),
    ('{"type": "input_audio_buffer.commit", "final": "maybe"}', 'invalid_event'),
    ('{"type": "input_audio_buffer.commit", "final": ["true"]}', 'invalid_event'),
    ('{"type": "input_audio_buffer.append"}', 'processing_error'),
    ('{"type": "input_audio_buffer.append", "audio": null}', 'processing_error'),
    ('{"type": "input_audio_buffer.append", "audio": [0, 0]}', 'processing_error'),
    ('{"type": "input_audio_buffer.append", "audio": ""}', 'invalid_audio'),
    ('{"type": "input_audio_buffer.append", "audio": "A"}', 'invalid_audio'),
    ('{"type": "input_audio_buffer.append", "audio": "AA=="}', 'invalid_audio'),
    ('{"type": "input_audio_buffer.append", "audio": "AAAA"}', 'invalid_audio'),
    ('{"type": "input_audio_buffer.append", "audio": "AA\\u00e4A"}', 'invalid_audio'),
    ('{"type": "input_audio_buffer.append", "audio": " \\n "}', 'invalid_audio'),
    ('{"type": "input_audio_buffer.append", "audio": "AA_-"}', 'invalid_audio'),
    ('{"type": "input_audio_buffer.append", "audio": "data:audio/pcm;base64,AAA="}',
     'invalid_audio'),
])
def test_an_error_event_and_nothing_else(scripted, neighbour, client, text, code):
    client.socket.send(text)
    error = client.expect('error')
    assert error['code'] == code
    assert len(error['error']) < 500
    client.update()
    client.append(scripted.order)
    client.commit()
    assert client.until('transcription.done')[-1]['text'] == 'go to the kitchen'


def test_binary_frames(neighbour, client):
    client.socket.send(b'\0\1' * 1000)
    assert client.expect('error')['code'] == 'invalid_event'
    client.update()
    client.commit()
    client.expect('transcription.done')


def test_a_message_of_100_mb(neighbour, client):
    sample = encoded([0.25] * 3000)
    text = '{"type": "input_audio_buffer.append", "audio": "' + sample * (100_000_000 // 8000)
    with suppress(ConnectionClosed):  # while it is being sent
        client.socket.send(text)
    events, code = client.rest()
    assert [event['type'] for event in events] == ['error']
    assert 'too long' in events[0]['error']
    assert code == 1009


def raw_socket(scripted):
    return socket.create_connection(('127.0.0.1', scripted.server.port), timeout=10)


def handshake(raw):
    raw.sendall(b'GET /v1/realtime HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n'
                b'Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n'
                b'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n')
    assert raw.recv(100).startswith(b'HTTP/1.1 101')


def everything(raw):
    """Return what comes until the other side closes."""
    data = b''
    with suppress(ConnectionResetError):  # by a server that has not read all of a long request
        while chunk := raw.recv(65536):
            data += chunk
    return data


@pytest.mark.parametrize('frame, complaint', [
    (b'\xff\xff\xff\xff', b'protocol'),  # reserved bits
    (b'\x81\x05hello', b''),  # not masked, which clients must
    (b'\x81\x81\0\0\0\0\xff', b'UTF-8'),
    (b'\x81\xff' + b'\xff' * 8, b'too long'),  # 2^64 - 1 bytes
    (b'\x89\xfe\x10\0', b'protocol'),  # a ping of 4096 bytes
])
def test_frames_that_are_none(scripted, neighbour, frame, complaint):
    with raw_socket(scripted) as raw:
        handshake(raw)
        raw.sendall(frame + b'\x88\x80\0\0\0\0')  # and a close, for those that are tolerated
        assert complaint in everything(raw)


@pytest.mark.parametrize('request_', [
    b'\0' * 1000, b'GET / HTTP/9.9\r\n\r\n', b'GET ' + b'a' * 100_000 + b' HTTP/1.1\r\n\r\n',
    b'GET /v1/realtime HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n',
    b'GET /v1/realtime HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
    b'POST /v1/realtime HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n',
    b'GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'])
def test_requests_that_are_none(scripted, neighbour, request_):
    with raw_socket(scripted) as raw:
        with suppress(OSError):  # the server has closed it before the end
            raw.sendall(request_)
            raw.shutdown(socket.SHUT_WR)
        assert b' 200 ' not in everything(raw)[:20]
