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

"""How long audio on a topic may wait before it is taken."""

from array import array
import sys
from types import ModuleType, SimpleNamespace

import pytest
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile

from voxtral_ros.audio.messages import PcmInfo
from voxtral_ros.node import topic_source


class Listener:
    """Remembers what the source subscribes with."""

    def __init__(self, node, message, topic, callback, qos, pause_s, **options):
        self.callback, self.qos, self.pause_s = callback, qos, pause_s

    def close(self):
        pass


def samples(stamp_s):
    """Return an AudioStamped, as far as it is looked at."""
    audio = SimpleNamespace(
        audio_data=SimpleNamespace(int16_data=array('h', [1, 2, 3])),
        info=SimpleNamespace(format=8, channels=1, rate=16000, chunk=3))
    stamp = SimpleNamespace(sec=stamp_s, nanosec=0)
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp, frame_id=''), audio=audio)


@pytest.fixture
def source(monkeypatch):
    package = ModuleType('audio_common_msgs')
    package.msg = SimpleNamespace(AudioStamped=object)
    monkeypatch.setitem(sys.modules, 'audio_common_msgs', package)
    listeners = []
    monkeypatch.setattr(topic_source, 'Listener', lambda *arguments, **options: listeners.append(
        Listener(*arguments, **options)) or listeners[-1])
    context = rclpy.Context()
    rclpy.init(context=context)
    node = Node('source', context=context)
    state = SimpleNamespace(quiet=True, transcribed=[])
    topic = topic_source.TopicSource(
        node, lambda block, received_ns: state.transcribed.append(block), print, -1, PcmInfo(),
        lambda: state.quiet)
    state.listener, = listeners
    yield state
    topic.close()
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_not_before_any_audio_has_come(source):
    assert source.listener.pause_s() == 0


def test_a_token_of_the_model_while_nobody_speaks(source):
    source.listener.callback(samples(stamp_s=1))
    assert len(source.transcribed) == 1
    assert source.listener.pause_s() == 0.08
    source.quiet = False
    assert source.listener.pause_s() == 0


def test_not_when_the_time_of_arrival_is_all_that_is_known(source):
    source.listener.callback(samples(stamp_s=0))
    assert source.transcribed[0].stamp_ns is None
    assert source.listener.pause_s() == 0


def test_no_longer_than_a_shallow_queue_holds(source):
    source.listener.callback(samples(stamp_s=1))
    source.listener.qos = QoSProfile(depth=10)
    assert source.listener.pause_s() == 0.01
