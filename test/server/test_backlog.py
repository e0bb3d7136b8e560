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

"""A client that is far ahead of the engine: nothing is lost, pings are answered, memory ends."""

import logging
import threading

import pytest
from support.realtime import running, ServedScript, wait_until
from support.scripted import join, PAUSE, Script, scripted_voice, silence
from voxtral_ros.server.inbox import Inbox
from voxtral_ros.server.limits import Limits
from websockets.exceptions import ConnectionClosed

MESSAGE_BYTES = 21_500  # an append of 500 ms
BUFFERED_S = 2.0


@pytest.fixture
def served():
    """Return a function that serves with limits, and an order that it understands."""
    script = Script()
    order = join(silence(1.0), script.say(' go', ' left'), silence(PAUSE))

    def serve(**limits):
        return running(ServedScript(script), Limits(buffered_s=BUFFERED_S, **limits))
    with scripted_voice():
        yield serve, order


def connection(server):
    """Return the only connection of a server."""
    [only] = server.server.connections
    return only


def waiting_bytes(server):
    return connection(server)._inbox.n_bytes


@pytest.mark.parametrize('dialect', [{}, {'model': ''}])
def test_pings_are_answered_while_audio_waits(served, dialect):
    serve, order = served
    with serve() as server, server.client() as client:
        client.update(**dialect)
        if dialect:
            client.commit()
        with server.engine.held():
            client.append(join(*[order] * 20))  # 30 times as much as the session takes
            assert client.socket.ping().wait(10)
            wait_until(lambda: connection(server).session.must_wait)
            assert waiting_bytes(server) > 40 * MESSAGE_BYTES
            client.commit(final=True)
            assert client.socket.ping().wait(10)
        events = client.until('transcription.done')
        assert events[-1]['text'] == ' '.join(['go left'] * 20)


def test_what_waits_ends_and_then_the_client_is_slowed_down_and_loses_nothing(served):
    serve, order = served
    limit = 20 * MESSAGE_BYTES
    with serve(backlog_bytes=limit) as server, server.client() as client:
        client.update()
        most = 0
        with server.engine.held():
            # So much that it does not fit into the buffers of the kernel.
            n_orders = 400
            sending = threading.Thread(target=client.append, daemon=True,
                                       args=(join(*[order] * n_orders),))
            sending.start()
            wait_until(lambda: waiting_bytes(server) >= limit)
            for _ in range(20):
                assert server.run(ran()) is None  # the loop has turned once more
                most = max(most, waiting_bytes(server))
            assert sending.is_alive()
        sending.join()
        client.commit()
        text = client.until('transcription.done')[-1]['text']
        assert text == ' '.join(['go left'] * n_orders)
        assert limit <= most <= limit + 2 * MESSAGE_BYTES


async def ran():
    pass


def test_an_inbox_counts_messages_however_short_they_are():
    inbox = Inbox(1000)
    while not inbox.full:
        inbox.put('')
    assert 2 <= len(inbox) <= 20
    inbox.clear()
    assert (len(inbox), inbox.n_bytes) == (0, 0)


def test_a_client_that_goes_while_its_audio_waits_is_logged_with_its_reason(served, caplog):
    serve, order = served
    with serve() as server:
        with server.engine.held():
            client = server.client()
            client.update()
            client.append(join(*[order] * 3))
            client.socket.close(1011, 'keepalive ping timeout')
            wait_until(lambda: not server.server.connections)
        [text] = messages(caplog)
        assert 'has gone while' in text
        assert 's of its audio' in text
        assert "1011 'keepalive ping timeout'" in text
        assert '127.0.0.1' in text


def test_a_client_that_goes_when_all_is_done_is_not_logged(served, caplog):
    serve, order = served
    with serve() as server:
        with server.client() as client:
            client.update()
            client.append(order)
            client.commit()
            client.until('transcription.done')
        wait_until(lambda: not server.server.connections)
        assert messages(caplog) == []


def messages(caplog):
    return [record.getMessage() for record in caplog.records
            if record.name.startswith('voxtral_ros') and record.levelno >= logging.WARNING]


def test_a_client_that_is_cut_off_for_a_long_message_is_logged(served, caplog):
    serve, _ = served
    with serve(message_bytes=10_000) as server, server.client() as client:
        with pytest.raises(ConnectionClosed):
            client.append(silence(1.0), block=16000)
            while True:
                client.receive()
        wait_until(lambda: not server.server.connections)
        [text] = messages(caplog)
        assert 'cut off' in text
        assert '10000' in text or 'too' in text.lower() or 'exceeds' in text
