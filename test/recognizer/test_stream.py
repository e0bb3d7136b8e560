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

"""Events of a stream: what they say, what is discarded, and that chunking changes nothing."""

from functools import cache
from itertools import count

from hypothesis import example, given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from support.scripted import (
    DELAY, encode, feed, finals, join, NEVER_IDLE, open_stream, PAUSE, RATE, Script,
    scripted_voice, ScriptedEngine, silence, texts, TOKEN, TOKENIZER, transcribe, transcripts,
    voice)

from voxtral_ros.recognizer.endpoint import EndpointOptions
from voxtral_ros.recognizer.events import Event, SpeechActivity
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.stream import Stream


@pytest.fixture(scope='module', autouse=True)
def voice_activity():
    with scripted_voice():
        yield


def endpoint(**options: float) -> StreamOptions:
    return StreamOptions(EndpointOptions(**options))


NO_END = endpoint(silence_s=99.0, pad_silence_s=99.0, max_utterance_s=999.0)  # but by a flush


# ---- what the events say ----

def test_words_come_as_they_are_written_and_the_last_revision_is_final():
    script = Script()
    audio = join(silence(0.8), script.say(' stop', 's'), script.say(' the', ' robot'),
                 silence(PAUSE))
    published = transcripts(transcribe(script, audio))
    assert [(t.revision, t.text, t.delta, t.is_final) for t in published] == [
        (0, 'stop', 'stop', False), (1, 'stops', 's', False), (2, 'stops the', ' the', False),
        (3, 'stops the robot', ' robot', False), (4, 'stops the robot', '', True)]


@pytest.mark.parametrize('delay', [1, 6, 30])
def test_a_word_ends_where_its_audio_ends(delay):
    script = Script()
    audio = join(silence(0.8), script.say(' stop', probability=0.5), silence(PAUSE),
                 script.say(' turn', ' left', seconds=0.64, probability=0.8), silence(PAUSE))
    first, second = finals(transcribe(script, audio, delay=delay))
    assert [word.text for word in second.words] == ['turn', 'left']
    assert first.end_s == first.words[0].end_s == pytest.approx(1.28, abs=1e-6)
    assert second.words[0].end_s == pytest.approx(1.28 + PAUSE + 0.64, abs=1e-6)
    assert (first.words[0].confidence, second.words[1].confidence) == (0.5, 0.8)
    assert first.start_s == pytest.approx(0.8, abs=0.035)
    assert second.start_s == pytest.approx(1.28 + PAUSE, abs=0.035)


def test_confidences_are_calibrated_as_the_model_says():
    script = Script()
    audio = join(silence(0.8), script.say(' turn', ' left', probability=0.8), silence(PAUSE))
    engine = ScriptedEngine(script)
    engine.confidence_exponent = 3.0
    stream = Stream(engine, DELAY, StreamOptions())
    final, = finals([*feed(stream, audio), *stream.close()])
    assert [word.confidence for word in final.words] == pytest.approx([0.8 ** 3, 0.8 ** 3])


def test_speech_is_published_where_it_starts_and_stops():
    script = Script()
    audio = join(silence(0.8), script.say(' stop'), silence(PAUSE))
    activity = [event for event in transcribe(script, audio) if isinstance(event, SpeechActivity)]
    assert [event.active for event in activity] == [True, False]
    assert [event.time_s for event in activity] == pytest.approx([0.8, 1.28], abs=0.035)


@pytest.mark.parametrize('pieces, text', [
    ([' caf', b'\xc3', b'\xa9'], 'café'),
    ([' caf', b'\xc3', None, b'\xa9', 's'], 'cafés'),
    ([' the', b' \xd0', b'\xbd', b'\xd0', b'\xb5'], 'the не'),
    ([' the', ' ', 'and'], 'the and'),
    ([' the', '.\n', ' and'], 'the.\n and'),
    ([' the', b'\xc3'], 'the\ufffd'),
    ([' the', '\n'], 'the'),
])
def test_any_way_to_write_text_will_do(pieces, text):
    script = Script()
    audio = join(silence(0.8), script.say(*pieces), silence(PAUSE))
    events = transcripts(transcribe(script, audio))
    assert texts(events) == [text]
    assert ''.join(event.delta for event in events) == text
    assert [word.text for word in events[-1].words] == text.split()


def test_half_a_character_does_not_leak_into_the_next_utterance():
    script = Script()
    stream = open_stream(script)
    events = feed(stream, join(silence(0.8), script.say(b'\xc3')))
    stream.flush()
    events += feed(stream, join(silence(1.0), script.say(' the'), silence(PAUSE)))
    assert texts(events)[-1] == 'the'


