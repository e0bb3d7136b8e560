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

"""The verbs of a stream: feed, poll, flush, close and abandon, and what they leave in memory."""

from collections import deque
from collections.abc import Sized

import numpy as np
import pytest
from support.scripted import (
    DELAY, feed, finals, join, open_stream, PAUSE, RATE, Script, scripted_voice, ScriptedEngine,
    silence, texts, TOKEN, transcribe, voice)

from voxtral_ros.model.config import AudioConfig
from voxtral_ros.recognizer.endpoint import EndpointOptions
from voxtral_ros.recognizer.events import SpeechActivity
from voxtral_ros.recognizer.idle import IdleOptions
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.stream import Stream
from voxtral_ros.recognizer.vad import VadOptions
from voxtral_ros.recognizer.watchdog import WatchdogOptions

NO_END = StreamOptions(  # but by a flush
    EndpointOptions(silence_s=999.0, pad_silence_s=999.0, max_utterance_s=9999.0))


@pytest.fixture(autouse=True)
def voice_activity():
    with scripted_voice():
        yield


# ---- feed ----

@pytest.mark.parametrize('kind', [list, tuple, np.float64, np.float32, np.float16])
def test_samples_may_be_any_sequence_of_numbers(kind):
    script = Script()
    recording = join(silence(0.8), script.say(' stop'), silence(PAUSE))
    samples = kind(recording) if kind in (list, tuple) else recording.astype(kind)
    stream = open_stream(script)
    stream.feed(samples)
    assert texts(stream.close()) == ['stop']


@pytest.mark.parametrize('samples', [
    0.5, np.zeros((10, 1)), np.zeros((2, 10)), np.zeros((1, 0)), [[0.0]]])
def test_other_shapes_are_refused(samples):
    stream = open_stream(Script())
    with pytest.raises(ValueError, match='one dimension'):
        stream.feed(samples)
    assert stream.stats.bad_samples == 0


def test_no_samples_are_no_audio():
    stream = open_stream(Script())
    stream.feed([])
    assert stream.poll() == []
    assert stream.stats.tokens == 0


def test_the_array_may_be_reused_by_the_caller():
    script = Script()
    recording = join(silence(0.8), script.say(' stop'), silence(PAUSE))
    stream, events, block = open_stream(script), [], np.zeros(1000, np.float32)
    for start in range(0, len(recording) - 1000, 1000):
        block[:] = recording[start:start + 1000]
        stream.feed(block)
        block[:] = np.nan
        events += stream.poll()
    assert texts(events + stream.close()) == ['stop']
    assert stream.stats.bad_samples == 0


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.filterwarnings('ignore:overflow')
def test_samples_that_are_no_numbers_are_silence_and_are_counted(bad):
    script = Script()
    recording = join(silence(0.8), script.say(' stop'), silence(PAUSE)).astype(np.float64)
    expected = transcribe(script, recording)
    recording[100:900:8] = bad  # in silence
    before = recording.copy()
    stream = open_stream(script)
    assert feed(stream, recording) + stream.close() == expected
    assert stream.stats.bad_samples == 100
    assert np.array_equal(recording, before, equal_nan=True)


def test_bad_samples_never_reach_the_model():
    stream = open_stream(Script())
    stream.feed(np.full(4000, np.nan))
    slot = stream._audio.slot
    assert np.isfinite(slot.window(slot.ready)).all()


# ---- flush ----

def test_a_flush_brings_out_the_last_word_and_ends_the_utterance():
    script = Script()
    stream = open_stream(script, NO_END)
    stream.feed(join(silence(0.8), script.say(' what', ' are', ' you', ' doing', ' here', '?')))
    assert texts(stream.poll()) == []
    stream.flush()
    assert texts(stream.poll()) == ['what are you doing here?']


@pytest.mark.parametrize('delay', [1, 6, 15, 30])
@pytest.mark.parametrize('n_samples', [2, 639, 1280, 1281, 20_000])
def test_a_flush_works_at_any_moment_and_again(n_samples, delay):
    """Say a word that is over with its last sample, four times."""
    script = Script()
    stream = open_stream(script, NO_END, delay)
    for n in range(1, 5):
        events = feed(stream, script.say(' stop', 's', '.', seconds=n_samples / RATE))
        stream.flush()
        events += stream.poll()
        assert texts(events) == ['stops.']
        assert finals(events)[0].utterance_id == n
        assert finals(events)[0].end_s <= n * n_samples / RATE + 1e-9


