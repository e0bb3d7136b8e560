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

"""The topic `turn`: what is said of a turn, in which order, and when it was."""

from types import SimpleNamespace

from node.driver import ACTIVATE, CONFIGURE, driven
from node.orders import first_orders
from node.written_down import Node, publishing
import pytest
from std_msgs.msg import Bool
from support.realtime import ServedScript
from support.scripted import join, PAUSE, Script, scripted_voice, silence

from voxtral_ros.audio.block import AudioBlock
from voxtral_ros.msg import Transcript, Turn
from voxtral_ros.node.worker import Worker
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.stream import Stream
from voxtral_ros.recognizer.turns import TurnOptions

S = 1_000_000_000
BEGIN_NS = 1000 * S  # stamp of the first sample
KINDS = {Turn.START: 'START', Turn.EAGER_END: 'EAGER_END', Turn.RESUMED: 'RESUMED',
         Turn.END: 'END'}


def published(script, audio, marked=lambda start_ns, end_ns: False, options=None):
    """Return the messages that a worker publishes about audio in blocks of 20 ms."""
    node = Node()
    outputs, _ = publishing(node, lambda: BEGIN_NS + 3600 * S)
    outputs._robot = SimpleNamespace(
        marked=marked, doubtful=marked, silent=lambda now_ns: True)
    with scripted_voice():
        worker = Worker(ServedScript(script), 480, options or StreamOptions(), outputs.publish)
        for at in range(0, len(audio), 320):
            stamp_ns = BEGIN_NS + at * S // 16000
            worker.put(AudioBlock(audio[at:at + 320], 16000, stamp_ns, 'ear'), stamp_ns)
        assert worker.stop(60)
    return [message for message in node.published if isinstance(message, (Transcript, Turn))]


def names(messages):
    """Return what comes, with the text; of several partial transcripts in a row the last."""
    found = [(KINDS[message.kind], message.text) if isinstance(message, Turn)
             else ('final' if message.is_final else 'partial', message.text)
             for message in messages]
    return [now for now, after in zip(found, [*found[1:], ('', '')], strict=True)
            if not now[0] == after[0] == 'partial']


def turns(messages):
    return [message for message in messages if isinstance(message, Turn)]


def seconds(stamp):
    """Return the time since the first sample."""
    return stamp.sec + stamp.nanosec / S - BEGIN_NS / S


def hesitating():
    """Return a script and its audio: an order with a short pause in it, and another order."""
    script = Script()
    return script, join(
        silence(1.0), script.say(' go', seconds=0.6), silence(0.6),
        script.say(' left', seconds=0.6), silence(PAUSE),
        script.say(' stop', seconds=0.6), silence(PAUSE))


def test_who_hesitates_has_a_turn_that_goes_on():
    messages = published(*hesitating())
    assert names(messages) == [
        ('START', ''), ('EAGER_END', 'go'), ('RESUMED', ''), ('partial', 'go'),
        ('EAGER_END', 'go left'), ('partial', 'go left'), ('final', 'go left'),
        ('END', 'go left'),
        ('START', ''), ('EAGER_END', 'stop'), ('partial', 'stop'), ('final', 'stop'),
        ('END', 'stop')]
    assert [turn.utterance_id for turn in turns(messages)] == 5 * [1] + 3 * [2]


def test_stamps_of_a_turn_are_where_it_began_and_where_speech_ended_or_went_on():
    found = turns(published(*hesitating()))
    assert {turn.header.frame_id for turn in found} == {'ear'}
    # Voice activity looks at chunks of 32 ms.
    assert [seconds(turn.header.stamp) for turn in found] == pytest.approx(
        5 * [1.0] + 3 * [4.8], abs=0.04)
    begun = [turn for turn in found if turn.kind in (Turn.START, Turn.RESUMED)]
    ended = [turn for turn in found if turn.kind in (Turn.EAGER_END, Turn.END)]
    assert [seconds(turn.end) for turn in begun] == pytest.approx([1.0, 2.2, 4.8], abs=0.04)
    assert [seconds(turn.end) for turn in ended] == pytest.approx(
        [1.6, 2.8, 2.8, 5.4, 5.4], abs=0.04)
    for turn in found:
        assert turn.latency == pytest.approx(3600 - seconds(turn.end), abs=1e-3)


def test_an_end_has_the_words_of_its_final():
    messages = published(*hesitating())
    ends = [message for message in turns(messages) if message.kind == Turn.END]
    finals = [message for message in messages if isinstance(message, Transcript)
              and message.is_final]
    assert [end.words for end in ends] == [final.words for final in finals]
    assert [[word.text for word in end.words] for end in ends] == [['go', 'left'], ['stop']]


def test_without_looking_ahead_there_are_a_start_and_an_end():
    messages = published(*hesitating(), options=StreamOptions(turns=TurnOptions(eager_s=0.0)))
    assert names(messages) == [
        ('START', ''), ('partial', 'go left'), ('final', 'go left'), ('END', 'go left'),
        ('START', ''), ('partial', 'stop'), ('final', 'stop'), ('END', 'stop')]


def test_what_is_said_while_the_robot_speaks_is_marked():
    def marked(start_ns, end_ns):
        return start_ns < BEGIN_NS + 5 * S and end_ns > BEGIN_NS + 4 * S

    found = turns(published(*hesitating(), marked))
    assert {turn.utterance_id: turn.robot_speaking for turn in found} == {1: False, 2: True}


def test_a_stream_that_fails_ends_its_turn(monkeypatch):
    """Whoever waits for END, with the robot's answer, waits for no turn that nobody ends."""
    poll = Stream.poll

    def failing(stream):
        if failing.left and stream.stats.looks_ahead:
            failing.left -= 1
            raise RuntimeError('the engine has a bad day')
        return poll(stream)

    failing.left = 1
    monkeypatch.setattr(Stream, 'poll', failing)
    found = names(turns(published(*hesitating())))
    assert found[:3] == [('START', ''), ('EAGER_END', 'go'), ('END', 'go')]
    kinds = [kind for kind, _ in found]
    assert kinds.count('START') == kinds.count('END')


def test_turns_on_the_topic(tmp_path):
    found = []
    with driven(tmp_path, source='file', file=first_orders(tmp_path, 2),
                robot_speaking_mode='mark') as driver:
        driver.client.create_subscription(Turn, 'turn', found.append, 50)
        speaking = driver.client.create_publisher(Bool, 'robot_speaking', 10)
        assert driver.change(CONFIGURE)
        driver.wait(speaking.get_subscription_count)
        speaking.publish(Bool(data=True))
        driver.wait(lambda: driver.diagnostics and driver.shown('robot speaking') == 'True')
        assert driver.change(ACTIVATE)
        driver.wait(lambda: driver.finals and found and found[-1].kind == Turn.END)
        assert found[0].kind == Turn.START
        eager = [turn for turn in found if turn.kind == Turn.EAGER_END]
        assert eager[-1].text == found[-1].text == driver.finals[0].text
        assert found[-1].end.sec and found[-1].header.stamp.sec
        assert all(turn.robot_speaking for turn in found)
