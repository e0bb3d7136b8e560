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

"""What /diagnostics says: once a second, in every state, with a sentence that helps."""

from dataclasses import replace
import math
from pathlib import Path

from node.driver import ACTIVATE, CONFIGURE, DEACTIVATE, driven
import pytest
from rclpy.clock import Clock

from voxtral_ros.audio.echo import EchoStats
from voxtral_ros.client.link import LinkStatus
from voxtral_ros.node.diagnostics import Diagnostics
from voxtral_ros.node.echo import EchoHealth
from voxtral_ros.node.health import ERROR, Health, judge, OK, Recent, WARN
from voxtral_ros.node.stats import WorkerStats
from voxtral_ros.recognizer.engine import EngineStats

ORDERS = Path(__file__).resolve().parents[1] / 'data' / 'orders.flac'
WELL = Health(time_s=0.0, state='active', source='topic /audio', live=True,
              hint='is it published?')
CALM = Recent(audio_rate=1.0, real_time_factor=0.2, idle_s=0.1, mute_s=0.0, dropped_s=0.0,
              failures=0, gaps=0, jumps=0, bad_samples=0, undelivered_s=0.0)


@pytest.mark.parametrize(('level', 'words', 'health', 'recent'), [
    (OK, 'listening to the topic /audio', {}, {}),
    (OK, 'inactive', {'state': 'inactive'}, {}),
    (ERROR, 'there is no model', {'state': 'unconfigured', 'failure': 'there is no model'}, {}),
    (ERROR, 'failed 2 times', {}, {'failures': 2}),
    (ERROR, 'gone', {'trouble': 'the microphone is gone'}, {}),
    (ERROR, 'no audio for 4 s from the topic /audio: is it published?', {}, {'idle_s': 4.0}),
    (OK, 'listening', {'timeout_s': 0.0}, {'idle_s': 4.0}),
    (OK, 'listening', {'live': False}, {'idle_s': 4.0, 'audio_rate': 0.1}),
    (WARN, '7.5 s of audio were dropped', {}, {'dropped_s': 7.5}),
    (WARN, '20 s behind', {'waiting_s': 20.0}, {}),
    (WARN, 'only 50 %', {}, {'audio_rate': 0.5}),
    (OK, 'listening', {}, {'audio_rate': float('nan')}),
    (OK, 'listening', {}, {'audio_rate': 4.0, 'stamp_rate': 1.0}),  # a bag at four times its pace
    (WARN, '4 s of audio come in a second, if it is S16LE', {'audio_format': 'S16LE'},
     {'audio_rate': 4.0}),
    (WARN, '3 s of audio come', {}, {'audio_rate': 3.0, 'stamp_rate': 3.0}),
    (WARN, 'set assumed_format.sample_rate', {'assumed': True}, {'audio_rate': 6.0}),
    (WARN, 'set assumed_format.sample_rate', {'assumed': True}, {'audio_rate': 0.5}),
    (OK, 'listening', {'assumed': True, 'timeout_s': 0.0}, {'audio_rate': 0.5}),
    (OK, 'listening', {}, {'audio_rate': 0.5, 'idle_s': 2.0}),  # it has just ended
    (WARN, 'two channels', {'warning': 'two channels cancel each other'}, {}),
    (WARN, 'never exceeds (read as S32LE)',
     {'suspicion': 'it never exceeds', 'audio_format': 'S32LE'}, {}),
    (ERROR, 'nothing comes on /clock', {'no_clock': 'nothing comes on /clock'}, {}),
    (WARN, 'nothing comes on /clock', {'no_clock': 'nothing comes on /clock', 'received_s': 1.0},
     {}),
    (WARN, 'another clock', {'clock': 'stamps are of another clock'}, {}),
    (WARN, '98 % of the audio has the stamp', {}, {'repeated': 0.98}),
    (WARN, '2 s of audio come in a second of its stamps', {}, {'stamp_rate': 2.0}),
    (WARN, 'finalized: only a new process', {'state': 'finalized'}, {}),
    (OK, 'loading /models/big for 12 s', {'state': 'configuring', 'model': '/models/big',
                                          'loading_s': 12.3}, {}),
    (WARN, '3 samples were NaN', {}, {'bad_samples': 3}),
    (WARN, '2 gaps and 1 jumps', {}, {'gaps': 2, 'jumps': 1}),
    (WARN, 'repetition loop', {}, {'repetition_loops': 1}),
    (WARN, 'digital silence', {}, {'mute_s': 11.0}),
    (WARN, 'robot_speaking has been true for 90 s', {'robot_speaking_s': 90.0}, {}),
    (OK, 'listening', {'echo': EchoHealth(EchoStats())}, {}),
    (WARN, 'the echo is not cancelled: 2 publishers',
     {'echo': EchoHealth(EchoStats(), trouble='2 publishers send')}, {}),
    (WARN, '1.5 s of what the robot plays came too late to be cancelled, by 0.70 s',
     {'echo': EchoHealth(EchoStats(lateness_s=0.7), most_wait_s=0.6)}, {'echo_late_s': 1.5}),
    (WARN, 'nothing comes from the topic /playback',
     {'echo': EchoHealth(EchoStats(), 'topic /playback'), 'robot_speaking_s': 3.0}, {}),
    (OK, 'listening', {'echo': EchoHealth(EchoStats(missing_s=0.1), 'topic /playback'),
                       'robot_speaking_s': 3.0}, {}),
    (OK, 'muted', {'listening': False}, {}),
    (OK, 'listening', {'link': LinkStatus('connected')}, {}),
    (ERROR, 'no connection to ws://there: refused; 7 s of speech wait',
     {'model': 'ws://there', 'link': LinkStatus('down', error='refused', waiting_s=7.0)}, {}),
    (WARN, '3.0 s of speech were given up', {'link': LinkStatus('connected')},
     {'undelivered_s': 3.0}),
])
def test_the_judgement(level, words, health, recent):
    assert judge(replace(WELL, **health), replace(CALM, **recent))[0] == level
    assert words in judge(replace(WELL, **health), replace(CALM, **recent))[1]


