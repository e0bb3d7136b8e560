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

"""The server goes away under a remote stream: nothing that was said is lost or said twice."""

from contextlib import ExitStack
import logging

import pytest
from support.realtime import (
    DATA, running, ServedScript, ServerProcess, wait_for, WAIT_S, wait_until)
from support.scripted import (
    feed, finals, join, PAUSE, RATE, Script, scripted_voice, silence, texts, transcripts, voice)
from support.vllm import vllm

from voxtral_ros.audio.files import read_file
from voxtral_ros.audio.resample import resampled
from voxtral_ros.client.engine import RemoteEngine
from voxtral_ros.client.segment import Segment
from voxtral_ros.server.audio_check import AudioCheck


@pytest.fixture
def script():
    with scripted_voice():
        yield Script()


class Restartable:
    """A server that can be stopped and started again where it was."""

    def __init__(self, script):
        self._engine, self._stack, self.port = ServedScript(script), ExitStack(), 0
        self.start()

    def start(self):
        server = self._stack.enter_context(running(self._engine, port=self.port))
        self.port, self.url = server.port, server.url

    def stop(self):
        self._stack.close()


@pytest.fixture
def server(script):
    server = Restartable(script)
    yield server
    server.stop()


def test_an_utterance_goes_on_after_a_restart(server, script):
    stream = RemoteEngine(server.url).open()
    before = feed(stream, join(silence(1.0), script.say(' go'), voice(1.2)))
    before += wait_for(stream, lambda new: texts_of(before + new) == 'go')
    server.stop()
    wait_until(lambda: stream.link.state == 'down')
    during = feed(stream, join(script.say(' left'), silence(PAUSE)))
    assert transcripts(during) == []
    server.start()
    events = before + during + stream_end(stream)
    assert texts_of(events) == 'go left'  # and not "go go left"
    assert texts(events) == ['go left']
    assert [event.revision for event in transcripts(events)] == \
        list(range(len(transcripts(events))))
    assert stream.link.connects == 2
    assert stream.link.dropped_s == 0


def texts_of(events):
    return ''.join(event.delta for event in transcripts(events))


def stream_end(stream):
    """Wait for the final text of all that was fed, then close."""
    events = wait_for(stream, lambda _: stream.link.state == 'connected'
                      and stream.link.waiting_s == 0)
    return events + stream.close(WAIT_S)


def test_utterances_of_the_outage_come_later_in_order(server, script):
    server.stop()
    stream = RemoteEngine(server.url).open()
    wait_until(lambda: stream.link.state == 'down')
    orders = [' stop', ' go', ' left']
    events = feed(stream, join(*(join(silence(1.0), script.say(order), silence(PAUSE))
                                 for order in orders)))
    assert stream.link.waiting_s > 0
    server.start()
    events += stream_end(stream)
    assert texts(events) == ['stop', 'go', 'left']
    ends = [event.end_s for event in finals(events)]
    assert ends == pytest.approx([1.48, 4.96, 8.44], abs=0.2)


def test_more_than_can_be_kept_is_dropped_and_counted_oldest_first(server, script):
    server.stop()
    stream = RemoteEngine(server.url, outage_s=6.0).open()
    pieces = [' stop', ' go', ' left', ' turn', ' back']
    events = feed(stream, join(*(join(silence(1.0), script.say(piece), silence(PAUSE))
                                 for piece in pieces)))
    assert stream.link.dropped_s > 0
    assert stream.link.waiting_s <= 6.0 + 3.0
    server.start()
    events += stream_end(stream)
    said = texts(events)
    assert 0 < len(said) < len(pieces)
    assert said == [piece.strip() for piece in pieces[-len(said):]]


def test_what_was_said_is_final_when_a_stream_is_closed_without_its_server(server, script):
    stream = RemoteEngine(server.url).open()
    events = feed(stream, join(silence(1.0), script.say(' go'), voice(1.2)))
    events += wait_for(stream, lambda new: texts_of(events + new) == 'go')
    server.stop()
    wait_until(lambda: stream.link.state == 'down')
    assert texts(stream.close(WAIT_S)) == ['go']


def test_the_link_reports_why_it_is_down_and_the_log_says_it_once(server, caplog):
    server.stop()
    caplog.set_level(logging.WARNING)
    stream = RemoteEngine(server.url).open()
    wait_until(lambda: stream.link.state == 'down')
    assert str(server.port) in stream.link.error
    stream.abandon()
    assert len([record for record in caplog.records if 'no connection' in record.message]) == 1


