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
import re
import subprocess
import sys
import textwrap

from node.driver import ACTIVATE, CONFIGURE, driven, running
import pytest
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters
from rclpy.parameter import Parameter
from voxtral_ros.audio.pcm import FORMATS
from voxtral_ros.node.health import ERROR
from voxtral_ros.node.parameter_table import ALWAYS, AT_CONFIGURE, ROWS, TABLE, WHEN
from voxtral_ros.node.parameters import check, stream_options, unused
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.phrases import DEFAULT_BOOST, MAX_BOOST
from voxtral_ros.recognizer.wake_gate import WakeOptions
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
    text = CONFIG.read_text(encoding='utf-8').replace('# autostart:', 'autostart:')
    assert yaml.safe_load(text)['/**']['ros__parameters'] == {
        row.name: row.default for row in TABLE}


def test_a_copy_of_the_yaml_does_not_keep_the_launch_file_from_activating_the_node():
    listed = yaml.safe_load(CONFIG.read_text(encoding='utf-8'))['/**']['ros__parameters']
    assert 'autostart' not in listed


def test_every_format_of_samples_can_be_assumed():
    assert ROWS['assumed_format.sample_format'].choices == tuple(FORMATS)


class Holder:
    """Has the parameters of the table, as a node does."""

    def __init__(self, **values):
        self._values = {row.name: row.default for row in TABLE} | values

    def get_parameter(self, name):
        value = self._values[name]
        kind = Parameter.Type.STRING_ARRAY if isinstance(value, list) \
            else Parameter.Type.from_parameter_value(value)
        return Parameter(name, kind, value)


def test_the_defaults_of_a_stream_are_those_of_the_recogniser():
    assert stream_options(Holder()) == StreamOptions()


def test_the_boost_is_that_of_the_recogniser():
    assert ROWS['phrases.boost'].default == DEFAULT_BOOST
    assert ROWS['phrases.boost'].limits == (0.0, MAX_BOOST)


def test_the_gate_is_that_of_the_recogniser():
    options = WakeOptions()
    assert ROWS['wake.timeout_s'].default == options.timeout_s
    assert ROWS['wake.similarity'].default == options.similarity
    assert ROWS['wake.publish_all'].default == options.pass_all


@pytest.mark.parametrize(('source', 'notes'), [
    ('topic', ['microphone is not used: source is topic', 'file is not used: source is topic']),
    ('microphone', ['file is not used: source is microphone']),
    ('file', ['microphone is not used: source is file'])])
def test_what_belongs_to_another_source_is_noted(source, notes):
    assert unused(Holder(source=source, microphone='2', file='a.flac')) == notes
    assert unused(Holder(source=source)) == []


def other(row):
    """Return a value that a parameter may have and does not have by default."""
    if isinstance(row.default, list):
        return ['another']
    if row.choices:
        return next(choice for choice in row.choices if choice != row.default)
    if row.limits:
        return type(row.default)(row.limits[row.default == row.limits[0]])
    return {'device': 'cuda:1', 'channel': '3', 'engine.url': 'ws://robot:8000/v1/realtime'}.get(
        row.name, not row.default if isinstance(row.default, bool) else 'another')


@pytest.mark.parametrize('row', TABLE, ids=lambda row: row.name)
def test_a_parameter_can_be_changed_until_it_is_read(row):
    changed = [Parameter(row.name, value=other(row))]
    assert check(Holder(), changed, configured=False, active=False).successful
    inactive = check(Holder(), changed, configured=True, active=False)
    active = check(Holder(), changed, configured=True, active=True)
    assert inactive.successful == (row.read != AT_CONFIGURE)
    assert active.successful == (row.read == ALWAYS)
    for answer in (inactive, active):
        assert answer.successful or (row.name in answer.reason and 'first' in answer.reason)
    # A whole file can be loaded again for one of its values.
    same = [Holder().get_parameter(row.name)]
    assert check(Holder(), same, configured=True, active=True).successful


def test_what_a_stream_can_take_over_needs_no_new_stream():
    tuned = {'endpoint.silence_s': 1.5, 'endpoint.max_utterance_s': 9.0,
             'endpoint.min_speech_probability': 0.3, 'vad.threshold': 0.7,
             'watchdog.speech_s': 3.0}
    assert all(ROWS[name].read == ALWAYS for name in tuned)
    changes = [Parameter(name, value=value) for name, value in tuned.items()]
    options = stream_options(Holder(), changes)
    assert options == stream_options(Holder(**tuned)) != stream_options(Holder())


@pytest.mark.parametrize(('name', 'given', 'meant'), [
    ('microphone', 2, '2'), ('file', 20260704, '20260704'), ('engine.model', 3.5, '3.5'),
    ('frame_id', True, 'true'), ('endpoint.silence_s', 1, 1.0), ('endpoint.silence_s', '1.5', 1.5),
    ('delay_ms', 560.0, 560), ('delay_ms', '560', 560), ('log_transcripts', 'False', False),
    ('log_transcripts', 1, True), ('file_realtime', 'no', False),
    ('phrases.list', None, []), ('phrases.list', 'living room', ['living room']),
    ('channel', 2, '2'), ('channel', 'reachy_mini', 'reachy_mini'), ('channel', '-2', '-2'),
    ('phrases.list', ('Kowalski', 'R2'), ['Kowalski', 'R2']),
    ('phrases.list', [7, 9], ['7', '9'])])
