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

"""What is processed while the robot speaks: muted, marked or taken as it is."""

from node.driver import ACTIVATE, CONFIGURE, driven
from node.orders import first_orders
import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool

from voxtral_ros.audio.block import AudioBlock
from voxtral_ros.node.parameter_table import ROWS
from voxtral_ros.node.robot_voice import RobotVoice

S = 1_000_000_000
BEST_EFFORT = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def block(stamp_ns, seconds=0.1):
    return AudioBlock(np.ones(round(seconds * 16000), np.float32), 16000, stamp_ns, 'ear')


def transcribed(robot, mode, received_ns):
    """Return whether audio that is received at a time comes through."""
    return bool(robot.treat(block(received_ns), received_ns, mode).samples.any())


def test_muted_until_the_tail_is_over():
    robot = RobotVoice()
    assert transcribed(robot, 'mute', 1 * S)
    robot.update(True, 2 * S, tail_s=0.5)
    assert not transcribed(robot, 'mute', 2 * S)
    robot.update(False, 10 * S, tail_s=0.5)
    assert not transcribed(robot, 'mute', 10 * S + S // 4)
    assert transcribed(robot, 'mute', 11 * S)


def test_muting_keeps_place_and_frame():
    robot = RobotVoice()
    robot.update(True, 0, 0.0)
    muted = robot.treat(block(5 * S), 5 * S, 'mute')
    assert (muted.stamp_ns, muted.frame_id, len(muted.samples)) == (5 * S, 'ear', 1600)


@pytest.mark.parametrize('mode', ROWS['robot_speaking_mode'].choices)
def test_only_mute_mutes_and_what_comes_through_is_marked(mode):
    robot = RobotVoice()
    robot.update(True, 1 * S, 0.0)
    assert transcribed(robot, mode, 2 * S) == (mode != 'mute')
    assert robot.marked(1 * S, 3 * S) == (mode in ('mark', 'duck'))
    assert robot.doubtful(1 * S, 3 * S) == (mode == 'mark')


def test_what_is_marked_is_remembered_by_the_stamps_of_the_audio():
    robot = RobotVoice()
    late_s = 100  # the clock of the microphone is behind that of the robot
    for tenth in range(0, 100):
        received_ns = tenth * S // 10
        if tenth in (20, 40):
            robot.update(tenth == 20, received_ns, tail_s=0.0)
        robot.treat(block(received_ns + late_s * S), received_ns, 'mark')
    assert not robot.marked((late_s + 0) * S, (late_s + 2) * S)
    assert robot.marked((late_s + 1) * S, (late_s + 3) * S)
    assert robot.marked((late_s + 3) * S, (late_s + 9) * S)
    assert not robot.marked((late_s + 4) * S, (late_s + 9) * S)
    assert len(robot._marked) == 1  # and in one piece


def test_a_clock_that_is_set_back_ends_the_tail_and_forgets_the_marks():
    robot = RobotVoice()
    for _ in range(3):  # a bag in a loop, in which the robot speaks towards the end
        assert transcribed(robot, 'mute', 100 * S)
        robot.update(True, 108 * S, tail_s=2.0)
        transcribed(robot, 'mark', 109 * S)
        robot.update(False, 110 * S, tail_s=2.0)
        assert not transcribed(robot, 'mute', 111 * S)
    transcribed(robot, 'mark', 100 * S)
    assert not robot.marked(105 * S, 112 * S)


def test_how_long_the_robot_speaks_is_taken_from_a_clock_that_only_goes_forward():
    now_s = [50.0]
    robot = RobotVoice(lambda: now_s[0])
    robot.update(True, 0, 0.0)  # before /clock has come
    now_s[0] += 3.0
    assert robot.speaking_s() == 3.0
    robot.update(False, 1_700_000_000 * S, 0.0)
    assert robot.speaking_s() == 0.0


def test_memory_stays_flat():
    robot = RobotVoice()
    for second in range(0, 20000, 2):
        robot.update(True, second * S, 0.0)
        robot.treat(block(second * S), second * S, 'mark')
        robot.update(False, second * S + S // 5, 0.0)
    assert len(robot._marked) <= 256
    assert robot.marked(19998 * S, 19999 * S)


def test_a_marked_final_is_published_but_is_no_text(tmp_path):
    with driven(tmp_path, source='file', file=first_orders(tmp_path, 3),
                robot_speaking_mode='mark') as driver:
        speaking = driver.client.create_publisher(Bool, 'robot_speaking', BEST_EFFORT)
        assert driver.change(CONFIGURE)
        driver.wait(speaking.get_subscription_count)
        speaking.publish(Bool(data=True))
        driver.wait(lambda: driver.diagnostics and driver.shown('robot speaking') == 'True')
        assert driver.change(ACTIVATE)
        driver.wait(lambda: driver.finals)
        speaking.publish(Bool(data=False))
        driver.wait(lambda: len(driver.finals) == 3)
        driver.wait(lambda: driver.texts and driver.texts[-1] == driver.finals[-1].text)
        assert driver.finals[0].text == 'robot go to the kitchen and bring me the red cup'
        assert driver.finals[0].robot_speaking
        assert not driver.finals[-1].robot_speaking
        assert driver.texts == [
            final.text for final in driver.finals if not final.robot_speaking]


@pytest.mark.slow
def test_while_muted_nothing_is_transcribed_until_the_publisher_is_gone(tmp_path):
    with driven(tmp_path, source='file', file=first_orders(tmp_path, 4)) as driver:
        speaking = driver.client.create_publisher(Bool, 'robot_speaking', LATCHED)
        speaking.publish(Bool(data=True))  # before the node is there
        assert driver.change(CONFIGURE)
        driver.wait(lambda: driver.diagnostics and driver.shown('robot speaking') == 'True')
        assert driver.change(ACTIVATE)
        driver.wait(lambda: float(driver.shown('received (s)') or 0) > 3)
        assert not driver.transcripts
        driver.client.destroy_publisher(speaking)
        driver.wait(lambda: 'its publisher is gone' in driver.log)
        driver.wait(lambda: driver.finals and driver.finals[-1].text
                    == 'stop following me and return to the charging station')
        assert not any('kitchen' in text for text in driver.texts)
