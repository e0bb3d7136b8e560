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

"""How long audio on a topic may wait before it is taken, and what is then handed out together."""

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

    def __init__(self, node, message, topic, callback, qos, pause_s, done, **options):
        self.callback, self.qos, self.pause_s, self.done = callback, qos, pause_s, done

    def close(self):
        pass


def samples(stamp_s, n=3):
    """Return an AudioStamped, as far as it is looked at."""
    audio = SimpleNamespace(
        audio_data=SimpleNamespace(int16_data=array('h', range(n))),
        info=SimpleNamespace(format=8, channels=1, rate=16000, chunk=n))
    stamp = SimpleNamespace(sec=stamp_s, nanosec=0)
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp, frame_id=''), audio=audio)


@pytest.fixture
def delay_ms():
    return 480


@pytest.fixture
def source(monkeypatch, delay_ms):
    package = ModuleType('audio_common_msgs')
    package.msg = SimpleNamespace(AudioStamped=object)
    monkeypatch.setitem(sys.modules, 'audio_common_msgs', package)
    listeners = []
    monkeypatch.setattr(topic_source, 'Listener', lambda *arguments, **options: listeners.append(
        Listener(*arguments, **options)) or listeners[-1])
    context = rclpy.Context()
    rclpy.init(context=context)
    node = Node('source', context=context)
    state = SimpleNamespace(quiet=True, handed_out=[])
    topic = topic_source.TopicSource(
        node, lambda blocks: state.handed_out.append([block for block, _ in blocks]), print, -1,
        PcmInfo(), lambda: state.quiet, delay_ms)
    state.listener, = listeners
    yield state
    topic.close()
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_not_before_any_audio_has_come(source):
    assert source.listener.pause_s() == 0


# Who wants words soon has them soon; and a queue of 200 blocks holds 0.2 s of the shortest ones.
@pytest.mark.parametrize('delay_ms, pause_s', [
    (80, 0.08), (240, 0.096), (480, 0.192), (960, 0.2), (2400, 0.2)])
def test_less_than_the_delay_of_the_model_while_nobody_speaks(source, pause_s):
    source.listener.callback(samples(stamp_s=1))
    assert source.listener.pause_s() == pytest.approx(pause_s)
    source.quiet = False
    assert source.listener.pause_s() == 0


def test_not_when_the_time_of_arrival_is_all_that_is_known(source):
    source.listener.callback(samples(stamp_s=0))
    source.listener.done()
    assert source.handed_out[0][0].stamp_ns is None
    assert source.listener.pause_s() == 0


def test_no_longer_than_a_shallow_queue_holds(source):
    source.listener.callback(samples(stamp_s=1))
    source.listener.qos = QoSProfile(depth=10)
    assert source.listener.pause_s() == 0.01


def test_what_was_taken_together_is_handed_out_together(source):
    for stamp_s in (1, 2, 3):
        source.listener.callback(samples(stamp_s))
    assert source.handed_out == []
    source.listener.done()
    source.listener.done()  # nothing more has come
    blocks, = source.handed_out
    assert [block.stamp_ns for block in blocks] == [10**9, 2 * 10**9, 3 * 10**9]


def test_what_is_much_is_handed_out_before_all_is_taken(source):
    for stamp_s in range(1, 6):
        source.listener.callback(samples(stamp_s, n=2000))  # 125 ms
    assert [len(blocks) for blocks in source.handed_out] == [2, 2]
    source.listener.done()
    assert [len(blocks) for blocks in source.handed_out] == [2, 2, 1]
