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

"""Wake phrases of the real node: nothing goes out before, and ~/awake says so."""

from contextlib import contextmanager
from types import SimpleNamespace

from node.driver import ACTIVATE, CONFIGURE, DEACTIVATE, driven
from node.orders import first_orders
from node.test_parameters import Holder, put
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Bool
from std_srvs.srv import SetBool
from voxtral_ros.msg import Turn
from voxtral_ros.node.health import OK
from voxtral_ros.node.wake import StreamTime, Wake

KITCHEN = 'go to the kitchen and bring me the red cup'
LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@contextmanager
def waking(tmp_path, n_orders=2, **parameters):
    """Run the node on some orders; its driver has what came on ~/awake and turn, too."""
    if n_orders:
        parameters |= {'source': 'file', 'file': first_orders(tmp_path, n_orders)}
    with driven(tmp_path, **parameters) as driver:
        driver.awake, driver.turns = [], []
        driver.client.create_subscription(
            Bool, 'asr/awake', lambda message: driver.awake.append(message.data), LATCHED)
        driver.client.create_subscription(Turn, 'turn', driver.turns.append, 50)
        assert driver.change(CONFIGURE)
        yield driver


def set_awake(driver, awake):
    return driver.call(SetBool, 'asr/set_awake', SetBool.Request(data=awake))


def test_the_command_after_a_wake_phrase_goes_out_without_it(tmp_path):
    with waking(tmp_path, wake__phrases="['Robot!']") as driver:
        assert driver.change(ACTIVATE)
        driver.wait(lambda: len(driver.finals) == 2 and len(driver.texts) == 2)
        first = driver.finals[0]
        assert first.text == driver.texts[0] == KITCHEN
        assert [word.text for word in first.words] == KITCHEN.split()
        of_first = [message for message in driver.transcripts
                    if message.utterance_id == first.utterance_id]
        assert ''.join(message.delta for message in of_first) == KITCHEN
        for message in of_first:
            assert KITCHEN.startswith(message.text)
            assert message.awake
        assert driver.awake == [False, True]
        driver.wait(lambda: driver.turns and driver.turns[-1].kind == Turn.END)
        kinds = [turn.kind for turn in driver.turns]
        assert kinds.count(Turn.START) == kinds.count(Turn.END)
        assert not any('robot' in turn.text for turn in driver.turns)
        assert all(turn.awake for turn in driver.turns)
        driver.wait(lambda: driver.shown('awake') == 'True')
        assert driver.shown('phrases') == '1'
        assert driver.change(DEACTIVATE)
        driver.wait(lambda: driver.awake[-1] is False)


def test_nothing_goes_out_before_it_is_woken(tmp_path):
    with waking(tmp_path, 4, wake__phrases="['okay computer']", wake__timeout_s='1.0',
                log_transcripts='true') as driver:
        assert set_awake(driver, True).message == 'the node is not active'
        assert driver.change(ACTIVATE)
        driver.wait(lambda: driver.speech and True in driver.speech)
        driver.wait(lambda: driver.diagnosed(OK, "asleep: say 'okay computer'"))
        driver.wait(lambda: driver.shown('utterances') == '2')
        assert not driver.transcripts
        assert not driver.turns
        assert driver.awake == [False]
        answer = set_awake(driver, True)
        assert (answer.success, answer.message) == (True, 'awake')
        driver.wait(lambda: driver.finals)
        assert set_awake(driver, False).success
        driver.wait(lambda: driver.awake[-1] is False)
        driver.wait(lambda: driver.shown('utterances') == '4')
        assert driver.texts == [final.text for final in driver.finals]
        # What was sent to sleep in the middle has ended, too.
        assert {message.utterance_id for message in driver.transcripts} == {
            final.utterance_id for final in driver.finals}
        assert 'kitchen' not in driver.log


def test_everything_may_go_out_with_a_mark(tmp_path):
    with waking(tmp_path, 2, wake__phrases="['bring me', 'okay computer']",
                wake__publish_all='true') as driver:
        assert driver.change(ACTIVATE)
        driver.wait(lambda: len(driver.finals) == 2 and len(driver.texts) == 2)
        first = driver.finals[0]
        assert first.text == f'robot {KITCHEN}'
        assert first.awake
        assert driver.texts[0] == 'the red cup'
        marks = [message.awake for message in driver.transcripts
                 if message.utterance_id == first.utterance_id]
        assert marks == sorted(marks)
        assert not marks[0]
        assert [turn.kind for turn in driver.turns].count(Turn.START) >= 1
        assert not driver.turns[0].awake


def test_the_robot_does_not_wake_itself(tmp_path):
    with waking(tmp_path, 2, wake__phrases="['robot']", robot_speaking_mode='mark') as driver:
        speaking = driver.client.create_publisher(Bool, 'robot_speaking', 10)
        driver.wait(speaking.get_subscription_count)
        speaking.publish(Bool(data=True))
        driver.wait(lambda: driver.diagnostics and driver.shown('robot speaking') == 'True')
        assert driver.change(ACTIVATE)
        driver.wait(lambda: driver.shown('utterances') == '2')
        assert driver.awake == [False]
        assert not driver.transcripts


def test_it_sleeps_although_no_audio_comes_and_changes_count_at_once(tmp_path):
    with waking(tmp_path, 0, wake__timeout_s='0.5', max_gap_s='0.0') as driver:
        assert driver.change(ACTIVATE)
        driver.wait(lambda: driver.awake == [True])  # without wake phrases
        refused = set_awake(driver, False)
        assert not refused.success
        assert 'set wake.phrases' in refused.message
        assert set_awake(driver, True).success
        assert 'no letters' in put(driver, 'wake.phrases', ['?']).reason
        assert put(driver, 'wake.phrases', ['hey robot :5', 'robbie']).successful
        driver.wait(lambda: driver.shown('phrases') == '2')
        assert set_awake(driver, True).success
        driver.wait(lambda: driver.awake[-2:] == [True, False])
        assert put(driver, 'wake.phrases', []).successful
        assert set_awake(driver, True).success
        driver.wait(lambda: driver.awake[-1] is True)
        assert driver.state == 'active'


def test_a_wake_phrase_without_letters_is_refused_at_configure(tmp_path):
    with driven(tmp_path, wake__phrases="['hey robot', '...']") as driver:
        assert not driver.change(CONFIGURE)
        driver.wait(lambda: 'wake.phrases: phrase 2' in driver.log)


def test_wake_phrases_are_expected_with_their_own_boost():
    added = {}
    node = Holder(**{'wake.phrases': ['hey robot', 'robbie :4'], 'wake.boost': 0.5})
    node.create_service = lambda *arguments: None
    node.phrases, node.worker = SimpleNamespace(add=added.__setitem__), None
    wake = Wake(node)
    wake.read()
    assert {phrase.text: phrase.boost for phrase in added['wake.phrases'].phrases} == {
        'hey robot': 0.5, 'robbie': 4.0}
    assert wake.phrases == ('hey robot', 'robbie')
    assert not wake.begin(480).awake


@pytest.mark.parametrize('patience_s', [0.0, 3.0])
def test_time_goes_on_when_audio_stops_coming(patience_s):
    steady_s = [100.0]
    stream_s = StreamTime(patience_s, lambda: steady_s[0])
    assert stream_s(1.0) == 1.0
    steady_s[0] += 2.0
    assert stream_s(1.0) == 3.0 - min(patience_s, 2.0)
    steady_s[0] += 8.0
    assert stream_s(1.0) == 11.0 - patience_s
    assert stream_s(1.1) == 1.1