def test_inserted_silence_does_not_count_in_later_times():
    script = Script()
    parts = [join(silence(0.8), script.say(word), silence(0.4))
             for word in (' what', ' are', ' you', ' doing')]
    stream, events = open_stream(script), []
    for part in parts:
        events += feed(stream, part, 4000)
        stream.flush()
        stream.flush()
    events += stream.close()
    assert [final.end_s for final in finals(events)] == pytest.approx(
        [1.28 + 1.68 * n for n in range(4)], abs=0.081)
    assert [final.start_s for final in finals(events)] == pytest.approx(
        [0.8 + 1.68 * n for n in range(4)], abs=0.051)
    activity = [event.time_s for event in events if isinstance(event, SpeechActivity)]
    assert activity == pytest.approx(
        [t + 1.68 * n for n in range(4) for t in (0.8, 1.28)], abs=0.051)


def test_times_are_right_when_all_is_transcribed_at_the_end():
    """Feed minutes with flushes between them before the first poll, as for a file."""
    script = Script()
    options = StreamOptions(watchdog=WatchdogOptions(speech_s=0))
    streams = [open_stream(script, options) for _ in range(2)]
    events = []
    for _ in range(4):
        recording = join(silence(0.8), script.say(' stop'), silence(70.0))
        for stream in streams:
            stream.feed(recording)
            stream.flush()
        events += streams[0].poll()
    assert [final.end_s for final in finals(events)] == pytest.approx(
        [1.28 + 71.28 * n for n in range(4)], abs=0.081)
    assert streams[1].poll() == events


def test_flushes_that_wait_each_end_their_utterance():
    script = Script()
    stream = open_stream(script, NO_END)
    for word in (' turn', ' left', ' here'):
        stream.feed(join(silence(0.4), script.say(word)))
        stream.flush()
    assert texts(stream.poll()) == ['turn', 'left', 'here']


def test_a_stream_goes_on_after_a_flush_in_the_middle_of_speech():
    script = Script()
    stream = open_stream(script, NO_END)
    events = feed(stream, join(script.say(' turn'), voice(0.3)))
    stream.flush()
    events += feed(stream, join(voice(0.1), script.say(' left'), silence(0.5)))
    assert texts(events + stream.close()) == ['turn', 'left']


def test_a_flush_of_an_empty_stream_says_nothing_and_changes_no_time():
    script = Script()
    stream = open_stream(script)
    for _ in range(3):
        stream.flush()
        assert stream.poll() == []
    events = feed(stream, join(silence(0.8), script.say(' stop'), silence(PAUSE)))
    assert texts(events) == ['stop']
    assert finals(events)[0].end_s == pytest.approx(1.28, abs=0.081)


# ---- close and abandon ----

def test_close_returns_the_last_final_and_frees_the_slot():
    script = Script()
    stream = open_stream(script, NO_END)
    stream.feed(join(silence(0.8), script.say(' stop')))
    assert stream._engine.n_open == 1
    assert texts(stream.close()) == ['stop']
    assert stream._engine.n_open == 0


def test_close_and_abandon_again_do_nothing():
    """Leave the slot alone: another stream may have it by now."""
    script = Script()
    engine = ScriptedEngine(script)
    for end in (Stream.close, Stream.abandon):
        stream = Stream(engine, DELAY, StreamOptions())
        end(stream)
        heir = Stream(engine, DELAY, StreamOptions())
        assert stream.close() == []
        stream.abandon()
        assert engine.n_open == 1
        heir.feed(join(silence(0.8), script.say(' stop')))
        assert texts(heir.close()) == ['stop']


@pytest.mark.parametrize('end', [Stream.close, Stream.abandon])
def test_a_closed_stream_refuses_everything(end):
    stream = open_stream(Script())
    end(stream)
    for verb in (stream.poll, stream.flush, lambda: stream.feed([0.0])):
        with pytest.raises(ValueError, match='closed'):
            verb()


def test_a_stream_is_closed_even_if_its_last_poll_fails():
    engine = ScriptedEngine()
    stream = Stream(engine, DELAY, StreamOptions(on_token=lambda _: 1 / 0))
    stream.feed(silence(2.0))
    with pytest.raises(ZeroDivisionError):
        stream.close()
    assert engine.n_open == 0
    assert stream.close() == []


def test_abandoning_ends_the_open_utterance_as_it_stands():
    script = Script()
    stream = open_stream(script, NO_END)
    stream.feed(join(silence(0.8), script.say(' stop'), silence(1.5)))
    assert texts(stream.poll()) == []
    assert texts(stream.abandon()) == ['stop']


def test_what_a_failed_close_had_recognised_can_still_be_had():
    script, failing = Script(), []

    def on_token(token):
        if failing and token.index >= 20:
            raise RuntimeError('the engine has a bad day')

    stream = Stream(ScriptedEngine(script), DELAY, StreamOptions(on_token=on_token))
    stream.feed(join(silence(0.8), script.say(' stop'), silence(PAUSE + 2.0)))
    failing.append(True)
    with pytest.raises(RuntimeError, match='bad day'):
        stream.close()
    assert texts(stream.abandon()) == ['stop']
    assert stream.abandon() == []


