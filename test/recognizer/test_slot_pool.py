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

"""Streams that share the slots of an engine: who needs one has one, and nothing is lost."""

import logging
import math

import pytest
from support.realtime import ServedScript
from support.scripted import (
    feed, finals, join, NEVER_IDLE, PAUSE, Script, scripted_voice, silence, texts, TOKEN,
    TOKEN_S, transcribe, voice)
from voxtral_ros.recognizer.events import SpeechActivity
from voxtral_ros.recognizer.interface import NotFinite
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.slot import Slot
from voxtral_ros.recognizer.slot_pool import SlotPool

NO_LIMIT_S = 3600.0


@pytest.fixture(autouse=True)
def _scripted():
    with scripted_voice():
        yield


@pytest.fixture
def script():
    return Script()


def make(script, n_slots, n_streams, idle_slot_s=0.0, **options):
    engine = ServedScript(script, max_streams=n_slots)
    return engine, [engine.open(options=StreamOptions(**options), idle_slot_s=idle_slot_s)
                    for _ in range(n_streams)]


def order(script, *pieces):
    return join(silence(1.0), script.say(*pieces), silence(PAUSE))


def test_one_slot_is_enough_for_those_who_speak_one_after_the_other(script):
    engine, streams = make(script, 1, 3)
    for n in range(6):
        audio = order(script, f' {n}')
        speaker = streams[n % 3]
        others = [stream for stream in streams if stream is not speaker]
        events = feed(speaker, audio)
        for stream in others:
            assert not texts(feed(stream, silence(len(audio) / 16000)))
        assert texts(events) == [str(n)]
        assert engine.n_open == 1
        assert not any(stream.waiting_s for stream in streams)
    assert engine.slots.n_waits == 0


def test_times_and_ids_go_on_across_slots(script):
    """As in a stream that has a slot of its own and is never idle."""
    _, (stream, other) = make(script, 1, 2)
    first, second = order(script, ' go'), join(silence(7.3), order(script, ' turn', ' left'))
    events = feed(stream, first)
    feed(other, order(script, ' stop'))  # takes the slot
    slot = stream._audio.slot
    events += feed(stream, second) + stream.close()
    assert slot is None
    expected = transcribe(script, join(first, second), StreamOptions(idle=NEVER_IDLE))

    for final, other in zip(finals(events), finals(expected), strict=True):
        assert (final.utterance_id, final.text) == (other.utterance_id, other.text)
        # In another slot the grid of tokens may lie elsewhere.
        assert [word.end_s for word in final.words] == \
            pytest.approx([word.end_s for word in other.words], abs=0.081)
    assert [event for event in events if isinstance(event, SpeechActivity)] == \
        [event for event in expected if isinstance(event, SpeechActivity)]


def test_the_slot_and_what_is_in_it_stay_while_nobody_needs_it(script):
    _, (stream, other) = make(script, 2, 2)
    feed(stream, order(script, ' go'))
    slot = stream._audio.slot
    feed(stream, silence(60.0))
    assert stream.stats.idle_s > 60
    feed(other, order(script, ' stop'))
    feed(stream, order(script, ' left'))
    assert stream._audio.slot is slot


def test_who_has_been_idle_longest_gives_his_slot(script):
    _, (old, young, new) = make(script, 2, 3)
    feed(old, order(script, ' go'))
    feed(young, order(script, ' go'))
    feed(old, silence(5.0))
    feed(young, silence(4.0))
    assert texts(feed(new, order(script, ' stop'))) == ['stop']
    assert old._audio.slot is None
    assert young._audio.slot is not None


def test_who_is_not_idle_for_long_enough_keeps_it_and_the_other_one_waits(script):
    engine, (stream, other) = make(script, 1, 2, idle_slot_s=10.0)
    feed(stream, order(script, ' go'))
    assert stream.idle
    assert not texts(feed(other, order(script, ' stop')))
    assert other.waiting_s >= 0.4 + PAUSE
    assert not other.idle
    assert (engine.slots.n_waiting, engine.slots.n_waits) == (1, 1)
    feed(stream, silence(6.0))
    assert not engine.slots.can_serve
    feed(stream, silence(4.0))
    assert engine.slots.can_serve
    assert texts(other.poll()) == ['stop']
    assert other.waiting_s == 0
    assert engine.slots.n_waiting == 0


def test_a_stream_whose_audio_does_not_come_any_more_is_idle_by_the_clock(script):
    engine, (stream, other) = make(script, 1, 2, idle_slot_s=10.0)
    now = [100.0]
    engine.slots._clock = lambda: now[0]
    feed(stream, order(script, ' go'))
    assert not texts(feed(other, order(script, ' stop')))
    now[0] += 9.9
    assert other.poll() == []
    now[0] += 0.2
    assert texts(other.poll()) == ['stop']


