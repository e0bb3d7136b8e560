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

"""SIGTERM: what is being said is finished, done is sent, the code is 1001."""

import re
import threading
import time
from types import SimpleNamespace

import pytest
from support.realtime import running, ServedScript, ServerProcess, wait_until
from support.scripted import join, PAUSE, Script, scripted_voice, silence
from voxtral_ros.server import connection, worker
from voxtral_ros.server.limits import Limits
from websockets.exceptions import WebSocketException


@pytest.fixture
def stopped():
    """Serve; the test stops the server itself."""
    script = Script()
    audio = join(silence(1.0), script.say(' go'), silence(PAUSE))
    with scripted_voice(), running(ServedScript(script), Limits(stop_s=2.0)) as server:
        yield SimpleNamespace(server=server, audio=audio)


@pytest.fixture
def limited_stop():
    """Serve with a session that takes two seconds of audio at a time."""
    script = Script()
    audio = join(silence(1.0), script.say(' go'), silence(PAUSE))
    limits = Limits(stop_s=2.0, buffered_s=2.0)
    with scripted_voice(), running(ServedScript(script), limits) as server:
        yield SimpleNamespace(server=server, audio=audio)


def test_every_dialect_gets_its_text(stopped):
    server, audio = stopped.server, stopped.audio
    clients = [server.client() for _ in range(3)]
    clients[0].update()
    clients[1].update(model='')
    clients[1].commit()
    clients[2].send('transcription_session.update', session={'turn_detection': None})
    clients[2].send('session.update', sample_rate=16000)
    for client in clients:
        client.append(audio)
        client.until('conversation.item.input_audio_transcription.delta'
                     if client is clients[2] else 'transcription.delta')
    server.stop()
    for client in clients:
        events, code = client.rest()
        last = [event for event in events if 'usage' in event][-1]
        assert last.get('text', last.get('transcript')) == 'go'
        assert code == 1001


def test_what_follows_a_commit_is_finished_too(stopped):
    class Slow(type(stopped.server.engine)):

        def step(self):
            time.sleep(0.001)
            return super().step()
    stopped.server.engine.__class__ = Slow
    with stopped.server.client() as client:
        client.update()
        for _ in range(3):
            client.append(stopped.audio)
            client.commit()
        client.append(stopped.audio)  # without a commit
        client.until('transcription.delta')
        stopped.server.stop()
        events, code = client.rest()
        assert [event['text'] for event in events if 'usage' in event] == ['go'] * 4
        assert code == 1001


def test_who_has_said_nothing_is_just_disconnected(stopped):
    with stopped.server.client() as client:
        stopped.server.stop()
        assert client.rest() == ([], 1001)


def stop_while_held(stopped, client):
    """Stop while nothing is recognised; return what the client gets, and the code."""
    stopping = threading.Thread(target=stopped.server.stop)
    with stopped.server.engine.held():
        stopping.start()
        events = client.until('error')  # in spite of an engine that does nothing
    stopping.join()
    more, code = client.rest()
    return events + more, code


@pytest.mark.parametrize('n_generations', [1, 40])
def test_what_is_not_done_in_time_is_answered_with_an_error(stopped, n_generations):
    with stopped.server.client() as client:
        client.update()
        with stopped.server.engine.held():
            for _ in range(n_generations):
                client.append(stopped.audio)
                client.commit()
            client.append(stopped.audio)
            assert client.socket.ping().wait(10)
            events, code = stop_while_held(stopped, client)
    [error] = [event for event in events if event['type'] == 'error']
    assert error['code'] == 'server_stopping'
    seconds = float(re.search(r'([0-9.]+) s of audio', error['error'])[1])
    assert 0 < seconds <= (n_generations + 1) * len(stopped.audio) / 16000 + 0.1
    assert len([event for event in events if 'usage' in event]) < n_generations + 1
    assert code == 1001


def test_messages_that_were_not_read_are_told_too(limited_stop):
    server, audio = limited_stop.server, limited_stop.audio
    with server.client() as client:
        client.update()
        with server.engine.held():
            client.append(join(*[audio] * 20))
            assert client.socket.ping().wait(10)
            events, code = stop_while_held(limited_stop, client)
    [error] = [event for event in events if event['type'] == 'error']
    assert re.search(r'and [0-9]+ messages that were not read', error['error'])
    assert code == 1001


def test_messages_that_wait_are_transcribed_if_there_is_time(limited_stop):
    server, audio = limited_stop.server, limited_stop.audio
    with server.client() as client:
        client.update()
        with server.engine.held():
            client.append(join(*[audio] * 5))
            assert client.socket.ping().wait(10)
        server.stop()
        events, code = client.rest()
    assert events[-1]['text'] == ' '.join(['go'] * 5)
    assert code == 1001


def test_an_engine_that_does_not_come_back_does_not_hold_up_the_stop(stopped, monkeypatch, caplog):
    monkeypatch.setattr(worker, '_STOP_S', 0.2)
    monkeypatch.setattr(connection, '_CUT_S', 0.2)
    server = stopped.server
    with server.engine.held(), server.client() as client:
        client.update()
        client.append(stopped.audio)
        wait_until(lambda: server.server.metrics.value('voxtral_messages_total') == 8)
        server.stop()
        events, code = client.rest()
        assert [event['code'] for event in events] == ['server_stopping']
        assert code == 1001
        assert 'is left alone' in caplog.text


def test_nobody_gets_in_afterwards(stopped):
    stopped.server.stop()
    with pytest.raises((OSError, WebSocketException)):
        stopped.server.client()


def test_sigterm_ends_the_process_with_0():
    with ServerProcess() as process:
        client = process.client()
        client.update()
        client.append(silence(2.0))
        process.terminate()
        events, code = client.rest()
        assert events[-1]['type'] == 'transcription.done'
        assert code == 1001
        assert process.process.wait(timeout=60) == 0