def test_a_segment_that_the_server_cannot_cope_with_does_not_block_the_others(script):
    with vllm(script) as server:
        server.refuse = ['processing_error'] * 3
        stream = RemoteEngine(server.url).open()
        events = feed(stream, join(silence(1.0), script.say(' stop'), silence(PAUSE),
                                   script.say(' go'), silence(PAUSE)))
        events += stream_end(stream)
    assert texts(events) == ['go']
    assert stream.link.dropped_s > 0


def test_a_segment_that_a_slow_server_still_works_on_is_given_up_cleanly(script):
    with vllm(script) as server:
        server.at_work.clear()
        stream = RemoteEngine(server.url, outage_s=4.0).open()
        feed(stream, join(silence(1.0), script.say(' stop'), silence(PAUSE)))
        wait_until(lambda: stream.link.connects == 1)
        events = feed(stream, join(*[join(script.say(' go'), silence(PAUSE))] * 2))
        wait_until(lambda: stream.link.connects == 2)
        server.at_work.set()
        events += stream_end(stream)
    assert texts(events)[-1] == 'go'
    assert 'stop' not in ' '.join(texts(events)[1:])
    assert stream.link.dropped_s > 0


def test_a_server_that_doubts_the_audio_is_not_left(server, script, monkeypatch, caplog):
    monkeypatch.setattr(AudioCheck, 'look', lambda *_: 'this cannot be audio')
    stream = RemoteEngine(server.url).open()
    events = feed(stream, join(silence(1.0), script.say(' go'), silence(PAUSE)))
    assert texts(events + stream_end(stream)) == ['go']
    assert stream.link.connects == 1
    assert 'the server says: this cannot be audio' in caplog.text


def test_a_model_that_is_not_there_yet_loses_nothing(script):
    with vllm(script) as server:
        server.refuse = ['model_not_found'] * 4
        stream = RemoteEngine(server.url, model='tomorrow').open()
        events = feed(stream, join(silence(1.0), script.say(' stop'), silence(PAUSE)))
        events += stream_end(stream)
    assert texts(events) == ['stop']


@pytest.mark.parametrize('published, again, text', [
    ('go to the', 'go to the kitchen', 'go to the kitchen'),
    ('go to the kit', 'go to the kitchen', 'go to the kitchen'),
    ('go to the kitchen', 'go to', 'go to the kitchen'),  # never taken back
    ('go to a kitchen', 'go to the kitchen now', 'go to a kitchen now'),
    ('', 'go', 'go'), ('go', '', 'go'), ('你', '你好吗', '你好吗')])
def test_a_second_transcription_only_adds(published, again, text):
    segment = Segment(0.0)
    segment.write(published)
    segment.restart()
    for letter in again:  # however it is cut
        segment.write(letter)
    assert ' '.join(word.text for _, word in segment.written) == text


@pytest.mark.parametrize(('delta', 'details', 'words'), [
    ('房', ['厨房'], ['厨房']), ('哈', ['哈'], ['厨', '哈']), ('厨', ['厨厨'], ['厨厨']),
    ('房，去', ['厨房，', '去'], ['厨房，', '去']), ('去 哈', ['去', '哈'], ['厨', '去', '哈']),
    # What does not fit to the text is not believed.
    ('房', ['房', '去'], ['厨房']), ('房', ['x'], ['厨房']), ('房', ['厨', '房', '厨'], ['厨房']),
    ('房', [], ['厨房']), (' 去', [7], ['厨', '去'])])
def test_what_a_server_says_of_words_tells_where_they_begin(delta, details, words):
    segment = Segment(0.0)
    segment.append(silence(10.0))
    segment.write('厨', [{'text': '厨', 'end_s': 1.0, 'confidence': 0.5}])
    segment.write(delta, [{'text': text, 'end_s': 2.0, 'confidence': 0.25} for text in details])
    written = [word for _, word in segment.written]
    assert [word.text for word in written] == words
    assert written[0].end_s == 1.0


def test_kill_9_and_restart_of_a_real_server():
    blocks = list(resampled(read_file(DATA / 'orders.flac')))
    samples = join(*blocks)[:9 * RATE]  # two orders
    half = 7 * RATE  # in the middle of the second
    with ServerProcess() as process:
        unbroken = RemoteEngine(process.url).open()
        expected = feed(unbroken, samples) + stream_end(unbroken)
        stream = RemoteEngine(process.url).open()
        events = feed(stream, samples[:half])
        events += wait_for(stream, lambda new: len(finals(events + new)) == 1
                           and transcripts(events + new)[-1].utterance_id == 2)
        port = process.port
    wait_until(lambda: stream.link.state == 'down')
    events += feed(stream, samples[half:])
    with ServerProcess(port=port):
        events += stream_end(stream)
    assert texts(events) == texts(expected)
    assert len(texts(events)) == 2