def test_what_is_plainly_meant_is_accepted(name, given, meant):
    value = ROWS[name].parse(given)
    assert value == meant
    assert type(value) is type(meant)


@pytest.mark.parametrize(('name', 'given'), [
    ('delay_ms', 500), ('delay_ms', 1280), ('delay_ms', 480.5), ('delay_ms', True),
    ('delay_ms', 'much'), ('engine.encoder_chunk_ms', 100), ('threads', -1), ('channel', 64),
    ('channel', 'respeaker'), ('channel', -3), ('channel', ''),
    ('device', 'gpu'), ('device', 'cuda:'), ('engine.url', 'http://host:8000'),
    ('engine.url', 'ws://one:8000, two:8000'), ('source', 'mic'),
    ('vad.threshold', float('nan')), ('vad.threshold', '0,5'), ('endpoint.silence_s', False),
    ('hri_voice', 7), ('hri_voice', 'the robot'), ('log_transcripts', 2), ('microphone', [2]),
    ('log_transcripts', 'maybe'), ('phrases.list', 7), ('phrases.list', [['a']]),
    ('phrases.list', '[Kowalski, 5]')])
def test_what_cannot_be_is_refused_with_what_is_expected(name, given):
    expected = re.escape(ROWS[name].values)
    with pytest.raises(ValueError, match=rf'^{name} is .*, expected {expected}$'):
        ROWS[name].parse(given)


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
            or list(value.string_array_value) for value in answer.values]


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
    complaints = ["delay_ms is 'much'", 'channel is 64, expected a whole number from -2 to 63',
                  "robot_speaking_mode is 'shout', expected one of 'mute'"]
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


def put(driver, name, value):
    """Set a parameter as `ros2 param set` does; return the result."""
    message = Parameter(name, value=value).to_parameter_msg()
    return driver.call(SetParameters, 'asr/set_parameters',
                       SetParameters.Request(parameters=[message])).results[0]


def test_numbers_stand_for_texts_and_whole_numbers_for_numbers(tmp_path):
    given = with_file(tmp_path, ['microphone: 2', 'endpoint.silence_s: 1', 'engine.model: 3.10',
                                 'frame_id: on'])
    with driven(tmp_path, arguments=given, file='7') as driver:
        assert values(driver, 'microphone', 'endpoint.silence_s', 'engine.model', 'frame_id',
                      'file') == ['2', 1.0, '3.1', 'true', '7']
        # Here the file had other letters than the node has got.
        assert "engine.model was given as 3.1 and is taken as the text '3.1': put it in quotes" \
            in driver.log
        assert 'frame_id was given as True' in driver.log
        assert 'microphone was given' not in driver.log
        for name, value, got in (('microphone', 3, '3'), ('vad.threshold', '0.25', 0.25)):
            result = put(driver, name, value)
            assert result.successful, result.reason
            assert values(driver, name) == [got]


@pytest.mark.parametrize(('line', 'got'), [
    ("['living room', Kowalski]", ['living room', 'Kowalski']), ('[]', []), ('R2', ['R2']),
    ('[7, 9]', ['7', '9'])])
def test_a_list_may_be_empty_and_one_text_is_one(tmp_path, line, got):
    with driven(tmp_path, arguments=with_file(tmp_path, [f'phrases.list: {line}'])) as driver:
        assert values(driver, 'phrases.list') == [got]
        # An empty list has no type of its own on its way.
        for value in (['a', 'b'], [], 'c', ['d'], [1]):
            result = put(driver, 'phrases.list', value)
            assert result.successful, result.reason
            texts = value if isinstance(value, list) else [value]
            assert values(driver, 'phrases.list') == [[str(text) for text in texts]]


def test_a_description_says_what_may_be_and_when_it_is_read(tmp_path):
    names = [row.name for row in TABLE]
    with driven(tmp_path) as driver:
        described = driver.call(DescribeParameters, 'asr/describe_parameters',
                                DescribeParameters.Request(names=names)).descriptors
    for row, descriptor in zip(TABLE, described, strict=True):
        assert WHEN[row.read] in descriptor.description
        assert bool(row.choices or row.like) == bool(descriptor.additional_constraints)
    chunk = described[names.index('engine.encoder_chunk_ms')].integer_range[0]
    assert (chunk.from_value, chunk.to_value, chunk.step) == (80, 480, 80)
    silence = described[names.index('endpoint.silence_s')].floating_point_range[0]
    assert (silence.from_value, silence.to_value) == (0.1, 10.0)


def test_tuning_needs_no_reload(tmp_path):
    with driven(tmp_path, source='file', file=ORDERS, endpoint__silence_s='10.0') as driver:
        assert driver.change(CONFIGURE)
        assert 'expected one of 80' in put(driver, 'delay_ms', 500).reason
        assert put(driver, 'delay_ms', 240).successful
        assert 'clean up first' in put(driver, 'threads', 2).reason
        assert driver.change(ACTIVATE)
        assert put(driver, 'delay_ms', 240).successful  # which it is
        assert 'deactivate first' in put(driver, 'delay_ms', 480).reason
        # The stream that runs takes it over: with 10 s there would be no pause that ends anything.
        assert put(driver, 'endpoint.silence_s', 0.3).successful
        driver.wait(lambda: len(driver.texts) >= 3)
        assert driver.state == 'active'
