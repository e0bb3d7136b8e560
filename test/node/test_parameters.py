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

"""The table of parameters is what the files say, and what it refuses it explains."""

from pathlib import Path
import subprocess
import sys
import textwrap

from node.driver import ACTIVATE, CONFIGURE, driven, running
import pytest
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters
from rclpy.parameter import Parameter
from voxtral_ros.node.health import ERROR
from voxtral_ros.node.parameters import check, TABLE
import yaml

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'config' / 'asr.yaml'
ORDERS = ROOT / 'test' / 'data' / 'orders.flac'

BEST_EFFORT = textwrap.dedent("""
    import time
    import rclpy
    from audio_common_msgs.msg import AudioDataStamped
    from rclpy.qos import qos_profile_sensor_data
    rclpy.init()
    node = rclpy.create_node('capture')
    publisher = node.create_publisher(AudioDataStamped, 'audio', qos_profile_sensor_data)
    time.sleep(600)
""")


def test_the_yaml_lists_every_parameter_with_its_default():
    listed = yaml.safe_load(CONFIG.read_text(encoding='utf-8'))['/**']['ros__parameters']
    assert listed == {row.name: row.default for row in TABLE}


@pytest.mark.parametrize('row', [row for row in TABLE if row.structural], ids=lambda row: row.name)
def test_structural_parameters_are_refused_while_configured(row):
    parameter = Parameter(row.name, value=row.default)
    assert check([parameter], configured=False).successful
    refused = check([parameter], configured=True)
    assert not refused.successful
    assert row.name in refused.reason


@pytest.mark.parametrize('row', [row for row in TABLE if not row.structural],
                         ids=lambda row: row.name)
def test_the_others_are_accepted_at_any_time(row):
    assert check([Parameter(row.name, value=row.default)], configured=True).successful


@pytest.mark.parametrize('row', [row for row in TABLE if row.choices], ids=lambda row: row.name)
def test_a_value_that_is_no_choice_is_refused_by_name(row):
    refused = check([Parameter(row.name, value='nonsense')], configured=False)
    assert not refused.successful
    assert 'nonsense' in refused.reason


def test_the_generated_files_are_up_to_date():
    done = subprocess.run(
        [sys.executable, str(ROOT / 'tools' / 'write_parameters.py'), '--check'],
        capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def with_file(tmp_path, lines):
    """Return ROS arguments that give the node a file with these parameters."""
    file = tmp_path / 'asr.yaml'
    file.write_text('/**:\n  ros__parameters:\n' + ''.join(f'    {line}\n' for line in lines))
    return ['--params-file', str(file)]


def values(driver, *names):
    answer = driver.call(GetParameters, 'asr/get_parameters', GetParameters.Request(names=names))
    return [value.string_value or value.double_value or value.integer_value
            for value in answer.values]


def test_an_unknown_name_is_reported_with_the_nearest_one(tmp_path):
    given = with_file(tmp_path, ['endpoint.silense_s: 1.5', 'use_sim_time: false', 'zebra: 1'])
    with driven(tmp_path, arguments=given) as driver:
        driver.wait(lambda: 'unknown parameter zebra is ignored\n' in driver.log)
        assert 'unknown parameter endpoint.silense_s is ignored: did you mean ' \
            'endpoint.silence_s?' in driver.log
        assert driver.log.count('is ignored') == 2


def test_an_unknown_policy_of_the_audio_topic_is_reported(tmp_path):
    given = with_file(tmp_path, ['qos_overrides./audio.subscription.depht: 10',
                                 'qos_overrides./audio.subscription.depth: 10'])
    with driven(tmp_path, 'ros_drivers', arguments=given) as driver:
        assert driver.change(CONFIGURE)
        assert driver.change(ACTIVATE)
        driver.wait(lambda: 'did you mean qos_overrides./audio.subscription.depth?' in driver.log)
        assert driver.log.count('is ignored') == 1
        infos = driver.client.get_subscriptions_info_by_topic('/audio')
        assert len(infos) == 1
        assert values(driver, 'qos_overrides./audio.subscription.depth') == [10]


def test_values_that_cannot_be_make_configure_fail_until_all_are_corrected(tmp_path):
    given = with_file(tmp_path, ['delay_ms: much', 'channel: 64', 'robot_speaking_mode: shout'])
    right = {'delay_ms': ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=480),
             'channel': ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=0),
             'robot_speaking_mode': ParameterValue(
                 type=ParameterType.PARAMETER_STRING, string_value='mark')}
    complaints = ["'delay_ms'", '64', "robot_speaking_mode is 'shout', expected one of 'mute'"]
    with driven(tmp_path, arguments=given, source='file', file=ORDERS) as driver:
        for (name, value), words in zip(right.items(), complaints, strict=True):
            before = len(driver.log)
            assert not driver.change(CONFIGURE)
            driver.wait(lambda before=before, words=words: words in driver.log[before:])
            results = driver.call(SetParameters, 'asr/set_parameters', SetParameters.Request(
                parameters=[ParameterMessage(name=name, value=value)])).results
            assert results[0].successful, results[0].reason
        assert driver.change(CONFIGURE), driver.log


def test_a_policy_that_does_not_suit_the_publisher_is_an_error(tmp_path):
    given = with_file(tmp_path, ['qos_overrides./audio.subscription.reliability: reliable'])
    with driven(tmp_path, 'ros_drivers', arguments=given) as driver, \
            running(tmp_path, 'ros_drivers', BEST_EFFORT):
        assert driver.change(CONFIGURE)
        assert driver.change(ACTIVATE)
        driver.wait(lambda: driver.diagnosed(ERROR, 'qos_overrides of /audio do not suit'))
        assert 'eliab' in driver.diagnostics[-1].message


def test_a_whole_number_is_a_number(tmp_path):
    given = with_file(tmp_path, ['endpoint.silence_s: 1'])
    with driven(tmp_path, arguments=given) as driver:
        assert values(driver, 'endpoint.silence_s') == [1.0]
        described = driver.call(DescribeParameters, 'asr/describe_parameters',
                                DescribeParameters.Request(names=['endpoint.silence_s']))
        assert described.descriptors[0].floating_point_range[0].to_value == 10.0
        assert described.descriptors[0].description