def test_every_token_is_counted_and_published():
    script, tokens = Script(), []
    audio = join(silence(0.8), script.say(' stop', '.'), silence(PAUSE))
    stream = open_stream(script, StreamOptions(on_token=tokens.append, idle=NEVER_IDLE))
    feed(stream, audio)
    stream.close()
    assert [token.index for token in tokens] == list(range(len(tokens)))
    assert len(tokens) == len(audio) // TOKEN + 11
    assert [token.id for token in tokens if token.id != TOKENIZER.pad] == [
        TOKENIZER.word, *encode(' stop'), *encode('.')]
    assert (stream.stats.tokens, stream.stats.pads) == (len(tokens), len(tokens) - 3)


def test_an_end_token_does_not_end_the_stream():
    ids = [TOKENIZER.eos] * 5 + [TOKENIZER.word, *encode(' stop'), TOKENIZER.eos]
    stream = Stream(ScriptedEngine(ids=ids), DELAY, StreamOptions())
    stream.feed(voice(1.0))
    assert texts(stream.close()) == ['stop']
    assert stream.stats.pads == stream.stats.tokens - 8  # an end token is no pad


def test_no_word_ends_before_the_audio_begins():
    stream = Stream(ScriptedEngine(ids=encode(' stop')), DELAY, StreamOptions())
    stream.feed(voice(1.0))
    final = finals(stream.close())[0]
    assert (final.start_s, final.end_s) == (0.0, 0.0)


# ---- words where nobody speaks ----

def test_words_in_silence_are_discarded_and_counted():
    script = Script()
    audio = join(silence(4.0), script.say(' the', 's', '.', voiced=0.0), silence(4.0),
                 script.say(' stop'), silence(4.0), script.say(' here', voiced=0.0), silence(4.0))
    stream = open_stream(script, StreamOptions(idle=NEVER_IDLE))
    assert texts(feed(stream, audio)) == ['stop']
    assert stream.stats.discarded_words == 2


def test_words_in_silence_are_discarded_without_a_word_token_too():
    script = Script()
    stop = script.say(' stop')
    unvoiced = script.say(' the', voiced=0.0, announced=False)
    audio = join(stop, silence(4.0), unvoiced, silence(4.0))
    assert texts(transcribe(script, audio, NO_END)) == ['stop']


def test_soft_words_and_words_after_speech_are_kept():
    script = Script()
    audio = join(silence(4.0), script.say(' stop', voiced=0.15), silence(1.2),
                 script.say(' here', voiced=0.0), silence(PAUSE))
    stream = open_stream(script)
    assert ' '.join(texts(feed(stream, audio) + stream.close())) == 'stop here'
    assert stream.stats.discarded_words == 0


def test_discarding_ends_with_the_group():
    """Keep what is said after a discarded word, also in a script that has no spaces."""
    script = Script()
    audio = join(silence(4.0), script.say('漢', voiced=0.0), silence(4.0), script.say('漢', '字'),
                 silence(PAUSE))
    assert texts(transcribe(script, audio)) == ['漢字']


def test_half_a_character_of_a_discarded_word_does_not_come_back():
    script = Script()
    audio = join(silence(1.0), script.say(' stop'), silence(4.0),
                 script.say(' the', b'\xc3', voiced=0.0), silence(1.0))
    stream = open_stream(script, NO_END)
    assert texts(feed(stream, audio) + stream.close()) == ['stop']


def test_all_words_are_kept_if_that_is_asked_for():
    script = Script()
    audio = join(silence(4.0), script.say(' the', voiced=0.0), silence(PAUSE))
    assert texts(transcribe(script, audio, endpoint(min_speech_probability=0.0))) == ['the']


# ---- chunks ----

@cache
def busy_audio() -> tuple[Script, np.ndarray, list[int]]:
    """Return some of everything, and where it is flushed (in samples)."""
    script = Script()
    parts = [silence(0.5), script.say(' what', ' are', ' you', ' doing'), script.say(' here', '?'),
             silence(1.3), script.say(' the', voiced=0.0), silence(0.4),
             *(script.say(' caf', b'\xc3', None, b'\xa9') for _ in range(3)), voice(3.7),
             script.say(' stop'), silence(0.6),
             script.say(' turn', *[' left'] * 6, late=4), silence(2.1)]
    ends = np.cumsum([len(part) for part in parts])
    return script, join(*parts), [int(ends[n]) for n in (1, 1, 6, 13)]


def run(script: Script, audio: np.ndarray, flushes: list[int], sizes: list[int],
        polls: list[bool], **engine: int) -> list[Event]:
    """Feed in chunks of these sizes over and over, polling after some of them."""
    stream = open_stream(script, endpoint(silence_s=0.4, max_utterance_s=3.0), **engine)
    events, start, flushes = [], 0, list(flushes)
    for n in count():
        while flushes and flushes[0] == start:
            stream.flush()
            flushes.pop(0)
        if start == len(audio):
            return events + stream.close()
        stop = min(start + sizes[n % len(sizes)], *flushes[:1], len(audio))
        stream.feed(audio[start:stop])
        start = stop
        if polls[n % len(polls)]:
            events += stream.poll()


