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

"""A remote stream has the events of a local one, whoever the server is."""

import math
import subprocess
import sys

import numpy as np
import pytest
from support.realtime import running, ServedScript, wait_for, WAIT_S, wait_until
from support.scripted import (
    feed, finals, join, PAUSE, Script, scripted_voice, silence, texts, transcribe, transcripts,
    voice)
from support.vllm import vllm

from voxtral_ros.client.engine import RemoteEngine
from voxtral_ros.recognizer.endpoint import EndpointOptions
from voxtral_ros.recognizer.events import SpeechActivity
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.server.app import Access


@pytest.fixture(autouse=True)
def voice_activity():
    with scripted_voice():
        yield


@pytest.fixture
def script():
    return Script()


@pytest.fixture(params=['voxtral', 'vllm'])
def engine(request, script):
    """Serve the script either way and return an engine that is connected to it."""
    if request.param == 'vllm':
        with vllm(script) as server:
            yield RemoteEngine(server.url)
            assert server.broken == []
            assert all(update['model'] == '' for update in server.updates)
    else:
        with running(ServedScript(script)) as server:
            yield RemoteEngine(server.url)


def transcribed(engine, audio, options=None, chunk=1280):
    """Return the events of a stream that is fed some audio and closed."""
    stream = engine.open(options=options)
    return feed(stream, audio, chunk) + stream.close(WAIT_S)


def test_utterances_and_speech_are_those_of_a_local_stream(engine, script):
    audio = join(silence(2.0), script.say(' go', ' to', ' the', ' kitchen'), silence(PAUSE),
                 script.say(' turn'), silence(0.3), script.say(' left'), silence(PAUSE))
    remote, local = transcribed(engine, audio), transcribe(script, audio)
    assert texts(remote) == texts(local) == ['go to the kitchen', 'turn left']
    assert [event for event in remote if isinstance(event, SpeechActivity)] == \
        [event for event in local if isinstance(event, SpeechActivity)]
    for far, near in zip(finals(remote), finals(local), strict=True):
        assert far.utterance_id == near.utterance_id
        assert far.start_s == pytest.approx(near.start_s, abs=0.1)
        assert [word.end_s for word in far.words] == \
            pytest.approx([word.end_s for word in near.words], abs=0.1)


def test_text_only_grows(engine, script):
    audio = join(silence(1.0), script.say(' go', ' to', ' the', ' kitchen'), silence(PAUSE))
    revisions = transcripts(transcribed(engine, join(audio, audio)))
    assert [event.utterance_id for event in revisions if event.is_final] == [1, 2]
    for utterance_id in (1, 2):
        own = [event for event in revisions if event.utterance_id == utterance_id]
        assert [event.revision for event in own] == list(range(len(own)))
        text = ''
        for event in own:
            text += event.delta
            assert event.text == text
            assert ' '.join(word.text for word in event.words) == text
        assert own[-1].is_final


def test_words_of_scripts_without_spaces_are_those_of_a_local_stream(engine, script):
    """And no spaces come between them."""
    audio = join(silence(1.0), *(script.say(word) for word in '请去房'), script.say('。'),
                 silence(PAUSE), script.say(' go'), script.say('吧'), silence(PAUSE))
    far, near = finals(transcribed(engine, audio)), finals(transcribe(script, audio))
    assert [final.text for final in far] == [final.text for final in near] == ['请去房。', 'go吧']
    assert [[word.text for word in final.words] for final in far] == [
        ['请', '去', '房。'], ['go', '吧']]
    for remote, local in zip(far, near, strict=True):
        # A server that is not ours does not say with which byte a character began.
        assert [word.end_s for word in remote.words] == \
            pytest.approx([word.end_s for word in local.words], abs=0.25)


def test_confidence_is_what_the_server_knows(engine, script):
    audio = join(silence(1.0), script.say(' go', probability=0.5), silence(PAUSE))
    far, = finals(transcribed(engine, audio))[0].words
    near, = finals(transcribe(script, audio))[0].words
    assert far.confidence == near.confidence or math.isnan(far.confidence)


@pytest.mark.parametrize('chunk', [100, 1281, 10**6])
def test_chunks_do_not_matter(engine, script, chunk):
    audio = join(silence(1.0), script.say(' stop'), silence(PAUSE), script.say(' go'),
                 silence(PAUSE))
    assert texts(transcribed(engine, audio, chunk=chunk)) == ['stop', 'go']


def test_a_flush_ends_the_utterance(engine, script):
    stream = engine.open()
    stream.feed(join(silence(1.0), script.say(' stop')))
    stream.flush()
    events = wait_for(stream, lambda events: finals(events))
    assert texts(events) == ['stop']
    assert texts(feed(stream, join(script.say(' go'), silence(PAUSE))) + stream.close(WAIT_S)) \
        == ['go']


