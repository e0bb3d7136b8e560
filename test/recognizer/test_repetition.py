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

"""Repetition loops: noticed by their tokens, at any pace; what people repeat is left alone."""

import logging
import random
import sys

from hypothesis import given
from hypothesis import strategies as st
import pytest
from support.scripted import (
    DELAY, encode, feed, finals, join, open_stream, PAUSE, RATE, Script, scripted_voice,
    ScriptedEngine, silence, texts, TOKEN_S, TOKENIZER, voice)

from voxtral_ros.recognizer.endpoint import EndpointOptions
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.repetition import Repetition
from voxtral_ros.recognizer.stream import Stream
from voxtral_ros.recognizer.watchdog import WatchdogOptions

NEVER = -99.0  # a penalty that is never reached
LOOPS = [(' the',), (' the', None, None), (' turn', ' left'), (' you', None, ' and', None, '.'),
         (' the',) + (None,) * 9]


@pytest.fixture(autouse=True)
def voice_activity():
    with scripted_voice():
        yield


def penalties(stream: Stream) -> list[float]:
    return stream._engine.penalties


def looping(script: Script, until_penalty: float, pieces, seconds: float):
    """Return a word, a loop over so many seconds of speech, and two words."""
    return join(silence(0.8), script.say(' stop'), script.repetition_loop(until_penalty, *pieces),
                voice(seconds), script.say(' zebra'), script.say(' here'), silence(PAUSE))


# ---- a stream ----

@pytest.mark.parametrize('pieces', LOOPS)
def test_the_pad_logit_is_raised_until_something_else_is_written(pieces, caplog):
    script = Script()
    stream = open_stream(script)
    seconds = 30 * TOKEN_S * len(pieces) / sum(piece is not None for piece in pieces)
    with caplog.at_level(logging.WARNING):
        events = feed(stream, looping(script, -2.0, pieces, seconds))
    assert penalties(stream) == [-0.5, -1.0, -1.5, -2.0, 0.0]
    stats = stream.stats
    assert (stats.repetition_loops, stats.watchdog_penalties, stats.watchdog_resets) == (1, 1, 0)
    assert caplog.messages == ['the model repeats itself: raising the pad logit']
    assert texts(events)[-1].endswith('zebra here')


def test_the_pad_logit_is_as_before_when_nothing_is_written_for_a_while():
    script = Script()
    stream = open_stream(script)
    feed(stream, join(silence(0.8), script.repetition_loop(-2.0, ' the'), voice(6.0)))
    assert penalties(stream)[-2:] == [-2.0, 0.0]


@pytest.mark.parametrize('pieces', [(' the',), (' turn', ' left'), (' you', ' and', '.')])
def test_a_new_start_transcribes_what_was_said_in_the_loop(pieces):
    """It costs the words of the loop, but not those that were spoken in its last seconds."""
    script = Script()
    audio = join(silence(0.8), script.say(' stop'), script.repetition_loop(NEVER, *pieces),
                 voice(2.0), script.say(' zebra'), script.say(' here'), voice(2.0),
                 silence(PAUSE), script.say(' robot'), silence(PAUSE))
    stream = open_stream(script)
    published = finals(feed(stream, audio))
    first, second, third = published
    assert first.text.startswith('stop') and set(first.words[-1].text) <= set(''.join(pieces))
    assert (second.text, third.text) == ('zebra here', 'robot')
    assert stream.stats.watchdog_resets == stream.stats.repetition_loops == 1
    assert stream._engine.n_open == 1
    assert [word.end_s for word in second.words] == pytest.approx([3.84, 4.32], abs=0.081)
    assert third.end_s == pytest.approx(len(audio) / RATE - PAUSE, abs=0.081)


def test_a_model_beyond_help_costs_no_more_than_twice(caplog):
    """Neither passes nor messages nor text get out of hand if every new start loops again."""
    seconds = 120.0
    again, = encode(' the')
    ids = [TOKENIZER.pad] * 16 + [TOKENIZER.word] + [again] * round(4 * seconds / TOKEN_S)
    stream = Stream(ScriptedEngine(ids=ids), DELAY, StreamOptions())
    with caplog.at_level(logging.WARNING):
        events = feed(stream, join(silence(1.0), voice(seconds)))
    assert stream.stats.tokens <= 2 * (seconds + 1.0) / TOKEN_S
    assert len(caplog.messages) <= seconds / 10 + 1
    assert max(final.end_s - final.start_s for final in finals(events)) < 30.0
    assert stream.stats.repetition_loops > 10


