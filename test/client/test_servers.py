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

"""Several servers, of which the first that is well is used; and what their models are called."""

import asyncio

import pytest
from support.realtime import (
    DATA, MODEL, running, ServedScript, ServerProcess, wait_for, WAIT_S, wait_until)
from support.scripted import (
    feed, finals, join, PAUSE, RATE, Script, scripted_voice, silence, texts, transcripts, voice)
from support.vllm import vllm

from voxtral_ros.audio.files import read_file
from voxtral_ros.audio.resample import resampled
from voxtral_ros.client import servers
from voxtral_ros.client.engine import RemoteEngine
from voxtral_ros.client.servers import addresses
from voxtral_ros.recognizer.model_name import matching_model

NOBODY = 'ws://127.0.0.1:1/v1/realtime'
GO = ' go'


@pytest.fixture
def script():
    with scripted_voice():
        yield Script()


def say(script, word):
    return join(silence(1.0), script.say(word), silence(PAUSE))


def end(stream):
    events = wait_for(stream, lambda _: stream.link.state == 'connected'
                      and stream.link.waiting_s == 0)
    return events + stream.close(WAIT_S)


@pytest.mark.parametrize('urls', [
    'ws://a/v1 wss://b/v1', 'ws://a/v1,wss://b/v1', ' ws://a/v1\n\nwss://b/v1\n',
    ['ws://a/v1', 'wss://b/v1'], ('ws://a/v1', 'wss://b/v1', 'ws://a/v1')])
def test_several_addresses(urls):
    assert addresses(urls) == ('ws://a/v1', 'wss://b/v1')
    engine = RemoteEngine(urls)
    assert engine.url == 'ws://a/v1'
    assert engine.urls == ('ws://a/v1', 'wss://b/v1')


@pytest.mark.parametrize('urls', [[], ['ws://a/v1', 'http://b'], 'ws://a/v1, b:8000'])
def test_a_wrong_one_among_several_is_refused(urls):
    with pytest.raises(ValueError, match='ws://host:8000/v1/realtime'):
        RemoteEngine(urls)


def test_a_server_that_is_not_there_or_full_is_passed_over(script):
    with vllm(script) as full, vllm(script) as good:
        full.full = True
        stream = RemoteEngine([NOBODY, full.url, good.url]).open()
        events = feed(stream, say(script, GO)) + end(stream)
    assert texts(events) == ['go']
    assert stream.link.url == good.url
    assert '503' in stream.link.error
    assert full.updates == []


@pytest.mark.parametrize('ended', [True, False])
def test_a_silent_server_is_left_in_the_middle_of_an_utterance(script, monkeypatch, ended):
    monkeypatch.setattr(servers, '_STAND_IN_ANSWER_S', 0.5)
    with vllm(script) as silent, vllm(script) as good:
        silent.silent = True
        stream = RemoteEngine([silent.url, good.url]).open()
        events = feed(stream, join(silence(1.0), script.say(GO), voice(1.0),
                                   silence(PAUSE if ended else 0.0)))
        wait_until(lambda: stream.link.url == good.url and stream.link.state == 'connected')
        events += feed(stream, silence(PAUSE)) + end(stream)
    assert texts(events) == ['go']
    assert len(silent.updates) == 1
    assert stream.link.dropped_s == 0


def test_back_to_the_first_between_two_utterances(script, monkeypatch):
    monkeypatch.setattr(servers, '_LOOK_BACK_S', 0.05)
    with vllm(script) as first, vllm(script) as second:
        first.full = True
        engine = RemoteEngine([first.url, second.url])
        stream = engine.open()
        events = feed(stream, join(silence(1.0), script.say(GO), voice(1.2)))
        events += wait_for(stream, lambda new: transcripts(events + new))
        assert engine.url == stream.link.url == engine.description == second.url
        first.full = False
        wait_until(lambda: first.updates)  # it is looked at
        events += feed(stream, join(script.say(' left'), voice(1.2)))
        events += wait_for(stream, lambda new: transcripts(events + new)[-1].text == 'go left')
        assert stream.link.url == second.url  # not within an utterance
        events += feed(stream, silence(PAUSE))
        wait_until(lambda: stream.link.url == first.url)
        events += feed(stream, say(script, ' stop')) + end(stream)
    assert texts(events) == ['go left', 'stop']
    assert stream.link.url == first.url
    assert stream.link.dropped_s == 0


