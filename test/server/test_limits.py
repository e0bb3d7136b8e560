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

"""What one client may take, and that the others get theirs whatever it does."""

import asyncio
from contextlib import suppress
import json
import socket
import time

import pytest
from support.realtime import encoded, said, wait_until
from support.scripted import join, silence
from voxtral_ros.server import app
from voxtral_ros.server.limits import Limits, RateLimit
from voxtral_ros.server.outbox import Outbox
from websockets.exceptions import ConnectionClosed, InvalidStatus


def transcribed(client, samples):
    client.update()
    client.append(samples)
    client.commit()
    return client.until('transcription.done')[-1]['text']


# ---- sessions ----

def test_more_clients_than_sessions_are_published_to_come_back(limited):
    serve, order = limited
    with serve(sessions=2) as server:
        first, second = server.client(), server.client()
        with pytest.raises(InvalidStatus) as refused:
            server.client()
        assert refused.value.response.status_code == 503
        assert refused.value.response.headers['Retry-After']
        first.socket.close()
        with eventually(server.client) as third:
            assert transcribed(third, order) == 'go left'
        second.socket.close()
        assert server.server.metrics.value('voxtral_rejected_total', reason='full') >= 1


def eventually(connect):
    """Connect as soon as a place is free."""
    for _ in range(200):
        try:
            return connect()
        except InvalidStatus:
            time.sleep(0.05)
    raise AssertionError('no place became free')


def test_a_place_is_free_again_after_a_connection_breaks(limited):
    serve, order = limited
    with serve(sessions=1) as server:
        for _ in range(3):
            client = eventually(server.client)
            client.update()
            client.append(order[:16000])
            client.socket.socket.shutdown(socket.SHUT_RDWR)  # no closing handshake
        wait_until(lambda: server.engine.n_open == 0)  # nobody computes for them
        with eventually(server.client) as client:
            assert transcribed(client, order) == 'go left'


# ---- audio that waits ----

def test_audio_before_the_commit_is_limited(limited):
    serve, order = limited
    with serve(buffered_s=6.0) as server, server.client() as client:
        client.update(model='')
        client.append(order)
        client.append(silence(10), block=160000)
        assert client.expect('error')['code'] == 'buffer_full'
        client.commit()
        client.commit(final=True)  # what was accepted is transcribed
        assert said(client.until('transcription.done')) == 'go left'
        assert server.server.metrics.value('voxtral_dropped_audio_seconds_total') == 10


def test_a_client_that_is_faster_than_the_engine_is_slowed_down_and_loses_nothing(limited):
    serve, order = limited
    with serve(buffered_s=2.0) as server, server.client() as client:
        waiting = server.server.metrics
        most = []
        step = server.engine.step

        def measured():
            most.append(waiting.value('voxtral_waiting_audio_seconds'))
            time.sleep(0.002)  # slower than the client
            return step()
        server.engine.step = measured
        assert transcribed(client, join(*[order] * 20)) == ' '.join(['go left'] * 20)
        assert 1.0 < max(most) <= 2.0 + 0.5  # and the message that went over it


# ---- messages ----

def test_a_message_over_the_limit_ends_the_connection(limited):
    serve, order = limited
    with serve(message_bytes=100_000) as server:
        with server.client() as client:
            client.send('input_audio_buffer.append', audio=encoded(silence(3.0)))
            events, code = client.rest()
        assert [event['code'] for event in events] == ['invalid_event']
        assert code == 1009
        with server.client() as client:
            assert transcribed(client, order) == 'go left'


def test_fragments_count_together(limited):
    serve, _ = limited
    with serve(message_bytes=100_000) as server, server.client() as client:
        with suppress(ConnectionClosed):  # while they are being sent
            client.socket.send(['x' * 20_000] * 10)
        assert client.rest()[1] == 1009


def test_rate_limit_asks_for_pauses_only_over_the_rate():
    limit = RateLimit(100.0)
    assert [limit.take() for _ in range(100)] == [0.0] * 100
    pauses = [limit.take() for _ in range(50)]
    assert pauses[-1] > pauses[0] >= 0
    assert pauses[-1] <= 0.5


def test_a_flood_is_read_slowly_and_answered_completely(limited):
    serve, order = limited
    with serve(messages_per_s=200.0) as server, server.client() as flood, \
            server.client() as other:
        for _ in range(300):
            flood.socket.send('{')
        assert transcribed(other, order) == 'go left'
        assert {flood.expect('error')['code'] for _ in range(300)} == {'invalid_json'}


def test_pings_count_as_messages(limited, monkeypatch):
    waits = []
    monkeypatch.setattr(RateLimit, 'take', lambda _: waits.append(1) or 0.0)
    serve, _ = limited
    with serve() as server, server.client() as client:
        for _ in range(20):
            assert client.socket.ping().wait(10)
    assert len(waits) >= 20


# ---- commits without audio ----

@pytest.mark.parametrize('dialect', [{}, {'model': ''}])
def test_an_empty_commit_is_answered_and_nothing_is_computed(limited, dialect):
    serve, _ = limited
    with serve() as server, server.client() as client:
        opened, engine = [], server.engine
        take_slot = engine.take_slot
        engine.take_slot = lambda delay: opened.append(delay) or take_slot(delay)
        client.update(**dialect)
        if 'model' in dialect:
            client.commit()
        client.commit(final=True)
        event = client.receive()
        while 'usage' not in event:
            event = client.receive()
        assert event.get('text', event.get('transcript')) == ''
        assert event['usage']['total_tokens'] == 0
        assert opened == []


