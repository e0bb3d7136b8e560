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


"""Which utterance a goal is about, and that it ends once."""

import threading

import pytest
from support.scripted import DELAY, feed, join, open_stream, PAUSE, Script, scripted_voice, silence

from voxtral_ros.recognizer.events import SpeechActivity, Transcript, Word
from voxtral_ros.recognizer.listen_goal import ListenGoal, Reason


def utterance(utterance_id, *words, is_final=False):
    """Return a transcript of words that end at some times."""
    return Transcript(
        utterance_id, 0, is_final, ' '.join(word for word, _ in words), '',
        tuple(Word(word, end_s, 1.0) for word, end_s in words), words[0][1] - 0.5,
        words[-1][1])


@pytest.fixture
def goal():
    goal = ListenGoal(1.0, lambda: None)
    goal.begin('stream', 10.0)
    return goal


def test_the_first_utterance_counts_in_which_a_word_ends_after_the_goal_began(goal):
    assert not goal.take(utterance(1, ('go', 9.0), ('on', 9.8), is_final=True), 'stream')
    assert not goal.take(utterance(2, ('which', 9.9)), 'stream')
    begun = utterance(2, ('which', 9.9), ('room', 10.1))
    assert goal.take(begun, 'stream') is begun


def test_nothing_counts_before_it_is_known_where_the_goal_begins():
    goal = ListenGoal(1.0, lambda: None)
    assert not goal.take(utterance(1, ('go', 99.0)), 'stream')
    goal.begin('stream', 99.5)
    assert not goal.take(utterance(1, ('go', 99.0)), 'stream')
    assert goal.take(utterance(1, ('go', 99.0), ('on', 100.0)), 'stream')


def test_in_another_stream_every_word_counts(goal):
    assert goal.spoken(11.0, speaking=False) is False
    goal.take(SpeechActivity(False, 10.5), 'stream')
    assert goal.take(utterance(3, ('go', 0.4)), 'another')
    assert goal.take(utterance(3, ('go', 9.0)), 'stream again')


@pytest.mark.parametrize(('events', 'position_s', 'speaking', 'spoken'), [
    ([], 15.0, False, False),
    ([], 15.0, True, None),  # since before the goal
    ([SpeechActivity(True, 14.0)], 15.0, True, None),
    ([SpeechActivity(True, 12.0), SpeechActivity(False, 14.5)], 15.0, False, None),
    ([SpeechActivity(True, 12.0), SpeechActivity(False, 14.5)], 15.6, False, False),
    ([utterance(1, ('go', 9.0), is_final=True)], 15.0, False, False),
    ([utterance(1, ('go', 12.0))], 15.0, False, True),
])
def test_whether_somebody_has_begun_to_speak(goal, events, position_s, speaking, spoken):
    for event in events:
        goal.take(event, 'stream')
    assert goal.spoken(position_s, speaking) is spoken


def test_only_the_first_end_counts():
    calls = []
    goal = ListenGoal(1.0, lambda: calls.append(goal.outcome))
    goal.begin('stream', 0.0)
    assert goal.end(Reason.CANCELED, 'canceled by the client')
    assert not goal.end(Reason.TIMEOUT, '60 s are over')
    assert [(outcome.reason, outcome.message) for outcome in calls] == [
        (Reason.CANCELED, 'canceled by the client')]
    assert not goal.take(utterance(1, ('go', 1.0)), 'stream')  # nothing counts any more


def test_of_many_that_end_it_at_once_one_does():
    for _ in range(50):
        calls, ended = [], []
        goal = ListenGoal(1.0, lambda: calls.append(1))  # noqa: B023
        barrier = threading.Barrier(4)

        def end(goal=goal, ended=ended, barrier=barrier):
            barrier.wait()
            ended.append(goal.end(Reason.ABORTED))

        threads = [threading.Thread(target=end) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(ended) == [False, False, False, True] and calls == [1]


def heard(begin_s, audio, script):
    """Return the texts that count for a goal that begins at a time in some audio."""
    with scripted_voice():
        stream = open_stream(script, delay=DELAY)
        goal = ListenGoal(1.0, lambda: None)
        at = round(begin_s * 16000)
        events = feed(stream, audio[:at])
        for event in events:
            goal.take(event, stream)
        goal.begin(stream, begin_s)
        counted = [goal.take(event, stream) for event in feed(stream, audio[at:])]
        return [transcript.text for transcript in counted
                if transcript is not None and transcript.is_final]


@pytest.mark.parametrize(('begin_s', 'texts'), [
    (0.2, ['stop', 'left']), (1.2, ['stop', 'left']),  # in the word
    (1.6, ['left']), (2.2, ['left']),  # it is over, and its end not known yet
    (3.0, ['left']), (3.6, ['left']), (4.2, [])])
def test_in_a_stream(begin_s, texts):
    script = Script()
    audio = join(silence(1.0), script.say(' stop', seconds=0.48), silence(PAUSE),
                 script.say(' left', seconds=0.48), silence(PAUSE))
    assert heard(begin_s, audio, script) == texts
