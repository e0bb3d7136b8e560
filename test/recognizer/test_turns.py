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

"""Turns: their order and content, whatever is said and however late it is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from support.hearing import drive
from support.scripted import (
    DELAY, encode, finals, join, NEVER_IDLE, open_stream, RATE, Script, scripted_voice,
    ScriptedEngine, silence, texts, TOKEN, TOKEN_S, TOKENIZER, voice)

from voxtral_ros.recognizer.endpoint import EndpointOptions
from voxtral_ros.recognizer.events import Event, Transcript, Turn, TurnKind
from voxtral_ros.recognizer.idle import IdleOptions
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.slot import Slot
from voxtral_ros.recognizer.stream import Stream
from voxtral_ros.recognizer.turns import TurnOptions

START, EAGER_END, RESUMED, END = TurnKind
CHUNK_S = 0.032


@pytest.fixture(scope='module', autouse=True)
def voice_activity():
    with scripted_voice():
        yield


def turns(events: list[Event]) -> list[Turn]:
    return [event for event in events if isinstance(event, Turn)]


def kinds(events: list[Event]) -> list[TurnKind]:
    return [turn.kind for turn in turns(events)]


def check(events: list[Event]) -> None:
    """Check all that holds for the events of any stream that has ended."""
    open_id, last_id, text, is_eager, final = None, 0, '', False, None
    for event in events:
        if final is not None:  # its END comes at once
            assert isinstance(event, Turn) and event.kind is END
            assert (event.utterance_id, event.text, event.words, event.start_s) == (
                final.utterance_id, final.text, final.words, final.start_s)
        if isinstance(event, Transcript):
            assert event.utterance_id == open_id
            assert event.text == text + event.delta
            assert event.text.split() == [word.text for word in event.words]
            text, final = event.text, event if event.is_final else None
        elif isinstance(event, Turn) and event.kind is START:
            assert open_id is None
            assert event.utterance_id == last_id + 1
            open_id = last_id = event.utterance_id
            text, is_eager = '', False
        elif isinstance(event, Turn):
            assert event.utterance_id == open_id
            assert event.kind is not RESUMED or is_eager
            is_eager = event.kind is EAGER_END
            if event.kind is EAGER_END:
                assert event.text
                assert event.text.split() == [word.text for word in event.words]
            if event.kind is END:
                assert final is not None or not event.text
                open_id = final = None
    assert open_id is None and final is None


# ---- one turn ----

@pytest.mark.parametrize('delay', range(1, 16))
def test_a_turn_and_when_its_events_come(delay):
    script = Script()
    audio = join(silence(0.8), script.say(' stop', '.'), silence(2.0))
    stream, came = open_stream(script, StreamOptions(idle=NEVER_IDLE), delay), []
    for start in range(0, len(audio), TOKEN):
        stream.feed(audio[start:start + TOKEN])
        came += [((start + TOKEN) / RATE, event) for event in stream.poll()]
    check([event for _, event in came])
    said = [(event, now_s) for now_s, event in came if isinstance(event, Turn)]
    assert [turn.kind for turn, _ in said] == [START, EAGER_END, END]
    end_s = 1.28  # of speech; the model has its audio a token later
    for (turn, now_s), pause_s in zip(said[1:], (0.25, 0.8), strict=True):
        assert turn.end_s == pytest.approx(end_s, abs=CHUNK_S)
        assert end_s + pause_s <= now_s + 1e-6 <= end_s + pause_s + CHUNK_S + 2 * TOKEN_S
        assert turn.text == 'stop.'
        assert [word.end_s for word in turn.words] == pytest.approx([end_s], abs=1e-6)
    final_s, = (now_s for now_s, event in came if isinstance(event, Transcript) and event.is_final)
    assert final_s == said[2][1]
    assert (stream.stats.looks_ahead, stream.stats.corrected_ends) == (1, 0)


def test_a_delay_that_cannot_be_looked_over_ends_turns_as_they_are_written():
    script = Script()
    audio = join(silence(0.8), script.say(' stop', '.'), silence(5.0))
    stream = open_stream(script, StreamOptions(), delay=30)
    events = drive(stream, audio)
    check(events)
    assert kinds(events) == [START, END]


def test_without_looks_there_are_turns_all_the_same():
    script = Script()
    audio = join(silence(0.8), script.say(' stop', '.'), silence(2.0))
    stream = open_stream(script, StreamOptions(turns=TurnOptions(eager_s=0)))
    events = drive(stream, audio)
    check(events)
    assert kinds(events) == [START, END]
    assert stream.stats.looks_ahead == 0


def test_a_turn_that_goes_on():
    script = Script()
    audio = join(silence(0.8), script.say(' turn'), silence(0.48), script.say(' left'),
                 silence(2.0))
    events = drive(open_stream(script), audio)
    check(events)
    assert kinds(events) == [START, EAGER_END, RESUMED, EAGER_END, END]
    assert [turn.text for turn in turns(events)] == ['', 'turn', '', 'turn left', 'turn left']
    assert turns(events)[2].end_s == pytest.approx(1.28 + 0.48, abs=CHUNK_S)
    assert [turn.start_s for turn in turns(events)] == pytest.approx([0.8] * 5, abs=CHUNK_S)


@pytest.mark.parametrize('gap', range(1, 12))
def test_two_turns_in_quick_succession(gap):
    """The second begins so many tokens after the end of the first one."""
    script = Script()
    audio = join(silence(0.8), script.say(' stop'), silence(0.8 + 2 * TOKEN_S),
                 silence(gap * TOKEN_S), script.say(' turn', ' left'), silence(2.0))
    for late in range(-3, 4):
        script.groups = [replace(group, late=late) for group in script.groups]
        events = drive(open_stream(script), audio)
        check(events)
        assert texts(events) == ['stop', 'turn left']
        if late < 3:  # what comes later than that, a look does not find
            assert [turn.text for turn in turns(events) if turn.kind is EAGER_END] == [
                'stop', 'turn left']


@pytest.mark.parametrize('text, pause_s', [
    (' stop.', 0.4), (' stop?', 0.4), (' stop!', 0.4), (' stop\u3002', 0.4), (' stop', 0.8),
    (' stop,', 0.8)])
def test_the_end_of_a_sentence_shortens_the_pause(text, pause_s):
    script = Script()
    audio = join(silence(0.8), script.say(text), silence(2.0))
    stream, came = open_stream(script, StreamOptions(
        turns=TurnOptions(punctuated_silence_s=0.4))), []
    for start in range(0, len(audio), TOKEN):
        stream.feed(audio[start:start + TOKEN])
        came += [((start + TOKEN) / RATE, turn) for turn in turns(stream.poll())]
    now_s, last = came[-1]
    assert (last.kind, last.text) == (END, text.strip())
    assert 1.28 + pause_s <= now_s + 1e-6 <= 1.28 + pause_s + CHUNK_S + 2 * TOKEN_S


def test_a_sentence_does_not_end_later_than_anything_else():
    script = Script()
    audio = join(silence(0.8), script.say(' stop.'), silence(0.64), script.say(' turn'),
                 silence(2.0))
    options = StreamOptions(EndpointOptions(silence_s=0.5),
                            turns=TurnOptions(punctuated_silence_s=2.0))
    assert texts(drive(open_stream(script, options), audio)) == ['stop.', 'turn']


# ---- looks that find what is not written then ----

class Illusion(ScriptedEngine):
    """Finds another word in every look ahead than what will be written."""

    def __init__(self, script: Script, text: str) -> None:
        super().__init__(script)
        self._text = text

    @contextmanager
    def looking_ahead(self, slot: Slot) -> Iterator:
        """Write the text once, and then pads."""
        with super().looking_ahead(slot) as decode:
            ids = iter([TOKENIZER.word, *encode(self._text)] if self._text else [])

            def decode_another(n_tokens):
                return [replace(token, id=next(ids, TOKENIZER.pad)) for token in decode(n_tokens)]
            yield decode_another


def open_with_illusions(script: Script, text: str = ' robot', **options) -> Stream:
    return Stream(Illusion(script, text), DELAY, StreamOptions(**options))


ENDS = {
    'close': lambda stream: stream.close(),
    'abandon': lambda stream: stream.abandon(),
    'flush': lambda stream: [*(stream.flush() or stream.poll()), *stream.abandon()],
    'pause': lambda stream: drive(stream, silence(3.0)) + stream.abandon(),
}


@pytest.mark.parametrize('end', ENDS)
def test_a_turn_that_was_not_written_ends_all_the_same(end):
    stream = open_with_illusions(Script())
    events = drive(stream, join(silence(0.8), voice(0.48), silence(0.4)))
    assert kinds(events) == [START, EAGER_END]
    events += ENDS[end](stream)
    check(events)
    assert kinds(events)[-1] is END


@pytest.mark.parametrize('end', ENDS)
def test_a_turn_that_goes_on_without_words_ends(end):
    stream = open_with_illusions(Script())
    events = drive(stream, join(silence(0.8), voice(0.48), silence(0.4), voice(0.4)))
    assert kinds(events) == [START, EAGER_END, RESUMED]
    events += ENDS[end](stream)
    check(events)
    assert kinds(events)[-1] is END


def test_the_next_turn_has_another_id_than_one_without_text():
    script = Script()
    stream = open_with_illusions(script)
    events = drive(stream, join(silence(0.8), voice(0.48), silence(0.4)))
    stream.flush()
    events += drive(stream, join(silence(0.8), script.say(' stop'), silence(3.0)))
    check(events + stream.close())
    assert [turn.utterance_id for turn in turns(events) if turn.kind is START] == [1, 2]


def test_a_final_that_was_not_written_then_keeps_nobody_awake():
    script = Script()
    stream = open_with_illusions(script)
    events = drive(stream, join(silence(0.8), voice(0.48), silence(3.0)))
    assert texts(events) == ['robot']
    assert stream.stats.corrected_ends == 1
    assert stream.stats.idle_s > 0
    events += drive(stream, join(script.say(' stop'), silence(3.0)))
    check(events)
    assert [word.text for final in finals(events) for word in final.words][1:] == ['stop']


def test_words_that_were_written_otherwise_are_corrections_and_more_of_them_come_after():
    script = Script()
    audio = join(silence(0.8), script.say(' stop', late=2), script.say(' the', ' robot', late=5),
                 silence(3.0))
    stream = open_with_illusions(script, ' zebra')
    events = drive(stream, audio)
    check(events)
    assert [turn.text for turn in turns(events)] == [
        '', 'stop zebra', 'stop zebra', '', 'robot']
    assert stream.stats.corrected_ends == 1


def test_a_look_that_finds_nothing_takes_nothing_away():
    script = Script()
    stream = open_with_illusions(script, '')
    events = drive(stream, join(silence(0.8), script.say(' stop', ' turn', late=3), silence(3.0)))
    check(events)
    assert texts(events) == ['stop turn']
    assert kinds(events) == [START, END]


def test_a_new_start_ends_the_turn():
    script = Script()
    stream = open_stream(script, StreamOptions(EndpointOptions(silence_s=99, pad_silence_s=99),
                                               turns=TurnOptions(eager_s=0.25)))
    audio = join(silence(0.8), script.say(' stop'), silence(0.48), script.blank_loop(99.0),
                 voice(17.0), silence(1.0), script.say(' turn'), silence(1.0))
    events = drive(stream, audio) + stream.close()
    check(events)
    assert stream.stats.watchdog_resets == 1
    assert ' '.join(texts(events)).split() == ['stop', 'turn']


# ---- any turns ----

PIECES = ((' stop',), (' the', ' robot', '.'), (' caf', b'\xc3', b'\xa9'), (' turn', ' left', '?'))


@pytest.mark.parametrize('seed', range(60))
def test_turns_are_well_formed_and_no_word_is_lost_or_said_twice(seed):
    rng = np.random.default_rng(seed)
    script, audio, said, flushes, n_samples = Script(), [silence(0.8)], '', [], 12_800
    latest = int(rng.choice([0, 3, 8]))
    delay = int(rng.choice([3, 6, 15, 30]))
    for _ in range(rng.integers(1, 9)):
        pieces = PIECES[rng.integers(len(PIECES))]
        pause = rng.integers(0, 40) if rng.random() < 0.7 else rng.integers(0, 8)
        part = join(script.say(*pieces, late=int(rng.integers(-2, latest + 1))),
                    silence(TOKEN_S * pause))
        said += b''.join(piece if isinstance(piece, bytes) else piece.encode()
                         for piece in pieces).decode()
        audio.append(part)
        n_samples += len(part)
        if rng.random() < 0.15 and latest == 0:
            flushes.append(n_samples)
    stream = open_stream(script, StreamOptions(
        EndpointOptions(silence_s=rng.choice([0.3, 0.8]), max_utterance_s=5.0),
        turns=TurnOptions(rng.choice([0.05, 0.15, 0.25, 0.6, 1.0]), rng.choice([0.0, 0.3])),
        # Nobody waits for words that come so late.
        idle=IdleOptions(after_s=rng.choice([0.0, 0.5, 2.0]) if latest < 8 else 0.0)), delay)
    events = drive(stream, join(*audio, silence(1.0)), [TOKEN, 7000], [True, False], flushes)
    events += stream.close()
    check(events)
    assert ' '.join(texts(events)).split() == said.split()
