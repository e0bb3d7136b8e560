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

"""A server that could not keep up with another client says so instead of taking it."""

import json
from urllib.request import urlopen

import pytest
from support.realtime import running, ServedScript, wait_until
from support.scripted import join, PAUSE, Script, scripted_voice, silence, voice
from voxtral_ros.recognizer.admission import Admission
from voxtral_ros.server.limits import Limits
from websockets.exceptions import InvalidStatus


@pytest.fixture
def script():
    with scripted_voice():
        yield Script()


def busy_engine(script, milliseconds, **options):
    """Return an engine whose passes over one stream took so long of late."""
    engine = ServedScript(script, **options)
    engine.admission = Admission(0.08)
    for _ in range(20):
        engine.admission.passed(1, 1, milliseconds / 1e3)
    return engine


def status(server):
    with urlopen(f'{server.http}/healthz') as answer:
        return json.load(answer)['status']


def speak(server, *clients):
    """Let clients speak, and wait until the model computes for them."""
    before = server.worker.n_talking
    for client in clients:
        client.update()
        client.append(voice(0.5))
    wait_until(lambda: server.worker.n_talking == before + len(clients))


def test_a_client_too_many_is_published_why(script):
    order = join(silence(1.0), script.say(' go', ' left'), silence(PAUSE))
    with running(busy_engine(script, 60), Limits(overload=False)) as server:
        assert status(server) == 'ok'  # the first one is always taken
        with server.client() as first:
            assert status(server) == 'ok'  # it is connected, but nobody speaks
            speak(server, first)
            assert status(server) == 'full'
            with pytest.raises(InvalidStatus) as refused:
                server.client()
            assert refused.value.response.status_code == 503
            assert b'would take about 120 ms' in refused.value.response.body
            assert refused.value.response.headers['Retry-After']
            assert server.server.metrics.value('voxtral_rejected_total', reason='full') == 1
            first.append(order)
            first.commit()
            assert first.until('transcription.done')[-1]['text'] == 'go left'
            wait_until(lambda: status(server) == 'ok')


def test_a_client_for_whom_there_is_time_is_taken(script):
    with running(busy_engine(script, 30), Limits(overload=False)) as server, \
            server.client() as first, server.client() as second:
        speak(server, first)
        assert status(server) == 'ok'
        speak(server, second)
        assert status(server) == 'full'
        # Predicted for both, and never for more than are connected.
        assert server.server.metrics.value('voxtral_step_seconds') == pytest.approx(0.06)


def test_with_overload_everybody_is_taken(script):
    with running(busy_engine(script, 60), Limits(overload=True)) as server, \
            server.client() as first, server.client() as second:
        speak(server, first, second)
        assert status(server) == 'ok'


def test_who_could_not_be_transcribed_at_the_same_time_anyway_is_taken(script):
    """All streams are in use: one more client waits for one, and makes nobody late."""
    with running(busy_engine(script, 60, max_streams=1), Limits(overload=False)) as server, \
            server.client() as first:
        speak(server, first)
        assert status(server) == 'ok'
        assert server.server.metrics.value('voxtral_step_seconds') == pytest.approx(0.06)