def test_speech_without_a_pause_is_cut_and_nothing_is_lost(engine, script):
    options = StreamOptions(EndpointOptions(max_utterance_s=2.0))
    audio = join(silence(1.0), *(join(script.say(' go'), voice(0.5, 0.45)) for _ in range(8)),
                 silence(PAUSE))
    events = transcribed(engine, audio, options)
    assert ' '.join(texts(events)) == ' '.join(['go'] * 8)
    assert 2 <= len(finals(events)) <= 8


def test_a_stream_takes_over_another_pause(engine, script):
    stream = engine.open(options=StreamOptions(endpoint=EndpointOptions(
        silence_s=99.0, pad_silence_s=99.0)))
    say = join(script.say(' stop'), silence(PAUSE), script.say(' turn'), silence(PAUSE))
    events = feed(stream, say)
    stream.tune(StreamOptions())
    events += feed(stream, join(script.say(' left'), silence(PAUSE), script.say(' right'),
                                silence(PAUSE))) + stream.close(WAIT_S)
    assert texts(events) == ['stop turn left', 'right']


def test_silence_is_not_sent(engine, script):
    stream = engine.open()
    events = feed(stream, silence(100.0))
    assert stream.link.waiting_s == 0
    assert events == []
    assert texts(feed(stream, join(script.say(' go'), silence(PAUSE))) + stream.close(WAIT_S)) \
        == ['go']


def test_a_second_before_the_first_speech_is_sent_with_it(engine, script):
    audio = join(silence(2.0), script.say(' go', voiced=0.05), script.say(' left'), silence(PAUSE))
    assert texts(transcribed(engine, audio)) == ['go left']


def test_updates_are_announced_without_polling(engine, script):
    announced = []
    engine.on_update = lambda: announced.append(1)
    stream = engine.open()
    feed(stream, join(silence(1.0), script.say(' stop'), silence(PAUSE)))
    wait_until(lambda: announced)
    stream.abandon()


def test_link_is_published(engine):
    assert engine.link.state == 'closed'
    stream = engine.open()
    wait_until(lambda: stream.link.state == 'connected')
    assert engine.link.connects == 1
    stream.close()
    assert engine.link.state == 'closed'


def test_closing_the_engine_closes_all_its_streams(engine):
    streams = [engine.open() for _ in range(3)]
    streams[1].close()
    engine.close()
    assert all(stream.closed for stream in streams)
    assert {stream.link.state for stream in streams} == {'closed'}


def test_closed_streams_are_closed(engine):
    stream = engine.open()
    assert stream.close() == []
    assert stream.close() == stream.abandon() == []
    for verb in (stream.poll, stream.flush, lambda: stream.feed(np.zeros(10, np.float32))):
        with pytest.raises(ValueError, match='closed'):
            verb()


@pytest.mark.parametrize('samples', [0.5, np.zeros((2, 10)), [1, 2]])
def test_wrong_samples_are_refused(engine, samples):
    stream = engine.open()
    with pytest.raises(ValueError, match='one dimension'):
        stream.feed(samples)
    stream.abandon()


def test_bad_samples_are_counted(engine):
    stream = engine.open()
    stream.feed(np.array([np.nan, np.inf, 0.1], np.float32))
    assert stream.stats.bad_samples == 2
    stream.abandon()


@pytest.mark.parametrize('url', ['', 'host:8000', 'http://host/v1/realtime', 'ws:///x'])
def test_wrong_addresses_are_refused(url):
    with pytest.raises(ValueError, match='ws://host:8000/v1/realtime'):
        RemoteEngine(url)


def test_delay_and_token(script):
    with running(ServedScript(script), access=Access('sesame')) as server:
        stream = RemoteEngine(server.url).open()
        wait_until(lambda: stream.link.state == 'down')
        assert '401' in stream.link.error
        stream.abandon()
        engine = RemoteEngine(server.url, token='sesame')
        stream = engine.open(delay_ms=2400)
        audio = join(silence(1.0), script.say(' stop'), silence(PAUSE))
        assert texts(feed(stream, audio) + stream.close(WAIT_S)) == ['stop']


def test_a_robot_without_torch():
    code = """
import sys
sys.modules['torch'] = None  # importing it fails
from voxtral_ros.client.engine import RemoteEngine
stream = RemoteEngine('ws://127.0.0.1:1/v1/realtime').open()
import numpy as np
stream.feed(np.zeros(16000, np.float32))
stream.poll()
assert stream.close() == []
assert not any(name.split('.')[0] in ('torch', 'safetensors') and module is not None
               for name, module in sys.modules.items())
"""
    subprocess.run([sys.executable, '-c', code], check=True)