@pytest.mark.parametrize('until_penalty', [-2.0, NEVER])
@pytest.mark.parametrize('pieces', LOOPS)
def test_chunking_changes_nothing_in_a_loop(pieces, until_penalty):
    """Take the same decisions whether the engine takes one token in a step or has a backlog."""
    script = Script()
    audio = looping(script, until_penalty, pieces, 12.0)
    events = feed(open_stream(script, max_chunk_tokens=1), audio)
    assert feed(open_stream(script), audio) == events
    assert feed(open_stream(script), audio, len(audio)) == events
    assert feed(open_stream(script, max_chunk_tokens=100), audio, len(audio)) == events


def test_loops_are_not_looked_for_if_that_is_asked_for():
    script = Script()
    stream = open_stream(script, StreamOptions(watchdog=WatchdogOptions(repeated_tokens=0)))
    feed(stream, looping(script, NEVER, (' the',), 20.0))
    assert penalties(stream) == []
    assert stream.stats.repetition_loops == 0


# ---- what people say ----

def test_the_same_order_may_be_given_again_and_again():
    script = Script()
    order = [' turn', ' left', ' and', ' stop', '.']
    audio = join(silence(0.8), *(join(script.say(*order), silence(PAUSE)) for _ in range(20)))
    stream = open_stream(script)
    assert texts(feed(stream, audio)) == ['turn left and stop.'] * 20
    assert penalties(stream) == []


def test_a_sentence_may_be_said_three_times_in_one_breath_and_a_word_twenty_times():
    script = Script()
    sentence = [' turn', ' left', ' and', ' what', ' are', ' you', ' doing', ' here', ',']
    audio = join(silence(0.8), *(script.say(*sentence, seconds=1.0) for _ in range(3)),
                 *(script.say(' stop', seconds=0.32) for _ in range(20)), silence(PAUSE))
    stream = open_stream(script)
    feed(stream, audio)
    assert penalties(stream) == []


def test_a_cut_for_length_does_not_hide_a_loop():
    """Twenty-four seconds of a word every second, in utterances of ten seconds."""
    script = Script()
    audio = join(silence(0.8), *(script.say(' the', seconds=0.96) for _ in range(40)))
    stream = open_stream(script, StreamOptions(EndpointOptions(max_utterance_s=10.0)))
    assert len(finals(feed(stream, audio))) >= 2
    assert stream.stats.repetition_loops == 1


# ---- the counting ----

def missing(tokens: list[int], n_tokens: int = 24) -> int:
    repetition = Repetition(n_tokens)
    for second, token in enumerate(tokens):
        repetition.push(token, float(second))
    return repetition.n_missing


def test_so_many_tokens_that_repeat_others_are_a_loop():
    assert missing([7] * 24) == 1
    assert missing([7] * 25) == 0
    assert missing([7, 8] * 12 + [7]) == 1
    assert missing([7, 8] * 13) == 0
    assert missing([7] * 25, n_tokens=30) == 6


def test_what_is_long_must_come_four_times():
    sentence = list(range(20))
    assert missing(sentence * 4) == 0
    assert missing((sentence * 4)[:-1]) == 1
    assert missing(sentence * 3) == 20


def test_a_loop_twice_as_long_can_be_told():
    repetition = Repetition(24)
    for second in range(49):
        assert repetition.is_long == (second > 48)
        repetition.push(7, float(second))
    assert repetition.is_long
    assert repetition.begin_s == 1.0
    repetition.forget()
    assert repetition.n_missing == 24


def test_nothing_is_a_loop_without_a_limit():
    assert missing([7] * 1000, n_tokens=0) == sys.maxsize


@given(st.lists(st.integers(0, 9), max_size=50),
       st.lists(st.integers(0, 9), min_size=1, max_size=32))
def test_any_pattern_is_found_behind_any_text(before, pattern):
    n = max(24, 3 * len(pattern)) + len(pattern)
    assert missing(before + (pattern * (n // len(pattern) + 1))[:n]) <= 0


def test_ordinary_text_is_no_loop():
    rng = random.Random(0)
    assert min(missing(rng.choices(range(40), k=200)) for _ in range(50)) > 16
