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

import time
from types import SimpleNamespace

import pytest
from support.realtime import running, ServedScript, ServerProcess
from support.scripted import join, PAUSE, Script, scripted_voice, silence
from voxtral_ros.server.limits import Limits
from websockets.exceptions import WebSocketException


@pytest.fixture
def stopped():
    """Serve; the test stops the server itself."""
    script = Script()
    audio = join(silence(1.0), script.say(' go'), silence(PAUSE))
    with scripted_voice(), running(ServedScript(script), Limits(stop_s=2.0)) as server:
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
    class Slow(type(stopped.server.server.engine)):

        def step(self):
            time.sleep(0.001)
            return super().step()
    stopped.server.server.engine.__class__ = Slow
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
