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

"""Audio on a topic, in all messages that carry it; the same words come out."""

import os
from pathlib import Path
import textwrap

from node.driver import ACTIVATE, CONFIGURE, driven, running
import pytest

DATA = Path(__file__).resolve().parents[1] / 'data'
pytestmark = pytest.mark.skipif(
    'VOXTRAL_OVERLAYS' not in os.environ, reason='the overlays are built by `make test`')

# Runs in the overlay of one audio_common_msgs: publishes a file at four times its pace.
PUBLISHER = textwrap.dedent("""
    import sys, time
    from array import array
    import rclpy, soundfile
    from audio_common_msgs import msg as m
    from rclpy.qos import QoSProfile, DurabilityPolicy
    path, kind = sys.argv[1:]
    samples, rate = soundfile.read(path, dtype='int16')
    rclpy.init()
    node = rclpy.create_node('capture')
    publisher = node.create_publisher(getattr(m, kind), 'audio', 100)
    if kind == 'AudioData':
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        info = node.create_publisher(m.AudioInfo, 'audio_info', latched)
        info.publish(m.AudioInfo(channels=1, sample_rate=rate, sample_format='S16LE',
                                 coding_format='wave'))
    while not publisher.get_subscription_count():
        time.sleep(0.05)
    time.sleep(0.5)
    for at in range(0, len(samples), 1600):
        block = samples[at:at + 1600]
        data = array('B', block.tobytes())
        stamp_ns = 1_000_000_000_000 + at * 1_000_000_000 // rate
        if kind == 'AudioData':
            message = m.AudioData(data=data)
        elif kind == 'AudioDataStamped':
            message = m.AudioDataStamped(audio=m.AudioData(data=data))
        else:
            message = m.AudioStamped()
            message.audio.audio_data.int16_data = array('h', block.tobytes())
            message.audio.info.format, message.audio.info.rate = 8, rate
            message.audio.info.channels, message.audio.info.chunk = 1, len(block)
        if kind != 'AudioData':
            message.header.stamp.sec = stamp_ns // 1_000_000_000
            message.header.stamp.nanosec = stamp_ns % 1_000_000_000
            message.header.frame_id = 'head_microphone'
        publisher.publish(message)
        time.sleep(0.025)
    time.sleep(60)
""")


@pytest.mark.parametrize(('overlay', 'kind'), [
    ('ros_drivers', 'AudioDataStamped'),
    pytest.param('ros_drivers', 'AudioData', marks=pytest.mark.slow),
    ('mgonzs13', 'AudioStamped')])
def test_words_come_out(tmp_path, overlay, kind):
    with driven(tmp_path, overlay) as driver:
        assert driver.change(CONFIGURE)
        assert driver.change(ACTIVATE)
        with running(tmp_path, overlay, PUBLISHER, DATA / 'orders.flac', kind):
            driver.wait(lambda: len(driver.finals) >= 3, 90)
        assert driver.finals[0].text == 'robot go to the kitchen and bring me the red cup'
        if kind != 'AudioData':
            # Stamps are those of the audio, whatever the pace at which it came.
            stamps = [final.header.stamp.sec for final in driver.finals]
            assert stamps[0] in (1000, 1001)
            assert 1003 <= stamps[1] <= 1006
            assert driver.finals[0].header.frame_id == 'head_microphone'