# ---- memory ----

def sizes(thing: object, path: str = 'stream') -> dict[str, int]:
    """Return the lengths of all containers that a stream holds."""
    found = {path: len(thing)} if isinstance(thing, Sized) else {}
    if isinstance(thing, (list, deque, tuple)):
        for item in thing:
            for name, size in sizes(item, path + '[]').items():
                found[name] = found.get(name, 0) + size
    elif type(thing).__module__.startswith('voxtral_ros.recognizer'):
        for name, value in vars(thing).items():
            if name not in ('_engine', '_protocol', '_tokenizer', 'options'):
                found |= sizes(value, f'{path}.{name}')
    return found


@pytest.mark.slow
def test_hours_leave_nothing_in_memory():
    """Process two hours of talk, pauses, noise, blank loops and flushes, in tokens of 0.8 s."""
    script = Script()
    engine = ScriptedEngine(script, audio=AudioConfig(frame_rate=1.25))
    stream = Stream(engine, DELAY, StreamOptions())
    talk = join(*(script.say(' turn', ' left', seconds=2.4) for _ in range(10)), silence(4.0),
                script.say(' and', voiced=0.0), silence(15.2), voice(24.0),
                script.blank_loop(99.0), voice(40.0), silence(8.0))
    part_s, history = len(talk) / RATE, []
    for _ in range(round(7200 / part_s)):
        assert feed(stream, talk, 10 * TOKEN)
        stream.flush()
        history.append(sizes(stream))
    assert {'stream._voice._history', 'stream._audio._pending._data',
            'stream._audio._recent._data', 'stream._audio.slot.tokens', 'stream._events',
            'stream._clock._insertions', 'stream._endpointer._boundaries',
            'stream._flushes'} <= history[0].keys()
    hour = len(history) // 2
    for name in history[-1]:
        largest = [max(part.get(name, 0) for part in half)
                   for half in (history[:hour], history[hour:])]
        assert largest[1] <= 1.2 * largest[0] + 4, name
    assert stream.stats.watchdog_resets > 10
    assert stream.stats.discarded_words > 10


def test_an_hour_of_idle_times_leaves_nothing_in_memory_and_the_clock_exact():
    """Wake thousands of times, with a look ahead and inserted silence each time."""
    script = Script()
    part = join(script.say(' stop', seconds=0.24), silence(0.88))
    stream = open_stream(script, StreamOptions(
        EndpointOptions(silence_s=0.3), idle=IdleOptions(preroll_s=0.1)), delay=1)
    history, n_parts, n_idle = [], 3214, 0
    for n in range(n_parts):
        events = feed(stream, part, len(part))
        if n % 8 == 0:
            stream.flush()
        n_idle += stream.stats.idle_s > 0
        events += stream.poll()
        assert [final.end_s for final in finals(events)] == [round(0.24 + 1.12 * n, 9)]
        if n % 56 == 0:
            history.append(sizes(stream))
    assert n_idle == n_parts
    assert stream.stats.looks_ahead == n_parts
    assert stream.stats.skipped_s == pytest.approx(n_parts * 0.16, abs=0.1)
    for name in history[-1]:
        largest = [max(part.get(name, 0) for part in half)
                   for half in (history[8:30], history[30:])]
        assert largest[1] <= largest[0], name


# ---- tune ----

def test_a_stream_takes_over_another_pause_and_threshold():
    script = Script()
    stream = open_stream(script, NO_END)
    order = join(silence(0.8), script.say(' stop', voiced=0.6), silence(PAUSE))
    events = feed(stream, order)
    assert finals(events) == []
    assert any(isinstance(event, SpeechActivity) for event in events)
    stream.tune(StreamOptions(vad=VadOptions(threshold=0.8)))
    events = feed(stream, join(script.say(' turn', voiced=0.6), silence(PAUSE)))
    assert texts(events) == ['stop']  # its pause is long enough now
    assert not any(isinstance(event, SpeechActivity) for event in events)


def test_a_stream_takes_over_another_patience_of_the_watchdog():
    script = Script()
    stream = open_stream(script)
    feed(stream, join(script.say(' stop'), script.blank_loop(9.0), voice(4.0)))
    assert stream.stats.watchdog_penalties == 0
    stream.tune(StreamOptions(watchdog=WatchdogOptions(speech_s=3.0)))
    feed(stream, voice(0.16))
    assert stream.stats.watchdog_penalties == 1
    stream.tune(StreamOptions(watchdog=WatchdogOptions(speech_s=0.0)))
    feed(stream, voice(20.0))
    assert stream._engine.penalties[-1] == 0.0  # given up where it is no more wanted
