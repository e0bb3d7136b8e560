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

"""
What publishers of audio do, and what the node makes of it: `python topic_scenarios.py NAME`.

Runs where ros-drivers' audio_common_msgs is sourced, which the tests are not.
"""

from array import array
from contextlib import contextmanager
import sys
import threading
import time

from audio_common_msgs import msg
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

from voxtral_ros.audio.messages import PcmInfo
from voxtral_ros.node.topic_source import TopicSource

RELIABLE = QoSProfile(depth=1000)
BEST_EFFORT = QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
INFO = msg.AudioInfo(channels=2, sample_rate=44100, sample_format='S16LE', coding_format='wave')


def audio(number, n_bytes=4):
    """Return a message whose first sample has a number."""
    values = np.zeros(n_bytes // 2, '<i2')
    values[:1] = number
    return msg.AudioDataStamped(audio=msg.AudioData(data=array('B', values.tobytes())))


class Room:
    """A topic source, and publishers beside it."""

    def __init__(self, **overrides):
        rclpy.init()
        self.node = LifecycleNode('asr', parameter_overrides=[
            Parameter(name, value=value) for name, value in overrides.items()])
        self.blocks, self.warnings = [], []
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self.executor.spin, daemon=True)
        self.source = TopicSource(
            self.node, lambda blocks: self.blocks.extend(block for block, _ in blocks),
            self.warnings.append, -1, PcmInfo(), lambda: False, 480)
        self.node.create_timer(1.0, lambda: self.source.look())
        self.thread.start()

    def close(self):
        self.executor.shutdown()
        self.thread.join()
        self.source.close()
        self.node.destroy_node()

    @contextmanager
    def capture(self, name='capture', qos=RELIABLE, kind=msg.AudioDataStamped):
        """Yield a node and its audio publisher, which the source knows."""
        context = rclpy.Context()  # a process of its own, for the middleware
        rclpy.init(context=context)
        node = Node(name, context=context)
        publisher = node.create_publisher(kind, 'audio', qos)
        self.wait(lambda: node.count_subscribers('audio') and name in self.publishers)
        yield node, publisher
        node.destroy_node()
        rclpy.shutdown(context=context)

    def wait(self, condition):
        """Wait until a condition holds."""
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end, (
                self.source.trouble, self.source.warning, len(self.blocks), self.warnings[-3:])
            time.sleep(0.01)

    @property
    def publishers(self):
        """Return the names of those that the source can know of."""
        return [p.node_name for p in self.node.get_publishers_info_by_topic('/audio')]

    @property
    def numbers(self):
        """Return the first samples of all blocks."""
        return [round(float(block.samples[0]) * 32768) for block in self.blocks]


def info_that_comes_late():
    """Send audio_info volatile, and a second after the audio: nothing is misread."""
    room = Room()
    with room.capture() as (node, publisher):
        info = node.create_publisher(msg.AudioInfo, 'audio_info', 1)
        room.wait(lambda: info.get_subscription_count() and publisher.get_subscription_count()
                  and room.node.count_publishers('audio_info'))
        for number in range(100):
            publisher.publish(audio(number))
            if number == 50:
                info.publish(INFO)
            time.sleep(0.02)
        room.wait(lambda: len(room.blocks) == 100)
    assert {block.rate_hz for block in room.blocks} == {44100}
    assert {len(block.samples) for block in room.blocks} == {1}
    return room


def no_info_at_all():
    """Decode audio as is assumed, at once."""
    room = Room()
    with room.capture() as (_, publisher):
        room.wait(publisher.get_subscription_count)
        publisher.publish(audio(7))
        room.wait(lambda: room.blocks)
    assert (room.blocks[0].rate_hz, room.source.assumed) == (16000, True)
    return room


def reliability_is_followed():
    """Lose and repeat no message of a reliable publisher while the node goes over to it."""
    room = Room()
    assert room.source._listener.qos.reliability == ReliabilityPolicy.BEST_EFFORT
    with room.capture() as (_, publisher):
        room.wait(publisher.get_subscription_count)
        for number in range(1000):
            publisher.publish(audio(number))
            time.sleep(0.003)
        room.wait(lambda: len(room.blocks) >= 1000)
        assert room.source._listener.qos.reliability == ReliabilityPolicy.RELIABLE
        assert room.numbers == list(range(1000))
        room.wait(lambda: sum(s.topic_name == '/audio' for s in room.node.subscriptions) == 1)
        with room.capture('radio', BEST_EFFORT) as (_, worse):
            room.wait(lambda: worse.get_subscription_count() and (
                worse.publish(audio(4242)) or 4242 in room.numbers))
            assert room.source._listener.qos.reliability == ReliabilityPolicy.BEST_EFFORT
    assert not room.source.trouble
    return room


