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

"""Transcripts for REP-155 where hri_msgs is installed, and nothing of it elsewhere."""

import json
import os
from pathlib import Path
import textwrap

from node.driver import ACTIVATE, CONFIGURE, DEACTIVATE, driven, running
import pytest

ORDERS = Path(__file__).resolve().parents[1] / 'data' / 'orders.flac'
pytestmark = pytest.mark.skipif(
    'VOXTRAL_OVERLAYS' not in os.environ, reason='the overlays are built by `make test`')

# Runs where hri_msgs is sourced, which the tests are not: prints what it processes as JSON.
LISTENER = textwrap.dedent("""
    import json
    import rclpy
    from hri_msgs.msg import IdsList, LiveSpeech
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from std_msgs.msg import Bool
    rclpy.init()
    node = rclpy.create_node('listener')
    def show(name, value):
        print(json.dumps([name, value]), flush=True)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    voice = '/humans/voices/anonymous_speaker'
    node.create_subscription(IdsList, '/humans/voices/tracked',
                             lambda m: show('tracked', list(m.ids)), 10)
    node.create_subscription(Bool, f'{voice}/is_speaking',
                             lambda m: show('is_speaking', m.data), latched)
    node.create_subscription(LiveSpeech, f'{voice}/speech', lambda m: show('speech', [
        m.incremental, m.final, m.confidence, m.header.stamp.sec]), 50)
    show('ready', True)
    rclpy.spin(node)
""")


def test_live_speech_and_voices(tmp_path):
    transcribed = tmp_path / 'processed'

    def values(name):
        lines = transcribed.read_text().splitlines()
        return [value for key, value in map(json.loads, lines) if key == name]

    with running(tmp_path, 'hri', LISTENER, output=transcribed), \
            driven(tmp_path, 'hri', source='file', file=ORDERS) as driver:
        driver.wait(lambda: values('ready'))
        assert driver.change(CONFIGURE)
        driver.wait(lambda: driver.client.count_subscribers(
            '/humans/voices/anonymous_speaker/speech') == 1)
        assert driver.change(ACTIVATE)
        driver.wait(lambda: any(final for _, final, *_ in values('speech')))
        assert driver.change(DEACTIVATE)
        driver.wait(lambda: values('tracked') and values('tracked')[-1] == [])
        driver.wait(lambda: driver.finals)
    final = driver.finals[0]
    incremental, text, confidence, seconds = next(
        speech for speech in values('speech') if speech[1])
    assert text == incremental == final.text
    assert confidence == pytest.approx(final.confidence)
    assert seconds == final.header.stamp.sec
    partials = [speech[0] for speech in values('speech') if not speech[1]]
    assert partials[0]
    assert text.startswith(partials[0])
    assert ['anonymous_speaker'] in values('tracked')
    assert True in values('is_speaking')


def test_without_hri_msgs_there_are_no_such_topics(tmp_path):
    with driven(tmp_path, source='file', file=ORDERS) as driver:
        assert driver.change(CONFIGURE)
        topics = dict(driver.client.get_topic_names_and_types())
        assert '/transcript/final' in topics
        assert not [topic for topic in topics if topic.startswith('/humans')]
