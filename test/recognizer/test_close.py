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

"""Closing a stream costs the passes of a flush only where there may be words to bring out."""

import pytest
from support.scripted import (
    feed, join, open_stream, PAUSE, Script, scripted_voice, silence, texts, voice)

from voxtral_ros.recognizer.endpoint import EndpointOptions
from voxtral_ros.recognizer.options import StreamOptions


@pytest.fixture(autouse=True)
def voice_activity():
    with scripted_voice():
        yield


def closing(stream):
    """Close a stream; return the texts, and for how many tokens the engine worked."""
    before = stream.stats.tokens
    return texts(stream.close()), stream.stats.tokens - before


def test_after_silence_there_is_no_pass():
    stream = open_stream(Script())
    feed(stream, silence(5.0))
    assert closing(stream) == ([], 0)


def test_after_an_utterance_and_a_long_silence_there_is_no_pass():
    script = Script()
    stream = open_stream(script)
    assert texts(feed(stream, join(silence(0.8), script.say(' stop'), silence(6.0)))) == ['stop']
    assert closing(stream) == ([], 0)


def test_before_any_audio_there_is_no_pass():
    assert closing(open_stream(Script())) == ([], 0)


@pytest.mark.parametrize('seconds', [0.0, 0.16, 0.4, PAUSE])
def test_a_word_that_was_just_said_comes_out(seconds):
    script = Script()
    stream = open_stream(script)
    events = feed(stream, join(silence(4.0), script.say(' stop'), silence(seconds)))
    published, n_tokens = closing(stream)
    assert texts(events) + published == ['stop']
    assert n_tokens or not published


def test_an_utterance_that_no_silence_has_ended_is_ended():
    script = Script()
    stream = open_stream(script, StreamOptions(
        EndpointOptions(silence_s=99.0, pad_silence_s=99.0)))
    assert texts(feed(stream, join(silence(0.8), script.say(' stop'), silence(6.0)))) == []
    assert closing(stream)[0] == ['stop']


def test_a_word_within_the_first_half_second_comes_out():
    script = Script()
    stream = open_stream(script)
    feed(stream, script.say(' stop', seconds=0.4))
    assert closing(stream)[0] == ['stop']


def test_a_faint_word_comes_out_where_every_word_is_kept():
    script = Script()
    stream = open_stream(script, StreamOptions(EndpointOptions(min_speech_probability=0.0)))
    feed(stream, join(silence(4.0), script.say(' stop', voiced=0.02)))
    assert closing(stream)[0] == ['stop']


def test_what_still_waits_is_transcribed_first():
    script = Script()
    stream = open_stream(script)
    stream.feed(join(silence(8.0), script.say(' stop')))
    assert closing(stream)[0] == ['stop']


def test_speech_that_was_published_to_have_started_also_stops():
    options = StreamOptions(EndpointOptions(min_speech_probability=1.0))
    stream = open_stream(Script(), options)
    started = [event.active for event in feed(stream, join(silence(4.0), voice(1.0)))]
    assert started + [event.active for event in stream.close()] == [True, False]