def overrides_are_kept():
    """Keep a profile that was asked for; say what does not match, and do not wake up for it."""
    room = Room(**{'qos_overrides./audio.subscription.reliability': 'reliable'})
    with room.capture(qos=BEST_EFFORT) as _:
        room.wait(lambda: 'do not suit its publisher' in room.source.trouble)
        before, begin = room.source._listener.n_waits, time.monotonic()
        time.sleep(2.0)
        n, seconds = room.source._listener.n_waits - before, time.monotonic() - begin
        assert n < 60 * seconds, f'{n} wake-ups in {seconds} s'
        assert room.source._listener.qos.reliability == ReliabilityPolicy.RELIABLE
    return room


def info_goes_with_its_publisher():
    """Forget the format of a publisher that has ended."""
    room = Room()
    with room.capture() as (node, publisher):
        info = node.create_publisher(msg.AudioInfo, 'audio_info', LATCHED)
        info.publish(INFO)
        room.wait(lambda: publisher.publish(audio(1)) or any(
            block.rate_hz == 44100 for block in room.blocks))
    room.wait(lambda: room.source._info is None)
    room.blocks.clear()
    with room.capture('other') as (_, publisher):
        room.wait(publisher.get_subscription_count)
        publisher.publish(audio(2))
        room.wait(lambda: room.blocks)
        assert room.blocks[0].rate_hz == 16000
    return room


def info_of_somebody_else_stays():
    """Keep a description that somebody else publishes, for the next publisher."""
    room = Room()
    node = Node('description')
    info = node.create_publisher(msg.AudioInfo, 'audio_info', LATCHED)
    info.publish(INFO)
    for name in ('one', 'two'):
        with room.capture(name) as (_, publisher):
            room.wait(lambda publisher=publisher: publisher.publish(audio(1)) or room.blocks)
            assert {block.rate_hz for block in room.blocks} == {44100}
        room.wait(lambda: not room.node.count_publishers('/audio'))
        time.sleep(1.0)
        room.blocks.clear()
    return room


def looks_around_often_only_while_something_is_missing():
    """Leave the executor alone while a publisher is there, and be awake when it is gone."""
    room = Room()
    room.resting = room.source._timer.is_canceled
    assert not room.resting()
    with room.capture() as _:
        room.wait(room.resting)
        with room.capture('another'):
            room.wait(lambda: room.source.warning and not room.resting())
        room.wait(room.resting)
    room.wait(lambda: not room.resting())
    with room.capture('later', BEST_EFFORT, msg.AudioData) as (_, publisher):
        room.wait(lambda: publisher.get_subscription_count() and room.resting())
        publisher.publish(msg.AudioData(data=array('B', bytes(640))))
        room.wait(lambda: room.blocks)
    return room


def two_publishers():
    """Name them."""
    room = Room()
    with room.capture('left'), room.capture('right'):
        room.wait(lambda: '/left, /right' in room.source.warning)
        assert any('2 publishers' in warning for warning in room.warnings)
    room.wait(lambda: not room.source.warning)
    return room


def info_of_another_type():
    """Say who publishes something else on audio_info."""
    room = Room()
    context = rclpy.Context()
    rclpy.init(context=context)
    node = Node('radio', context=context)
    node.create_publisher(String, 'audio_info', 1)
    room.wait(lambda: 'radio publishes std_msgs/msg/String on /audio_info' in room.source.warning)
    node.destroy_node()
    rclpy.shutdown(context=context)
    room.wait(lambda: not room.source.warning)
    return room


def halves_of_samples():
    """Join messages of an odd number of bytes, and refuse compressed ones."""
    room = Room()
    data = np.arange(1, 6401, dtype='<i2').tobytes()
    with room.capture(kind=msg.AudioData) as (_, publisher):
        room.wait(publisher.get_subscription_count)
        at = 0
        for n in [641, 639] * 10:
            publisher.publish(msg.AudioData(data=array('B', data[at:at + n])))
            at += n
        room.wait(lambda: sum(len(block.samples) for block in room.blocks) == 6400)
        got = np.concatenate([block.samples for block in room.blocks])
        assert np.array_equal(np.round(got * 32768), np.arange(1, 6401))
        publisher.publish(msg.AudioData(data=array('B', b'fLaC' + bytes(636))))
        room.wait(lambda: 'carries FLAC' in room.source.trouble)
    return room


if __name__ == '__main__':
    globals()[sys.argv[1]]().close()
    rclpy.shutdown()