def test_the_first_who_waits_is_served_first(script):
    engine, (talker, first, second, third) = make(script, 1, 4, idle_slot_s=NO_LIMIT_S)
    feed(talker, join(silence(1.0), voice(1.0)))
    for n, stream in enumerate((first, second, third)):
        feed(stream, order(script, f' {n}'))
    assert engine.slots.n_waiting == 3
    talker.close()
    found = []
    for _ in range(3):
        engine.process()
        stream = next(stream for stream in (first, second, third)
                      if not stream._closed and not stream.waiting_s)
        found += texts(stream.poll())
        stream.close()
    assert found == ['0', '1', '2']


def test_a_new_stream_does_not_overtake_one_that_waits(script):
    engine, (talker, waiting) = make(script, 1, 2, idle_slot_s=NO_LIMIT_S)
    feed(talker, voice(1.0))
    feed(waiting, order(script, ' go'))
    talker.abandon()
    new = engine.open(idle_slot_s=NO_LIMIT_S)
    assert new.idle
    assert texts(waiting.poll()) == ['go']


def test_what_was_said_while_waiting_is_text_as_if_there_had_been_a_slot(script):
    audio = join(order(script, ' go', ' left'), order(script, ' stop'), silence(4.0),
                 script.say(' and'), silence(PAUSE))
    expected = finals(transcribe(script, audio))
    _, (talker, stream) = make(script, 1, 2, idle_slot_s=NO_LIMIT_S)
    feed(talker, voice(1.0))
    assert not texts(feed(stream, audio))
    talker.abandon()
    events = stream.poll()
    assert [(event.text, event.words) for event in finals(events)] == \
        [(event.text, event.words) for event in expected]


@pytest.mark.parametrize('later', [0.0, 1.5])
def test_a_flush_counts_although_the_stream_waits(script, later):
    _, (talker, stream) = make(script, 1, 2, idle_slot_s=NO_LIMIT_S)
    feed(talker, voice(1.0))
    feed(stream, join(silence(1.3), script.say(' go')))
    stream.flush()
    feed(stream, join(script.say(' left'), silence(later)) if later else silence(0.0))
    talker.abandon()
    events = stream.poll()
    assert texts(events)[:1] == ['go']
    assert texts(events + stream.close()) == ['go', 'left'] if later else ['go']
    assert finals(events)[0].words[0].end_s == pytest.approx(1.3 + 0.48, abs=0.1)


def test_who_closes_while_waiting_is_heard_if_there_is_a_slot(script):
    engine, (talker, stream) = make(script, 1, 2, idle_slot_s=NO_LIMIT_S)
    feed(talker, voice(1.0))
    feed(stream, join(silence(1.0), script.say(' go')))
    talker.abandon()
    assert texts(stream.close()) == ['go']
    assert engine.n_open == 0


def test_who_closes_while_waiting_is_told_what_is_lost_if_there_is_none(script, caplog):
    engine, (talker, stream) = make(script, 1, 2, idle_slot_s=NO_LIMIT_S)
    feed(talker, voice(1.0))
    feed(stream, join(silence(1.0), script.say(' go')))
    with caplog.at_level(logging.WARNING):
        assert texts(stream.close()) == []
    assert 'of its audio waited: all slots' in caplog.text
    assert engine.slots.n_waiting == 0


@pytest.mark.parametrize('state', ['awake', 'idle', 'without', 'waiting'])
@pytest.mark.parametrize('end', ['close', 'abandon'])
def test_an_end_in_any_state_leaves_the_engine_as_it_was(script, state, end):
    engine, (talker, stream) = make(
        script, 2 if state in ('awake', 'idle') else 1, 2, idle_slot_s=NO_LIMIT_S)
    feed(talker, voice(1.0))
    if state == 'waiting':
        feed(stream, voice(1.0))
    elif state == 'awake':
        feed(stream, silence(0.3))
    else:
        feed(stream, silence(5.0))
    assert (bool(stream._audio.slot), stream._audio.idle, bool(stream.waiting_s)) == {
        'awake': (True, False, False), 'idle': (True, True, False),
        'without': (False, True, False), 'waiting': (False, True, True)}[state]
    getattr(stream, end)()
    getattr(stream, end)()
    assert engine.n_open == 1
    talker.abandon()
    assert (engine.n_open, engine.slots.n_busy, engine.slots.n_waiting) == (0, 0, 0)
    again = [engine.open() for _ in range(engine.slots.n_slots)]
    assert len({stream._audio.slot.index for stream in again}) == engine.slots.n_slots


