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

"""A server that ends texts before their audio: nothing is lost of the rest, nothing is doubled."""

import logging

import pytest
from support.realtime import wait_for, WAIT_S, wait_until
from support.scripted import (
    feed, join, PAUSE, Script, scripted_voice, silence, texts, transcripts, voice)
from support.vllm import vllm

from voxtral_ros.client.engine import RemoteEngine
from voxtral_ros.client.segment import Segment

WORDS = ' one two three four five six seven eight nine ten'.split()


@pytest.fixture
def script():
    with scripted_voice():
        yield Script()


def count(script, pause_s=0.4, times=2):
    """Return the audio of a long utterance, a word about every second."""
    return join(silence(1.0), *(join(script.say(f' {word}'), voice(pause_s))
                                for word in times * WORDS), silence(PAUSE))


def end(stream):
    events = wait_for(stream, lambda _: stream.link.state == 'connected'
                      and stream.link.waiting_s == 0)
    return events + stream.close(WAIT_S)


@pytest.mark.parametrize('chunk', [1280, 10 ** 6], ids=['live', 'at once'])
@pytest.mark.parametrize('max_tokens', [[60], [61, 80], [100, 40], [75, 50, 60]])
def test_the_rest_is_transcribed_as_well(script, max_tokens, chunk, caplog):
    caplog.set_level(logging.WARNING)
    with vllm(script) as server:
        server.max_tokens = list(max_tokens)
        stream = RemoteEngine(server.url).open()
        events = feed(stream, count(script), chunk)
        events += end(stream)
    assert texts(events) == [' '.join(2 * WORDS)]
    assert ''.join(event.delta for event in transcripts(events)) == ' '.join(2 * WORDS)
    assert stream.link.early_ends == len(max_tokens)
    assert stream.link.dropped_s == 0
    assert len([record for record in caplog.records if 'max-model-len' in record.message]) == 1
    assert not server.broken
    ends = [word.end_s for word in transcripts(events)[-1].words]
    assert ends == sorted(ends)
    assert ends == pytest.approx([1.48 + 0.88 * index for index in range(20)], abs=0.25)


def test_a_server_that_writes_nothing_is_given_up(script):
    with vllm(script) as server:
        server.max_tokens = [3] * 3
        stream = RemoteEngine(server.url).open()
        events = feed(stream, join(silence(1.0), script.say(' stop'), silence(PAUSE),
                                   script.say(' go'), silence(PAUSE)))
        events += end(stream)
    assert texts(events) == ['go']
    assert stream.link.dropped_s > 1.0
    assert stream.link.early_ends == 3


def test_a_connection_that_breaks_in_the_rest_sends_only_the_rest_again(script):
    with vllm(script) as server:
        server.max_tokens = [80]
        server.refuse = ['', 'processing_error']  # the first one is taken, the rest not at once
        stream = RemoteEngine(server.url).open()
        audio = count(script)
        events = feed(stream, audio[:9 * 16000])
        wait_until(lambda: stream.link.early_ends == 1 and not server.refuse)
        waiting_s = stream.link.waiting_s
        events += feed(stream, audio[9 * 16000:]) + end(stream)
    assert waiting_s < 7.0
    assert 'processing_error' in stream.link.error
    assert texts(events) == [' '.join(2 * WORDS)]


@pytest.mark.parametrize('seconds, n_tokens, early', [
    (4.0, 62, False), (4.0, 61, False), (4.0, 60, False), (4.0, 50, True), (4.0, 20, True),
    (4.0, 0, True), (0.4, 15, False), (0.4, 3, True)])
def test_the_tokens_tell_whether_a_text_is_complete(seconds, n_tokens, early):
    segment = Segment(0.0)
    segment.append(silence(seconds))
    assert segment.ends_early(n_tokens) == early


class Growing(list):
    """Gets another block whenever somebody has gone through it."""

    def __iter__(self):
        yield from [*super().__iter__()]
        self.append(bytes(2560))


def test_audio_that_comes_meanwhile_does_not_matter():
    segment = Segment(0.0)
    segment._audio = Growing()
    for _ in range(100):
        segment.append(silence(0.08))
    assert segment.go_on_after(60)
    assert 40 < segment.first < 60


def written(text, times_s):
    """Return a segment with ten seconds of audio and words that end at some times."""
    segment = Segment(0.0)
    for _ in range(125):
        segment.append(silence(0.08))
    for word, time_s in zip(text.split(), times_s, strict=True):
        segment.write(f' {word}', [{'text': word, 'end_s': time_s, 'confidence': 1.0}])
    return segment


@pytest.mark.parametrize('again, times_s, text', [
    ('three four', (0.5, 1.5), 'one two three four'),  # as it was, and more
    ('two three four', (0.05, 0.5, 1.5), 'one two three four'),  # begins a word before
    ('four five', (1.5, 2.5), 'one two three four five'),
    ('Three, four', (0.7, 1.5), 'one two three four'),
    ('ree four', (0.5, 1.5), 'one two three four'),
    ('three three', (0.5, 1.1), 'one two three three'),
    ('three', (0.5,), 'one two three'), ('', (), 'one two three')])
def test_words_that_are_written_twice_are_found(again, times_s, text):
    segment = written('one two three', (4.0, 5.6, 6.1))
    assert segment.go_on_after(70 + 12)
    assert segment.duration_s - segment.waiting_s == pytest.approx(5.6)
    for word, time_s in zip(again.split(), times_s, strict=True):
        segment.write(f' {word}', [{'text': word, 'end_s': time_s, 'confidence': 1.0}])
    segment.settle()
    assert ' '.join(word.text for _, word in segment.written) == text


def test_it_goes_on_in_a_pause():
    segment = Segment(0.0)
    for block in range(125):
        segment.append(silence(0.08) if block in (55, 56) else voice(0.08))
    assert segment.go_on_after(60 + 12)
    assert segment.first == 56