def test_a_first_server_without_the_model_is_not_gone_back_to(script, monkeypatch):
    monkeypatch.setattr(servers, '_LOOK_BACK_S', 0.05)
    with vllm(script) as first, vllm(script) as second:
        first.models, second.models = ['other', 'others'], ['voxtral']
        stream = RemoteEngine([first.url, second.url], model='voxtral').open()
        wait_until(lambda: len(first.updates) >= 3)
        events = feed(stream, say(script, GO)) + end(stream)
    assert texts(events) == ['go']
    assert stream.link.connects == 1
    assert stream.link.url == second.url
    assert len(second.updates) == 1  # the connection was kept


def test_a_first_server_that_is_not_so_well_after_all_is_looked_at_less_often(monkeypatch):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    async def is_well(url):
        return url == 'ws://a/v1/realtime'

    chosen = servers.Servers(servers.Remote(('ws://a/v1/realtime', 'ws://b/v1/realtime')))
    monkeypatch.setattr(servers.asyncio, 'sleep', sleep)
    monkeypatch.setattr(chosen, '_is_well', is_well)
    for _ in range(3):
        chosen.failed()
        asyncio.run(chosen.look_back())
        assert chosen.url == 'ws://a/v1/realtime'
    chosen.worked()
    chosen.failed()
    asyncio.run(chosen.look_back())
    assert slept == [10.0, 20.0, 40.0, 10.0]


def test_connected_means_that_the_model_is_there_and_the_error_says_that_it_is_not(script):
    with vllm(script) as server:
        server.models = ['one', 'two']
        stream = RemoteEngine(server.url, model='three').open()
        wait_until(lambda: len(server.updates) >= 3)
        assert stream.link.state == 'down'
        assert stream.link.connects == 0
        assert 'model_not_found' in stream.link.error
        assert 'does not exist' in stream.link.error
        stream.abandon()
    with running(ServedScript(script)) as server:
        stream = RemoteEngine(server.url, model='three').open()
        wait_until(lambda: stream.link.state == 'connected' or MODEL in stream.link.error)
        stream.abandon()


@pytest.mark.parametrize(('asked', 'models', 'found'), [
    ('Voxtral', ['mistralai/Voxtral', 'other'], 'mistralai/Voxtral'),
    ('mistralai/Voxtral', ['/models/Voxtral/', 'other'], '/models/Voxtral/'),
    ('Voxtral', ['served'], 'served'), ('Voxtral', ['a', 'Voxtral'], 'Voxtral'),
    ('', ['a', 'b'], '')])
def test_a_model_is_found_by_what_vllm_lists(script, asked, models, found):
    with vllm(script) as server:
        server.models = models
        stream = RemoteEngine(server.url, model=asked).open()
        events = feed(stream, say(script, GO)) + end(stream)
    assert texts(events) == ['go']
    assert server.updates[-1]['model'] == found
    assert stream.link.connects == 1
    assert stream.link.error == ''


@pytest.mark.parametrize(('asked', 'names', 'found'), [
    ('a/b', ['b', 'a/b'], 'a/b'), ('b', ['x/b', 'y/b'], ''), ('', ['x'], ''),
    ('b/', ['x/b'], 'x/b'),
    ('B', ['x/b'], 'x/b'), ('c', ['x/b'], ''), ('ab', ['b'], ''), ('x/b', [], '')])
def test_names_of_the_same_model(asked, names, found):
    assert matching_model(asked, names) == found


@pytest.mark.parametrize('asked', [f'somebody/{MODEL}', f'/m/{MODEL}', MODEL.upper(), 'other'])
def test_a_model_of_our_server(script, asked):
    with running(ServedScript(script)) as server:
        stream = RemoteEngine(server.url, model=asked).open()
        events = feed(stream, say(script, GO)) + end(stream)
    assert texts(events) == ['go']
    assert stream.link.connects == 1


def test_kill_9_of_one_of_two_real_servers():
    samples = join(*resampled(read_file(DATA / 'orders.flac')))[:9 * RATE]  # two orders
    half = 7 * RATE  # in the middle of the second
    with ServerProcess() as second:
        unbroken = RemoteEngine(second.url).open()
        expected = feed(unbroken, samples) + end(unbroken)
        with ServerProcess() as first:
            stream = RemoteEngine([first.url, second.url]).open()
            events = feed(stream, samples[:half])
            events += wait_for(stream, lambda new: len(finals(events + new)) == 1
                               and transcripts(events + new)[-1].utterance_id == 2)
            assert stream.link.url == first.url
        events += feed(stream, samples[half:]) + end(stream)
    assert texts(events) == texts(expected)
    assert len(texts(events)) == 2
    assert stream.link.url == second.url
    assert stream.link.dropped_s == 0
