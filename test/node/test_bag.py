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

"""A bag that is replayed with a simulated clock gives the same messages at every rate."""

import os
from pathlib import Path
import textwrap

from node.driver import ACTIVATE, CONFIGURE, driven, running
import pytest
from rosbags.rosbag2 import Writer
from rosbags.typesys import get_types_from_msg, get_typestore, Stores
import soundfile

ORDERS = Path(__file__).resolve().parents[1] / 'data' / 'orders.flac'
pytestmark = pytest.mark.skipif(
    'VOXTRAL_OVERLAYS' not in os.environ, reason='the overlays are built by `make test`')
START_S = 1_600_000_000
SECONDS = 8.5  # two orders
MESSAGES = Path(__file__).resolve().parents[1] / 'overlays' / 'ros_drivers' \
    / 'audio_common_msgs' / 'msg'

PLAYER = textwrap.dedent("""
    import sys, time
    import rclpy
    from audio_common_msgs.msg import AudioDataStamped
    from rosbags.rosbag2 import Reader
    from rosgraph_msgs.msg import Clock
    path, rate = sys.argv[1], float(sys.argv[2])
    rclpy.init()
    node = rclpy.create_node('player')
    clock = node.create_publisher(Clock, '/clock', 10)
    audio = node.create_publisher(AudioDataStamped, 'audio', 100)
    while not (clock.get_subscription_count() and audio.get_subscription_count()):
        time.sleep(0.05)
    time.sleep(0.5)  # the other side must know of us, too
    with Reader(path) as reader:
        begin, first_ns = time.monotonic(), reader.start_time
        for _, stamp_ns, data in reader.messages():
            due = begin + (stamp_ns - first_ns) / 1e9 / rate
            time.sleep(max(0.0, due - time.monotonic()))
            now = Clock()
            now.clock.sec, now.clock.nanosec = divmod(stamp_ns, 10 ** 9)
            clock.publish(now)
            audio.publish(bytes(data))
    time.sleep(600)
""")


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    """Write a bag as a capture node would have recorded it, with stamps that jitter."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    for name in ('AudioData', 'AudioDataStamped'):
        text = (MESSAGES / f'{name}.msg').read_text(encoding='utf-8')
        store.register(get_types_from_msg(text, f'audio_common_msgs/msg/{name}'))
    types = store.types
    samples, rate = soundfile.read(ORDERS, dtype='int16')
    path = tmp_path_factory.mktemp('bag') / 'orders'
    with Writer(path, version=8) as writer:
        kind = 'audio_common_msgs/msg/AudioDataStamped'
        connection = writer.add_connection('/audio', kind, typestore=store)
        for n, at in enumerate(range(0, round(SECONDS * rate), 640)):
            stamp_ns = START_S * 10 ** 9 + at * 10 ** 9 // rate + n % 7 * 3_000_000
            message = types[kind](
                header=types['std_msgs/msg/Header'](
                    stamp=types['builtin_interfaces/msg/Time'](
                        *divmod(stamp_ns, 10 ** 9)), frame_id='ear'),
                audio=types['audio_common_msgs/msg/AudioData'](
                    data=samples[at:at + 640].view('u1')))
            writer.write(connection, stamp_ns + 50_000_000, store.serialize_cdr(message, kind))
    return path


def replay(folder, bag, rate):
    """Return all that is said of the finals of a replay, less the latency."""
    folder.mkdir()
    with driven(folder, 'ros_drivers', use_sim_time='true') as driver:
        assert driver.change(CONFIGURE)
        assert driver.change(ACTIVATE)
        with running(folder, 'ros_drivers', PLAYER, bag, rate):
            driver.wait(lambda: len(driver.finals) == 2)
        return [(final.header, final.utterance_id, final.text, final.end, list(final.words),
                 final.confidence) for final in driver.finals]


@pytest.mark.slow
def test_texts_and_stamps_do_not_depend_on_the_rate(tmp_path, bag):
    once = replay(tmp_path / 'once', bag, 1)
    assert once[0][2] == 'robot go to the kitchen and bring me the red cup'
    assert once[0][0].frame_id == 'ear'
    assert START_S <= once[0][0].stamp.sec <= START_S + 1
    assert once[1][0].stamp.sec > once[0][3].sec
    assert replay(tmp_path / 'four times', bag, 4) == once
