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

"""The robot's own words go, those of whoever interrupts stay, and text never shrinks."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
import pytest

from voxtral_ros.recognizer.events import SpeechActivity, Transcript, Turn, TurnKind, Word
from voxtral_ros.recognizer.robot_words import RobotText, RobotWords

SENTENCE = 'The kitchen is on the left side of the corridor, next to the living room.'
STEP_S = 0.4
T0 = 1_700_000_000.0  # stamp of the beginning of the stream


def always(start_s, end_s):
    return True


def never(start_s, end_s):
    return False


def stamp_s(time_s):
    return T0 + time_s


def words_of(text, start_s=0.0):
    """Return words that are said one after the other."""
    return tuple(Word(word, start_s + (n + 1) * STEP_S, 1.0)
                 for n, word in enumerate(text.split()))


def utterance(text, number=1, start_s=0.0):
    """Return all that a stream emits of an utterance that grows word by word."""
    words = words_of(text, start_s)
    events, before = [Turn(TurnKind.START, number, '', (), start_s, start_s)], ''
    for n in range(1, len(words) + 1):
        now = ' '.join(word.text for word in words[:n])
        events.append(Transcript(number, n, False, now, now[len(before):], words[:n], start_s,
                                 words[n - 1].end_s))
        before = now
    end_s = words[-1].end_s
    events.append(Turn(TurnKind.EAGER_END, number, text, words, start_s, end_s))
    events.append(Transcript(number, len(words) + 1, True, text, '', words, start_s, end_s))
    events.append(Turn(TurnKind.END, number, text, words, start_s, end_s))
    return events


def filtered(events, robot_text=SENTENCE, spoke=always, at_s=0.0):
    text = RobotText()
    text.say(robot_text, T0 + at_s)
    robot = RobotWords(text)
    # One event at a time, as they come.
    return [passed for event in events for passed in robot.take([event], spoke, stamp_s)]


def final(events):
    """Return the text of the final transcript, '' where there is none."""
    return next((event.text for event in events
                 if isinstance(event, Transcript) and event.is_final), '')


def kinds(events):
    return [event.kind for event in events if isinstance(event, Turn)]


@pytest.mark.parametrize('heard', [
    SENTENCE,
    'the kitchen is on the left',
    'kitchen is on left side of corridor',  # words that were cancelled
    'the kitchin is on the left side of the coridor',  # misheard
    'next to the livingroom',  # written as one
    'corridor'])
def test_of_what_the_robot_says_nothing_is_left(heard):
    assert filtered(utterance(heard), at_s=-2.0) == []


@pytest.mark.parametrize(('heard', 'kept'), [
    ('stop', 'stop'),
    ('the kitchen is stop on the left', 'stop'),
    ('kitchen stop please', 'stop please'),
    ('stop the left side of the corridor', 'stop'),
    ('robot go to the bedroom', 'robot go to the bedroom'),  # small words are in every text
    ('what is on the table', 'what is on the table'),
    ('the kitchen is no no wait on the left', 'no no wait')])
def test_what_somebody_else_says_stays(heard, kept):
    events = filtered(utterance(heard), at_s=-2.0)
    assert final(events) == kept
    assert kinds(events) == [TurnKind.START, TurnKind.EAGER_END, TurnKind.END]


def test_a_turn_starts_with_the_first_word_of_somebody_else():
    events = filtered(utterance('the kitchen is stop on the left'))
    start, first = events[:2]
    assert isinstance(start, Turn) and start.kind is TurnKind.START
    assert start.start_s == pytest.approx(3 * STEP_S)
    assert (first.text, first.delta, first.start_s) == ('stop', 'stop', pytest.approx(3 * STEP_S))


def test_while_the_robot_is_silent_everything_passes_as_it_is():
    events = utterance('the kitchen is on the left')
    assert filtered(events, spoke=never) == events


def test_without_a_text_everything_passes():
    events = utterance('the kitchen is on the left')
    robot = RobotWords(RobotText())
    passed = [each for event in events for each in robot.take([event], always, stamp_s)]
    assert final(passed) == 'the kitchen is on the left'
    assert kinds(passed) == [TurnKind.START, TurnKind.EAGER_END, TurnKind.END]


def test_only_words_that_were_said_while_the_robot_spoke_can_be_its_own():
    def until(time_s):
        return lambda start_s, end_s: start_s < time_s

    heard = utterance('left corridor kitchen')
    assert final(filtered(heard, spoke=until(0.3), at_s=-2.0)) == 'corridor kitchen'


@pytest.mark.parametrize(('at_s', 'kept'), [(-60.0, 'corridor'), (0.0, ''), (30.0, 'corridor')])
def test_a_word_counts_when_the_robot_can_have_said_it(at_s, kept):
    assert final(filtered(utterance('corridor', start_s=3.0), at_s=at_s)) == kept


def test_when_the_robot_stops_what_it_has_not_said_is_free():
    text = RobotText()
    text.say(SENTENCE, T0)
    assert text.places('corridor', T0 + 9.0, T0 + 9.4)
    text.stop(T0 + 3.0)
    assert not text.places('corridor', T0 + 9.0, T0 + 9.4)
    assert text.places('kitchen', T0 + 1.0, T0 + 1.4)


def test_a_word_that_may_become_the_robots_is_kept_back_until_it_is_complete():
    robot = RobotWords(text := RobotText())
    text.say('We go to the story corner.', T0)
    start = Turn(TurnKind.START, 1, '', (), 0.0, 0.0)

    def grown(word, revision, more=()):
        words = (Word(word, 1.0, 1.0), *more)
        joined = ' '.join(each.text for each in words)
        return Transcript(1, revision, False, joined, '', words, 0.5, words[-1].end_s)

    assert robot.take([start, grown('sto', 1)], always, stamp_s) == []
    assert robot.take([grown('stop', 2)], always, stamp_s) == []
    passed = robot.take([grown('stop', 3, (Word('now', 1.4, 1.0),))], always, stamp_s)
    assert [getattr(event, 'text', None) for event in passed] == ['', 'stop now']


def test_speech_activity_passes():
    event = SpeechActivity(True, 1.0)
    assert RobotWords(RobotText()).take([event], always, stamp_s) == [event]


def test_a_guess_that_was_taken_back_is_only_taken_back_where_it_was_made():
    words = words_of('the kitchen')
    robots = [Turn(TurnKind.START, 1, '', (), 0.0, 0.0),
              Turn(TurnKind.EAGER_END, 1, 'the kitchen', words, 0.0, 0.8),
              Turn(TurnKind.RESUMED, 1, '', (), 0.0, 0.9),
              Turn(TurnKind.END, 1, '', (), 0.0, 0.9)]
    assert filtered(robots) == []
    persons = [replace(event, text='stop it', words=words_of('stop it'))
               if event.kind is TurnKind.EAGER_END else event for event in robots]
    assert kinds(filtered(persons)) == [
        TurnKind.START, TurnKind.EAGER_END, TurnKind.RESUMED, TurnKind.END]


def test_words_without_spaces_between_them_are_compared_by_their_letters():
    words = tuple(Word(word, (n + 1) * STEP_S, 1.0) for n, word in enumerate(
        ['\u53a8\u623f', '\u505c\u4e0b', '\u5728\u5de6\u8fb9']))
    text = ''.join(word.text for word in words)
    events = [Transcript(1, 1, True, text, text, words, 0.0, words[-1].end_s)]
    assert final(filtered(events, '\u53a8\u623f\u5728\u5de6\u8fb9')) == '\u505c\u4e0b'


def test_memory_stays_flat():
    text = RobotText()
    for minute in range(600):
        text.say('word ' * 200, T0 + 60.0 * minute)
    assert len(text._pieces) <= 4000


OTHER = ['stop', 'wait', 'enough', 'listen', 'bicycle', 'yesterday']
OTHERS = st.sampled_from(OTHER)


@given(st.lists(st.one_of(st.integers(0, len(SENTENCE.split()) - 3), OTHERS),
                min_size=1, max_size=12))
def test_other_words_stay_in_any_mixture_and_text_only_grows(parts):
    """Pieces of three words of the robot, and single words of somebody else between them."""
    sentence = SENTENCE.split()
    assert all(len(''.join(filter(str.isalpha, word))) > 3 for word in OTHER)
    heard = [word for part in parts for word in (
        sentence[part:part + 3] if isinstance(part, int) else [part])]
    # It says the same again and again, so any place in it may be heard at any time.
    events = filtered(utterance(' '.join(heard)), ' '.join([SENTENCE] * 8), at_s=-10.0)
    others = [part for part in parts if not isinstance(part, int)]
    assert [word for word in final(events).split() if word in others] == others
    long_ones = [word for word in final(events).split() if len(word) > 4 and word not in others]
    assert long_ones == []
    before = ''
    for event in events:
        if isinstance(event, Transcript):
            assert event.text.startswith(before)
            assert before + event.delta == event.text
            assert ' '.join(word.text for word in event.words) == event.text
            before = event.text
    told = kinds(events)
    assert told.count(TurnKind.START) == told.count(TurnKind.END) == bool(others or final(events))


@given(st.lists(st.sampled_from('abcdefgh .,'), max_size=40).map(''.join), st.floats(-1e9, 1e10),
       st.lists(st.sampled_from('abcdefgh'), min_size=1, max_size=12).map(''.join))
def test_no_text_and_no_time_is_too_strange(said, time_s, word):
    text = RobotText()
    text.say(said, time_s)
    text.stop(time_s + 1.0)
    text.say(said, time_s - 5.0)
    assert isinstance(text.places(word, T0, T0 + 0.3, after=99), list)
    text.may_begin(word, T0, T0 + 0.3)
