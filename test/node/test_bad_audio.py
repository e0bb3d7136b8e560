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

"""Unusable audio on the topic: diagnostics name what is wrong, and the next block is taken."""

import os
from pathlib import Path
import textwrap

from node.driver import ACTIVATE, CONFIGURE, driven, running
import pytest

from voxtral_ros.node.health import ERROR, OK, WARN

DATA = Path(__file__).resolve().parents[1] / 'data'
pytestmark = pytest.mark.skipif(
    'VOXTRAL_OVERLAYS' not in os.environ, reason='the overlays are built by `make test`')

# Publishes a message every 20 ms, of the kind that the file `kind` says; good ones are a tone,
# over and over.
PUBLISHER = textwrap.dedent("""
    import sys, time
    from array import array
    import numpy, rclpy, soundfile
    from audio_common_msgs import msg as m
    path = sys.argv[1]
    samples, rate = soundfile.read(path, dtype='int16')
    rclpy.init()
    node = rclpy.create_node('capture')
    mgonzs13 = hasattr(m, 'AudioStamped')
    publisher = node.create_publisher(m.AudioStamped if mgonzs13 else m.AudioDataStamped,
                                      'audio', 100)
    def message(block):
        if not mgonzs13:
            return m.AudioDataStamped(audio=m.AudioData(data=array('B', block.tobytes())))
        message = m.AudioStamped()
        message.audio.info.format, message.audio.info.rate = 1, rate
        message.audio.info.channels, message.audio.info.chunk = 1, len(block)
        message.audio.audio_data.float32_data = array(
            'f', (block / 32768).astype('float32').tobytes())
        return message
    at, start, start_ns = 0, time.monotonic(), time.time_ns()
    for n in range(100000):
        kind = open('kind').read()
        out = message(samples[at:at + 320])
        if kind == 'good':
            at = (at + 320) % (len(samples) // 320 * 320)
        elif kind == 'opus':
            out.audio.data = array('B', b'OggS' + bytes(636))
        elif kind == 'empty':
            out.audio.data = array('B')
        elif kind == 'nan':
            out.audio.audio_data.float32_data = array('f', [float('nan')] * 320)
        elif kind == 'rate':
            out.audio.info.rate = 1
        elif kind == 'flag':
            out.audio.info.format = 77
        seconds, nanoseconds = divmod(start_ns + n * 20_000_000, 10 ** 9)
        out.header.stamp.sec, out.header.stamp.nanosec = seconds, nanoseconds
        publisher.publish(out)
        time.sleep(max(0.0, start + (n + 1) * 0.02 - time.monotonic()))
""")
OTHER = textwrap.dedent("""
    import time
    import rclpy
    from std_msgs.msg import String
    rclpy.init()
    node = rclpy.create_node('radio')
    publisher = node.create_publisher(String, 'audio', 10)
    while True:
        publisher.publish(String(data='audio'))
        time.sleep(0.1)
""")


@pytest.mark.parametrize(('overlay', 'kinds'), [
    ('ros_drivers', [('opus', ERROR, 'the audio topic carries Ogg'),
                     ('empty', ERROR, 'no audio for')]),
    ('mgonzs13', [('rate', ERROR, 'sample rate 1 Hz'),
                  ('flag', ERROR, 'unknown PortAudio sample format 77'),
                  ('nan', WARN, 'samples were NaN')]),
])
def test_it_says_what_is_wrong_and_transcribes_what_follows(tmp_path, monkeypatch, overlay, kinds):
    monkeypatch.chdir(tmp_path)

    def publish(kind):
        (tmp_path / 'next').write_text(kind)
        (tmp_path / 'next').rename(tmp_path / 'kind')

    publish(kinds[0][0])
    with driven(tmp_path, overlay) as driver, \
            running(tmp_path, overlay, PUBLISHER, DATA / 'orders.flac'):
        assert driver.change(CONFIGURE)
        assert driver.change(ACTIVATE)
        for n, (kind, level, words) in enumerate(kinds):
            publish(kind)
            n_published = len(driver.transcripts)
            driver.wait(lambda level=level, words=words: driver.diagnosed(level, words))
            assert len(driver.transcripts) == n_published
            publish('good')
            driver.wait(lambda n=n: len(driver.finals) > n)
        assert driver.finals[0].text == 'robot go to the kitchen and bring me the red cup'
        driver.wait(lambda: driver.diagnosed(OK, 'listening to the topic /audio'), 120)


@pytest.mark.slow
def test_another_type_on_the_topic_is_named(tmp_path):
    with driven(tmp_path, 'ros_drivers') as driver, running(tmp_path, 'ros_drivers', OTHER):
        assert driver.change(CONFIGURE)
        assert driver.change(ACTIVATE)
        driver.wait(lambda: driver.diagnosed(
            ERROR, 'the topic /audio carries std_msgs/msg/String'))
        assert 'expected audio_common_msgs/msg/AudioDataStamped' in driver.diagnostics[-1].message
        assert driver.state == 'active'


@pytest.mark.slow
def test_nobody_publishing_is_an_error_with_the_command_to_look(tmp_path):
    with driven(tmp_path, 'ros_drivers') as driver:
        assert driver.change(CONFIGURE)
        assert driver.change(ACTIVATE)
        driver.wait(lambda: driver.diagnosed(ERROR, 'ros2 topic hz /audio'))


def test_without_audio_common_msgs_activation_says_what_to_install(tmp_path):
    missing = 'import sys; sys.modules["audio_common_msgs"] = None'  # whatever is sourced
    with driven(tmp_path, prelude=missing) as driver:
        assert driver.change(CONFIGURE)
        assert not driver.change(ACTIVATE)
        driver.wait(lambda: 'install ros-$ROS_DISTRO-audio-common-msgs' in driver.log)
        assert driver.state == 'inactive'
