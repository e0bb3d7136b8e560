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

"""A node that started itself is started again, and nobody is overruled."""

from types import SimpleNamespace

import pytest
from rclpy.lifecycle import TransitionCallbackReturn

from voxtral_ros.node import supervisor
from voxtral_ros.node.robot_voice import RobotVoice
from voxtral_ros.node.supervisor import Supervisor

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class Node:
    """Does what a test says, and remembers what it was asked for."""

    def __init__(self):
        self.configured = self.autostart = True
        self.worker = None
        self.source_is_there = self.model_is_there = False
        self.asked, self.warnings, self.publishers = [], [], []
        self.robot = RobotVoice()
        self.retrying = False

    def trigger_configure(self):
        self.asked.append('configure')
        self.configured = self.model_is_there
        return SUCCESS if self.configured else FAILURE

    def trigger_activate(self):
        self.asked.append('activate')
        if not self.source_is_there:
            return FAILURE
        self.worker = SimpleNamespace(broken='', stats=SimpleNamespace(processed_s=0.0))
        return SUCCESS

    def trigger_deactivate(self):
        self.asked.append('deactivate')
        self.worker, self.configured = None, False
        return SUCCESS

    def hangs(self):
        return False

    def warn(self, message):
        self.warnings.append(message)

    def resolve_topic_name(self, name):
        return f'/{name}'

    def count_publishers(self, topic):
        return len(self.publishers)

    def get_publishers_info_by_topic(self, topic):
        return self.publishers

    def get_clock(self):
        return SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=0))


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that passes as a test says."""
    clock = SimpleNamespace(now_s=1000.0)
    monkeypatch.setattr(supervisor.time, 'monotonic', lambda: clock.now_s)
    return clock


def seconds(node, supervisor, clock, n):
    """Let n seconds pass, and return in which of them the node was started."""
    begun = []
    for second in range(n):
        before = len(node.asked)
        supervisor.every_second()
        if len(node.asked) > before:
            begun.append(second)
        clock.now_s += 1.0
    return begun


def test_a_source_that_is_late_is_tried_again_less_and_less_often(clock):
    node = Node()
    watch = Supervisor(node)
    watch.start()
    assert watch.again_s == 0.5
    assert seconds(node, watch, clock, 50) == [1, 2, 4, 9, 19, 29, 39, 49]
    assert set(node.asked) == {'activate'}  # the model is not loaded anew
    node.source_is_there = True
    assert len(seconds(node, watch, clock, 30)) == 1
    assert watch.again_s is None


def test_whoever_changes_the_state_is_not_overruled(clock):
    node = Node()
    watch = Supervisor(node)
    watch.start()
    watch.taken_over()
    assert seconds(node, watch, clock, 100) == []


def test_parameters_that_are_wrong_are_not_tried_again(clock):
    node = Node()
    node.configured = False
    watch = Supervisor(node)
    watch.start()
    assert seconds(node, watch, clock, 100) == []
    assert node.asked == ['configure']


@pytest.mark.parametrize('autostart', [True, False])
def test_an_engine_that_broke_is_loaded_anew_by_a_node_that_started_itself(clock, autostart):
    node = Node()
    node.source_is_there = node.model_is_there = True
    node.autostart = autostart
    watch = Supervisor(node)
    watch.start()
    node.worker.broken = 'it failed'
    assert seconds(node, watch, clock, 10) == ([0, 2] if autostart else [0])
    assert (node.worker is not None) == autostart


def test_robot_speaking_of_a_publisher_that_is_gone_counts_as_false(clock):
    node = Node()
    node.worker = SimpleNamespace(broken='', stats=SimpleNamespace(processed_s=0.0))
    watch = Supervisor(node)
    node.publishers = [SimpleNamespace(node_name='speech', topic_type='std_msgs/msg/Bool')]
    node.robot.update(True, 0, 0.0)
    seconds(node, watch, clock, 100)
    assert node.robot.speaks
    node.publishers = []
    seconds(node, watch, clock, 5)
    assert node.robot.speaks
    seconds(node, watch, clock, 2)
    assert not node.robot.speaks
    assert node.warnings == ['robot_speaking is true, but its publisher is gone: taken as false']


def test_robot_speaking_of_another_type_is_named(clock):
    node = Node()
    watch = Supervisor(node)
    node.publishers = [SimpleNamespace(node_name='speech', topic_type='std_msgs/msg/String')]
    watch.every_second()
    assert 'speech publishes std_msgs/msg/String on /robot_speaking' in watch.warning
    node.publishers = []
    watch.every_second()
    assert watch.warning == ''