def test_a_stream_with_a_slot_of_its_own_takes_that_of_an_idle_one_and_keeps_it(script):
    engine, (sharing, waiting) = make(script, 1, 2)
    feed(sharing, order(script, ' go'))
    own = engine.open()
    assert sharing._audio.slot is None
    feed(own, silence(60.0))
    assert own.idle
    assert not texts(feed(waiting, order(script, ' stop')))
    assert waiting.waiting_s > 0
    assert own._audio.slot is not None


def test_a_network_without_numbers_is_noticed_in_a_slot_that_was_taken_later(script):
    engine, (talker, stream) = make(script, 1, 2, idle_slot_s=NO_LIMIT_S)
    feed(talker, voice(1.0))
    feed(stream, join(silence(1.0), script.say(' go', probability=math.nan), silence(PAUSE)))
    talker.abandon()
    with pytest.raises(NotFinite):
        stream.poll()
    stream.abandon()
    assert engine.n_open == 0


def test_an_endless_change_of_speakers_leaves_nothing_behind(script):
    engine, streams = make(script, 2, 5)
    engine._n_taken = -10_000
    audio = order(script, ' go')
    for n in range(300):
        for k, stream in enumerate(streams):
            stream.feed(audio if k == n % 5 else silence(len(audio) / 16000))
        engine.process()
        for k, stream in enumerate(streams):
            assert texts(stream.poll()) == (['go'] if k == n % 5 else [])
    assert len(engine.slots.open) == 2
    assert len(engine.slots._idle) <= 2
    assert all(len(stream._clock._skips) < 100 for stream in streams)
    # Five minutes for each, to the sample.
    assert finals(feed(streams[0], audio))[0].words[0].end_s == \
        pytest.approx(300 * len(audio) / 16000 + 1.48, abs=0.1)


# ---- how far the text is ----

def positions(stream, options):
    """Return after how many tokens of audio every word comes, as who counts tokens knows it."""
    found = []
    stream.tune(options)

    def feed_all(audio):
        for start in range(0, len(audio), TOKEN):
            stream.feed(audio[start:start + TOKEN])
            for event in stream.poll():
                if getattr(event, 'revision', None) == 0:
                    found.append(stream.stats.audio_tokens)
    return found, feed_all


@pytest.mark.parametrize('pause', [0.5, 3.17, 30.0, 61.9])
@pytest.mark.parametrize('lost', [False, True])
def test_skipped_audio_counts_as_tokens(script, pause, lost):
    """A word comes at the same token whether the pause before it was skipped or not."""
    audio = [order(script, ' go'), join(silence(pause), order(script, ' left'))]
    found = []
    for options in (StreamOptions(), StreamOptions(idle=NEVER_IDLE)):
        _, (stream, other) = make(script, 1 if lost and options.idle.after_s else 2, 2)
        counted, feed_all = positions(stream, options)
        feed_all(audio[0])
        feed(other, order(script, ' stop'))
        assert lost == (stream._audio.slot is None) or not options.idle.after_s
        feed_all(audio[1])
        found.append(counted)
    # In another slot the grid of tokens may lie elsewhere.
    assert found[0] == pytest.approx(found[1], abs=1 if lost else 0)
    assert len(found[0]) == 2
    assert found[0][1] == pytest.approx(
        (sum(map(len, audio)) / 16000 - PAUSE) / TOKEN_S, abs=3)


def test_tokens_are_counted_while_nobody_speaks(script):
    _, (stream,) = make(script, 1, 1)
    stream.feed(silence(60.0))
    stream.poll()
    assert stream.stats.tokens < 60
    assert 60 / TOKEN_S - 25 <= stream.stats.audio_tokens <= 60 / TOKEN_S


def test_silence_of_flushes_does_not_count(script):
    _, (stream,) = make(script, 1, 1)
    for _ in range(10):
        feed(stream, script.say(' go'))
        stream.flush()
        stream.poll()
    assert stream.stats.audio_tokens <= 10 * 0.48 / TOKEN_S
    assert stream.stats.tokens > 100


# ---- the pool ----

def test_a_slot_is_not_lost_when_its_network_cannot_be_reset(script):
    engine, _ = make(script, 1, 0)

    def begin(index, delay):
        if failures:
            raise RuntimeError(failures.pop())
        return Slot(index, engine.protocol, delay)
    failures = ['the GPU fell off the bus']
    pool = SlotPool(1, begin)
    with pytest.raises(RuntimeError, match='bus'):
        pool.take(6)
    assert pool.take(6) is not None
    assert pool.take(6) is None