@cache
def expected_events() -> list[Event]:
    """Return the events of the busy audio when every token is processed as soon as it can be."""
    return run(*busy_audio(), [TOKEN], [True], max_chunk_tokens=1)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.one_of(st.integers(100, 2000), st.integers(1, 160_000)), min_size=1,
                max_size=6), st.lists(st.booleans(), min_size=1, max_size=5))
def test_chunking_and_polling_change_nothing(sizes, polls):
    assert run(*busy_audio(), sizes, polls) == expected_events()


@pytest.mark.parametrize('size', [1, 7, 160_000])
def test_chunks_of_one_sample_to_ten_seconds(size):
    assert run(*busy_audio(), [size], [True]) == expected_events()
    assert len(texts(expected_events())) == 6


def test_streams_of_one_engine_do_not_disturb_each_other():
    script, audio, _ = busy_audio()
    alone = transcribe(script, audio)
    engine = ScriptedEngine(script)
    streams = [Stream(engine, DELAY, StreamOptions()) for _ in range(3)]
    events = [[], [], []]
    for start in range(0, len(audio), 4000):
        for n, stream in enumerate(streams):
            stream.feed(audio[start:start + 4000])
            events[n] += stream.poll() if n else []
    for n, stream in enumerate(streams):
        events[n] += stream.close()
    assert events == [alone, alone, alone]


PARTS = st.lists(st.tuples(
    st.sampled_from([(' stop',), (' the', ' robot', '.'), (' caf', b'\xc3', b'\xa9'), ('s',)]),
    st.sampled_from([0.0, 0.2, 0.9]), st.integers(0, 60), st.integers(-2, 5), st.booleans()),
    max_size=12)


# The second utterance starts where the first ends; a difference of seconds is a hair less.
@example([((' stop',), 0.2, 3, 3, True), ((' stop',), 0.2, 0, -1, False)], 30, 0.3)
@settings(max_examples=60, deadline=None)
@given(PARTS, st.sampled_from([1, 6, 30]), st.sampled_from([0.3, 0.8]))
def test_utterances_are_well_formed(parts, delay, silence_s):
    script = Script()
    stream = open_stream(script, endpoint(silence_s=silence_s, max_utterance_s=5.0), delay)
    events, fed_s = [], 0.0
    for pieces, transcribed, pause, late, flush in parts:
        audio = join(script.say(*pieces, voiced=transcribed, late=max(late, 1 - delay)),
                     silence(0.08 * pause))
        fed_s += len(audio) / RATE
        events += feed(stream, audio, 8000)
        if flush:
            stream.flush()
    published = transcripts(events + stream.close())
    ids = sorted({event.utterance_id for event in published})
    assert ids == list(range(1, len(ids) + 1))
    order = [event.utterance_id for event in published]
    assert order == sorted(order)
    last_end_s = 0.0
    for utterance_id in ids:
        states = [event for event in published if event.utterance_id == utterance_id]
        assert [state.revision for state in states] == list(range(len(states)))
        assert [state.is_final for state in states] == [False] * (len(states) - 1) + [True]
        assert ''.join(state.delta for state in states) == states[-1].text
        for state in states:
            ends = [word.end_s for word in state.words]
            assert ends == sorted(ends)
            assert [word.text for word in state.words] == state.text.split()
            assert state.start_s <= ends[0] <= ends[-1] == state.end_s <= fed_s + 0.5
        assert states[-1].start_s == states[0].start_s >= last_end_s
        last_end_s = states[-1].end_s


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(
    st.sampled_from([' stop', ' the robot.', ' turn left and stop', 's']),
    st.sampled_from([0.2, 0.9]), st.integers(0, 40), st.integers(-2, 3)), max_size=12),
    st.sampled_from([3, 6, 30]), st.sampled_from([0.3, 0.8, 2.0]))
def test_every_word_is_published_once_and_groups_stay_whole(parts, delay, silence_s):
    script = Script()
    audio = join(*(join(script.say(text, voiced=transcribed, late=late), silence(0.08 * pause))
                   for text, transcribed, pause, late in parts), silence(PAUSE))
    options = endpoint(silence_s=silence_s, max_utterance_s=5.0)
    published = texts(transcribe(script, audio, options, delay))
    groups = [text.replace(' ', '') for text, *_ in parts]
    for text in published:
        rest = text.replace(' ', '')
        while rest:
            assert rest.startswith(groups[0])
            rest = rest[len(groups.pop(0)):]
    assert not groups