def test_commits_that_wait_are_counted_like_audio(limited):
    serve, order = limited
    with serve(buffered_s=60.0) as server, server.client() as client:
        client.update()
        with server.engine.held():
            client.append(order)
            for _ in range(100):
                client.append(silence(0.01), block=160)
                client.commit()
            [connection] = server.server.connections
            wait_until(lambda: connection.session.must_wait)
            # 1 s of audio in all, but every generation takes 4 s of silence besides
            assert 10 <= connection.session._queue.n_ends <= 20
        for _ in range(100):
            client.until('transcription.done')


def test_final_commits_before_a_bare_one_do_not_pile_up(limited):
    serve, _ = limited
    with serve(buffered_s=60.0) as server, server.client() as client:
        client.update(model='')
        for _ in range(30):
            client.commit(final=True)
        assert client.expect('error')['code'] == 'buffer_full'
        [connection] = server.server.connections
        assert connection.session._queue.n_ends <= 20


# ---- silence ----

def test_an_idle_client_is_published_and_disconnected(limited):
    serve, _ = limited
    with serve(idle_s=0.3) as server, server.client() as client:
        events, code = client.rest()
    assert [event['code'] for event in events] == ['idle_timeout']
    assert code == 1000


@pytest.mark.parametrize('frame', [b'\x89\x80\0\0\0\0', b'\x8a\x80\0\0\0\0'])
def test_pings_and_pongs_are_no_events(limited, frame):
    serve, _ = limited
    with serve(idle_s=0.5) as server, server.client() as client:
        for _ in range(300):  # longer than any number of timeouts, if nothing ends it
            try:
                client.socket.socket.sendall(frame)
                event = client.socket.recv(timeout=0.1)
            except TimeoutError:
                continue
            break
        assert json.loads(event)['code'] == 'idle_timeout'
        assert client.rest() == ([], 1000)


def test_who_waits_for_text_is_not_idle(limited):
    serve, order = limited
    with serve(idle_s=0.5) as server, server.client() as client:
        client.update()
        client.append(order)
        with server.engine.held():
            client.commit()
            with pytest.raises(TimeoutError):
                client.socket.recv(timeout=1.5)
        assert client.until('transcription.done')[-1]['text'] == 'go left'


def test_a_connection_that_asks_for_nothing_is_closed(limited, monkeypatch):
    monkeypatch.setattr(app, '_KEEP_ALIVE_S', 0.1)
    serve, order = limited
    with serve() as server, server.client() as client:
        with socket.create_connection(('127.0.0.1', server.port), timeout=10) as raw:
            assert raw.recv(1) == b''
        assert transcribed(client, order) == 'go left'  # longer than three looks


# ---- clients that do not read ----

@pytest.mark.parametrize('limit, deltas', [
    (4, ['go', '', ' left', ' now']), (2, ['go', ' left now'])])
def test_waiting_deltas_beyond_the_limit_grow_together(limit, deltas):
    outbox = Outbox(Limits(deltas=limit))
    for delta in ('go', '', ' left', ' now'):
        outbox.put({'type': 'transcription.delta', 'delta': delta})
    outbox.put({'type': 'transcription.done', 'text': 'go left now'})
    outbox.close()
    *events, done = asyncio.run(everything(outbox))
    assert [event['delta'] for event in events] == deltas
    assert done['text'] == 'go left now'
    assert not outbox.overflowed.is_set()


def test_deltas_do_not_keep_a_client_from_sending():
    async def fill_and_empty():
        outbox = Outbox(Limits(replies=2))
        for _ in range(100):
            outbox.put({'type': 'transcription.delta', 'delta': ''})
        outbox.put({'type': 'error', 'error': 'no', 'code': 'no'})
        assert not outbox.full
        for _ in range(100):
            await outbox.get()
        outbox.put({'type': 'error', 'error': 'no', 'code': 'no'})
        assert outbox.full
    asyncio.run(fill_and_empty())


def test_deltas_with_words_stay_apart():
    outbox = Outbox(Limits())
    for delta in ('go', 'al'):
        outbox.put({'type': 'transcription.delta', 'delta': delta, 'words': [delta]})
    outbox.close()
    assert len(asyncio.run(everything(outbox))) == 2


def test_an_outbox_overflows_by_bytes_and_is_full_by_events():
    outbox = Outbox(Limits(replies=3, reply_bytes=5000))
    for _ in range(3):
        assert not outbox.full
        outbox.put({'type': 'error', 'error': 'no', 'code': 'no'})
    assert outbox.full
    assert not outbox.overflowed.is_set()
    outbox.put({'type': 'transcription.done', 'text': 'x' * 5000})
    assert outbox.overflowed.is_set()


async def everything(outbox):
    events = []
    while text := await outbox.get():
        events.append(json.loads(text))
    return events


@pytest.mark.slow
def test_a_client_that_never_reads_is_cut_off_and_nobody_waits_for_it(limited):
    serve, order = limited
    with serve(send_s=0.5, messages_per_s=1e9) as server, server.client() as other:
        with socket.socket() as raw:
            raw.settimeout(30)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # soon full
            raw.connect(('127.0.0.1', server.port))
            raw.sendall(b'GET /v1/realtime HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n'
                        b'Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n'
                        b'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n')
            assert transcribed(other, order) == 'go left'
            nonsense = b'\x81\x81\0\0\0\0{' * 10_000  # every one has an answer
            with pytest.raises(OSError):
                for _ in range(1000):
                    raw.sendall(nonsense)
        assert transcribed(other, order) == 'go left'
        assert server.server.metrics.value('voxtral_slow_readers_total') == 1