def test_the_worst_is_published_first():
    everything = replace(CALM, failures=1, dropped_s=1.0, gaps=1)
    assert judge(replace(WELL, trouble='broken'), everything)[0] == ERROR


class _Node:
    """Collects what is published."""

    def __init__(self):
        self.statuses = []

    def create_publisher(self, *_, **__):
        return self

    def publish(self, array):
        self.statuses += array.status

    def get_fully_qualified_name(self):
        return '/robot/asr'

    def get_clock(self):
        return Clock()


def test_only_what_is_recent_counts_and_counters_are_copied():
    node = _Node()
    diagnostics = Diagnostics(node)
    stats = WorkerStats()
    for second in range(30):
        if second == 5:
            stats.dropped_s = 12.0
        health = replace(WELL, time_s=float(second), received_s=float(second), stats=stats,
                         level_dbfs=-30.0)
        diagnostics.publish(health)
    levels = [status.level for status in node.statuses]
    assert levels == [OK] * 5 + [WARN] * 10 + [OK] * 15
    assert node.statuses[-1].name == 'robot/asr: speech recognition'
    values = {pair.key: pair.value for pair in node.statuses[-1].values}
    assert values['dropped (s)'] == '12.00'
    assert values['audio rate (s/s, expected 1)'] == '1.000'


def test_what_the_engine_does_is_shown():
    node = _Node()
    for stats in (None, EngineStats(1.25, True, math.nan), EngineStats(3.0, False, 2.346)):
        Diagnostics(node).publish(replace(WELL, engine=stats))
    names = ('tokens per pass', 'speculative decoding', 'accepted tokens per pass')
    shown = [{pair.key: pair.value for pair in status.values} for status in node.statuses]
    assert [tuple(values[name] for name in names) for values in shown] == [
        ('', '', ''), ('1.25', 'on', ''), ('3.00', 'off', '2.35')]


def test_how_the_echo_is_cancelled_is_shown_where_it_is():
    node = _Node()
    stats = EchoStats(delay_ms=120.0, erle_db=31.26, wait_s=0.1, late_s=0.25, missing_s=0.0)
    for echo in (None, EchoHealth(stats, 'topic /playback')):
        Diagnostics(node).publish(replace(WELL, echo=echo))
    names = ('echo reference', 'echo delay (ms)', 'echo return loss enhancement (dB)',
             'without reference for (s)', 'reference too late (s)', 'waits for the reference (s)')
    shown = [{pair.key: pair.value for pair in status.values} for status in node.statuses]
    assert [tuple(values[name] for name in names) for values in shown] == [
        ('', '', '', '', '', ''), ('topic /playback', '120', '31.3', '0.0', '0.25', '0.10')]


def test_a_node_reports_how_it_is_in_every_state(tmp_path):
    with driven(tmp_path, source='file', file=ORDERS) as driver:
        driver.wait(lambda: driver.diagnosed(OK, 'unconfigured'))
        assert driver.change(CONFIGURE)
        driver.wait(lambda: driver.diagnosed(OK, 'inactive'))
        assert 'voxtral-tiny-en on cpu' in driver.shown('model')
        assert driver.shown('backend') == ''
        assert driver.change(ACTIVATE)
        driver.wait(lambda: driver.diagnosed(OK, 'listening to the file')
                    and driver.shown('latency p50 (s)')
                    and driver.shown('audio rate (s/s, expected 1)'))
        assert driver.shown('backend').startswith('compiled for the CPU (')
        # The latest second may be one of the pauses between two orders: then it is -120.
        assert -40 < max(map(float, filter(None, driver.every('level (dBFS)')))) < -5
        assert float(driver.shown('audio rate (s/s, expected 1)')) > 0
        assert float(driver.shown('real-time factor')) > 0
        assert float(driver.shown('tokens per pass')) >= 1
        assert driver.shown('speculative decoding') == 'off'
        assert float(driver.shown('latency p50 (s)')) <= float(driver.shown('latency p95 (s)'))
        assert float(driver.shown('memory (MB)')) > 50
        assert driver.change(DEACTIVATE)
        driver.wait(lambda: driver.diagnosed(OK, 'inactive'))


def test_a_failed_configure_is_published_until_it_succeeds(tmp_path):
    with driven(tmp_path, source='file', file=ORDERS, device='cuda:77') as driver:
        assert not driver.change(CONFIGURE)
        driver.wait(lambda: driver.diagnosed(ERROR, 'configure failed: '))
        assert 'cuda' in driver.diagnostics[-1].message
        assert driver.state == 'unconfigured'
