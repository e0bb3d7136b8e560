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
A robot that speaks, on two topics whose clocks drift: the node cancels its echo.

The microphone's topic has the robot's sentence from the room and a person on it, `playback` has
what the robot plays. Both are sent at several times their pace, as of a bag.
"""

import os
import textwrap

from audio.echo_room import in_the_room, no_linear_canceller, PERSON, RATE, ROBOT, speech
from node.driver import ACTIVATE, CONFIGURE, driven, running
import numpy as np
import pytest
import soundfile

from voxtral_ros.node.health import WARN

pytest.importorskip(
    'pywebrtc_audio', reason='no echo cancellation: pip install -r requirements/echo.txt')
pytestmark = [
    pytest.mark.skipif('VOXTRAL_OVERLAYS' not in os.environ,
                       reason='the overlays are built by `make test`'),
    pytest.mark.skipif(no_linear_canceller(),
                       reason='no echo cancellation: apt install libspeexdsp1')]

# Runs in the overlay of ros-drivers: python CODE MICROPHONE PLAYED PACE LATE_S PPM SUBSCRIBED
PUBLISHER = textwrap.dedent("""
    import sys, time
    from array import array
    import rclpy, soundfile
    from audio_common_msgs.msg import AudioData, AudioDataStamped, AudioInfo
    from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
    microphone, played = sys.argv[1:3]
    pace, late_s, ppm = map(float, sys.argv[3:6])
    n_subscribed = int(sys.argv[6])  # of the topics, in order: the node listens to these
    rclpy.init()
    node = rclpy.create_node('robot')
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    best_effort = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
    streams = []
    for topic, path, qos in (('audio', microphone, 100), ('playback', played, best_effort)):
        samples, rate = soundfile.read(path, dtype='int16')
        publisher = node.create_publisher(AudioDataStamped, topic, qos)
        info = node.create_publisher(AudioInfo, topic + '_info', latched)
        info.publish(AudioInfo(channels=1, sample_rate=rate, sample_format='S16LE',
                               coding_format='wave'))
        streams.append((topic, publisher, samples, rate, info))
    needed = [publisher for _, publisher, *_ in streams][:n_subscribed]
    while not all(publisher.get_subscription_count() for publisher in needed):
        time.sleep(0.05)
    time.sleep(1.0)
    messages = []
    for topic, publisher, samples, rate, _ in streams:
        for at in range(0, len(samples), rate // 25):
            start_s, due_s = at / rate, at / rate + 0.04
            if topic == 'playback':
                start_s /= 1 + ppm * 1e-6
                due_s += late_s
            message = AudioDataStamped(audio=AudioData(
                data=array('B', samples[at:at + rate // 25].tobytes())))
            stamp_ns = 1_000_000_000_000 + round(start_s * 1e9)
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10 ** 9)
            messages.append((due_s, topic, publisher, message))
    begin_s = time.monotonic()
    for due_s, _, publisher, message in sorted(messages, key=lambda entry: entry[:2]):
        time.sleep(max(0.0, begin_s + due_s / pace - time.monotonic()))
        publisher.publish(message)
    time.sleep(600)
""")
CANCEL = {'echo__cancellation': 'true', 'robot_speaking_mode': 'duck'}
PERSON_TEXT = 'go forward ten meters'


@pytest.fixture(scope='module')
def scene(tmp_path_factory):
    """Write the two recordings: the robot for 12 s, and a person after 14 s, alone."""
    folder = tmp_path_factory.mktemp('scene')
    played = np.concatenate((speech(ROBOT, 12.0, 0.05), np.zeros(8 * RATE, np.float32)))
    person = speech(PERSON, 3.0, 0.05)
    microphone = in_the_room(played, 0.1, ppm=20.0)
    microphone[14 * RATE:14 * RATE + len(person)] += person
    soundfile.write(folder / 'microphone.wav', microphone, RATE, subtype='PCM_16')
    soundfile.write(folder / 'played.wav', np.repeat(played, 2), 2 * RATE, subtype='PCM_16')
    return folder


def said(finals):
    """Return whether what the person says is there."""
    return any('meters' in final.text for final in finals)


def n_words(texts):
    return sum(len(text.split()) for text in texts)


def texts(folder, scene, pace, late_s=0.0, until=said, **parameters):
    """Return what is recognised, and the latest diagnostics."""
    folder.mkdir()
    with driven(folder, 'ros_drivers', **parameters) as driver:
        assert driver.change(CONFIGURE)
        assert driver.change(ACTIVATE)
        with running(folder, 'ros_drivers', PUBLISHER, scene / 'microphone.wav',
                     scene / 'played.wav', pace, late_s, 20.0,
                     2 if 'echo__cancellation' in parameters else 1):
            driver.wait(lambda: until(driver.finals), 120)
        return [final.text for final in driver.finals], driver.shown('echo delay (ms)'), \
            driver.shown('echo return loss enhancement (dB)')


@pytest.mark.parametrize('late_s', [0.0, pytest.param(0.4, marks=pytest.mark.slow)])
def test_of_the_robot_little_is_left_and_the_person_is_heard(tmp_path, scene, late_s):
    found, delay_ms, erle_db = texts(tmp_path / 'node', scene, 2, late_s, **CANCEL)
    # What is left of its first seconds, before the canceller knows the room, may be words.
    assert n_words(found[:-1]) <= 15
    assert found[-1].endswith(PERSON_TEXT)
    assert float(delay_ms) == pytest.approx(100, abs=30)
    assert float(erle_db) > 6


@pytest.mark.slow
def test_without_the_canceller_the_robot_is_recognised(tmp_path, scene):
    texts(tmp_path / 'node', scene, 2, robot_speaking_mode='ignore',
          until=lambda finals: n_words(final.text for final in finals) > 15)


@pytest.mark.slow
def test_texts_do_not_depend_on_the_rate(tmp_path, scene):
    assert texts(tmp_path / 'once', scene, 1, **CANCEL)[0] \
        == texts(tmp_path / 'four times', scene, 4, **CANCEL)[0]


def test_a_library_that_is_missing_is_said_at_activate(tmp_path):
    hide = "import sys; sys.modules['pywebrtc_audio'] = None"
    with driven(tmp_path, 'ros_drivers', prelude=hide, **CANCEL) as driver:
        assert driver.change(CONFIGURE)
        assert not driver.change(ACTIVATE)
        assert driver.state == 'inactive'
        driver.wait(lambda: 'pip install pywebrtc-audio' in driver.log)


@pytest.mark.slow
def test_a_robot_that_speaks_without_a_reference_is_told_of(tmp_path, scene):
    from std_msgs.msg import Bool
    with driven(tmp_path, 'ros_drivers', audio_timeout_s='0.0', **CANCEL) as driver:
        speaking = driver.client.create_publisher(Bool, 'robot_speaking', 10)
        assert driver.change(CONFIGURE)
        assert driver.change(ACTIVATE)
        driver.wait(speaking.get_subscription_count)
        speaking.publish(Bool(data=True))
        driver.wait(lambda: driver.diagnosed(WARN, 'nothing comes from the topic /playback'))
