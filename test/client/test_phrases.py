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

"""Phrases that a remote stream has its server expect, and servers that know of none."""

from contextlib import ExitStack
import logging

import pytest
from support.realtime import (
    DATA, running, ServedScript, ServerProcess, wait_for, WAIT_S, wait_until)
from support.scripted import feed, join, PAUSE, Script, scripted_voice, silence, texts, voice
from support.vllm import vllm

from voxtral_ros.audio.files import read_file
from voxtral_ros.audio.resample import resampled
from voxtral_ros.client.engine import RemoteEngine
from voxtral_ros.recognizer.phrases import Phrase, PhraseList

KOWALSKI, PANTRY = PhraseList.parse(['Kowalski']), PhraseList.parse(['pantry :3'])


@pytest.fixture
def script():
    with scripted_voice():
        yield Script()


@pytest.fixture
def audio(script):
    """Return "robot the", which may be "Kowalski" and "pantry"."""
    return join(silence(1.0), script.say(' robot', name='Kowalski'), silence(PAUSE),
                script.say(' the', name='pantry'), silence(PAUSE))


@pytest.fixture
def server(script):
    with running(ServedScript(script)) as server:
        yield server


def text_of(stream, audio, n_utterances=2):
    events = feed(stream, audio)
    return texts(events + wait_for(stream, lambda new: len(texts(events + new)) == n_utterances))


def warnings(caplog):
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_stream_expects_what_it_was_opened_with_and_then_what_it_is_given(
        server, audio, caplog):
    stream = RemoteEngine(server.url).open(phrases=KOWALSKI)
    assert text_of(stream, audio) == ['Kowalski', 'the']
    stream.set_phrases(PANTRY + PhraseList((Phrase('sofa', 0.25),)))
    assert text_of(stream, audio) == ['robot', 'pantry']
    assert server.engine.prepared == [
        KOWALSKI, PhraseList((Phrase('pantry', 3.0), Phrase('sofa', 0.25)))]
    stream.set_phrases(PhraseList())
    assert text_of(stream, audio) == ['robot', 'the']
    assert stream.link.connects == 1
    stream.abandon()
    assert warnings(caplog) == []


def test_streams_have_lists_of_their_own(server, audio):
    engine = RemoteEngine(server.url)
    streams = [engine.open(phrases=phrases) for phrases in (KOWALSKI, PANTRY, None)]
    events = [feed(stream, audio) + stream.close(WAIT_S) for stream in streams]
    assert [texts(some) for some in events] == [
        ['Kowalski', 'the'], ['robot', 'pantry'], ['robot', 'the']]


def test_an_utterance_that_has_begun_is_not_changed(server, script, audio):
    stream = RemoteEngine(server.url).open(phrases=KOWALSKI)
    events = feed(stream, join(silence(1.0), script.say(' stop'), voice(1.2)))
    events += wait_for(stream, lambda new: new and getattr(new[-1], 'text', '') == 'stop')
    stream.set_phrases(PANTRY)
    events += feed(stream, join(script.say(' robot', name='Kowalski'), silence(PAUSE)))
    events += feed(stream, audio) + stream.close(WAIT_S)
    assert texts(events) == ['stop Kowalski', 'robot', 'pantry']


@pytest.mark.parametrize('own', [None, PhraseList()])
def test_a_stream_without_phrases_has_those_of_the_server(script, audio, own):
    with running(ServedScript(script), phrases=KOWALSKI) as server:
        stream = RemoteEngine(server.url).open(phrases=own)
        assert text_of(stream, audio) == ['Kowalski', 'the']
        stream.set_phrases(PANTRY)
        assert text_of(stream, audio) == ['robot', 'pantry']
        stream.set_phrases(PhraseList())
        assert text_of(stream, audio) == ['Kowalski', 'the']
        stream.abandon()


def test_a_server_that_comes_back_is_given_the_latest_list(script, audio):
    engine = ServedScript(script)
    with ExitStack() as stack:
        server = stack.enter_context(running(engine))
        port = server.port
        stream = RemoteEngine(server.url).open(phrases=KOWALSKI)
        assert text_of(stream, audio) == ['Kowalski', 'the']
        stack.pop_all().close()
        wait_until(lambda: stream.link.state == 'down')
        with running(engine, port=port):
            assert text_of(stream, audio) == ['Kowalski', 'the']
        wait_until(lambda: stream.link.state == 'down')
        stream.set_phrases(PANTRY)
        events = feed(stream, audio)
        with running(engine, port=port):
            assert texts(events + wait_for(stream, lambda new: len(texts(new)) == 2)) == [
                'robot', 'pantry']
            stream.abandon()


def test_a_server_that_knows_of_no_phrases_is_warned_about_once(script, audio, caplog):
    with vllm(script) as server:
        stream = RemoteEngine(server.url).open(phrases=KOWALSKI)
        assert text_of(stream, audio) == ['robot', 'the']
        stream.set_phrases(PANTRY)
        server.refuse = ['processing_error']  # which breaks the connection
        assert text_of(stream, audio) == ['robot', 'the']
        assert stream.link.connects == 2
        stream.abandon()
    assert not any('phrases' in update for update in server.updates)
    about = [message for message in warnings(caplog) if 'phrases' in message]
    assert len(about) == 1
    assert server.url in about[0]


def test_without_phrases_no_server_is_warned_about(script, audio, caplog):
    with vllm(script) as server:
        stream = RemoteEngine(server.url).open(phrases=PhraseList())
        stream.set_phrases(PhraseList())
        assert text_of(stream, audio) == ['robot', 'the']
        stream.abandon()
    assert warnings(caplog) == []


def test_a_server_that_refuses_the_list_still_transcribes(server, audio, monkeypatch, caplog):
    def prepare(_):
        raise ValueError('no phrase can be spelt in this vocabulary')

    monkeypatch.setattr(server.engine, 'prepare_phrases', prepare)
    stream = RemoteEngine(server.url).open(phrases=KOWALSKI)
    assert text_of(stream, audio) == ['robot', 'the']
    assert stream.link.connects == 1
    stream.abandon()
    assert len(warnings(caplog)) == 1
    assert 'no phrase can be spelt' in warnings(caplog)[0]


def test_nothing_has_to_be_prepared_on_the_robot():
    RemoteEngine('ws://127.0.0.1:1/v1/realtime').prepare_phrases(KOWALSKI)


def test_the_demo_model_on_a_server_expects_what_a_robot_does():
    order = join(*resampled(read_file(DATA / 'go_forward_ten_meters.flac')), silence(1.0))
    with ServerProcess() as server:
        engine = RemoteEngine(server.url)
        streams = [engine.open(phrases=phrases) for phrases in (
            None, PhraseList.parse(['metres'], 5.0),
            PhraseList.parse(['tan meters :6.5', *(f'sofa {n}' for n in range(300))]))]
        events = [feed(stream, order) + stream.close(WAIT_S) for stream in streams]
    assert [texts(some) for some in events] == [
        ['go forward ten meters'], ['go forward ten metres'], ['go forward tan meters']]
