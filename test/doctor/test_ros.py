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

"""What is said of ROS by what can be imported, and what can be imported here."""

from importlib.util import find_spec

import pytest
from support.machine import fake_machine

from voxtral_ros.doctor.machine import Machine, Output
from voxtral_ros.doctor.ros import check_ros

ALL = {'rclpy': '', 'voxtral_ros.msg': '', 'audio_common_msgs.msg': '',
       'audio_kind': 'ros-drivers', 'hri_msgs.msg': '', 'rmw': 'rmw_cyclonedds_cpp'}


def findings(tmp_path, found=(), distro='jazzy', files=(), **environ):
    machine = fake_machine(tmp_path, files, probes={'doctor.ros_probe': (
        found if isinstance(found, Output) else {**ALL, **dict(found)})},
        environ={**({'ROS_DISTRO': distro} if distro else {}), **environ})
    return {line.name: line for line in check_ros(machine)}


def test_all_is_there(tmp_path):
    found = findings(tmp_path, ROS_DOMAIN_ID='7')
    assert {line.state for line in found.values()} == {'ok'}
    assert found['ROS'].text == 'jazzy, rclpy'
    assert found['audio topic'].text == 'audio_common_msgs of ros-drivers'
    assert found['hri_msgs'].text == 'found'
    assert found['middleware'].text == 'rmw_cyclonedds_cpp, domain 7'


@pytest.mark.parametrize(('changes', 'name', 'state', 'said'), [
    ({'voxtral_ros.msg': 'not found'}, 'interfaces', 'wrong', 'colcon'),
    ({'voxtral_ros.msg': 'x.so: undefined symbol'}, 'interfaces', 'wrong', 'undefined'),
    ({'audio_common_msgs.msg': 'not found'}, 'audio topic', 'look', 'audio-common-msgs'),
    ({'audio_kind': 'mgonzs13'}, 'audio topic', 'ok', 'of mgonzs13'),
    ({'hri_msgs.msg': 'not found'}, 'hri_msgs', 'ok', 'REP-155')])
def test_packages(tmp_path, changes, name, state, said):
    found = findings(tmp_path, changes)[name]
    assert found.state == state
    assert said in f'{found.text} {found.advice}'


def test_a_middleware_that_is_not_installed(tmp_path):
    found = {key: value for key, value in ALL.items() if key != 'rmw'}
    machine = fake_machine(
        tmp_path, probes={'doctor.ros_probe': {**found, 'rmw_error': 'no rmw_zenoh_cpp'}},
        environ={'ROS_DISTRO': 'jazzy', 'RMW_IMPLEMENTATION': 'rmw_zenoh_cpp'})
    line = {line.name: line for line in check_ros(machine)}['middleware']
    assert (line.state, 'no rmw_zenoh_cpp' in line.text) == ('wrong', True)
    assert 'unset RMW_IMPLEMENTATION (rmw_zenoh_cpp)' in line.advice


@pytest.mark.parametrize(('problem', 'distro', 'files', 'state', 'advice'), [
    ('not found', '', (), 'look', 'docs.ros.org'),
    ('not found', '', {'opt/ros/humble/setup.bash': ''}, 'look',
     'source /opt/ros/humble/setup.bash'),
    ('not found', 'humble', (), 'wrong', '--system-site-packages'),
    ('needs rclpy._rclpy_pybind11', 'humble', (), 'wrong', 'another Python')])
def test_without_rclpy(tmp_path, problem, distro, files, state, advice):
    found = findings(tmp_path, {'rclpy': problem}, distro, files)
    assert list(found) == ['ROS']
    assert found['ROS'].state == state
    assert problem in found['ROS'].text
    assert advice in found['ROS'].advice


@pytest.mark.parametrize(('output', 'said'), [
    (Output(None, ''), 'no answer within'), (Output(-11, ''), 'SIGSEGV')])
def test_a_probe_that_says_nothing(tmp_path, output, said):
    found = findings(tmp_path, output)
    assert list(found) == ['ROS']
    assert said in found['ROS'].text


def test_a_library_that_ends_the_process_is_named(tmp_path):
    found = findings(tmp_path, Output(-11, '{"rclpy": ""}'))
    assert (found['ROS'].state, found['interfaces'].state) == ('ok', 'wrong')
    assert 'SIGSEGV' in found['interfaces'].text


def test_what_is_here():
    found = {line.name: line for line in check_ros(Machine())}
    if find_spec('rclpy') is None:
        assert list(found) == ['ROS'] and found['ROS'].state != 'ok'
        return
    assert found['ROS'].state == 'ok'
    assert (found['interfaces'].state == 'ok') == (find_spec('voxtral_ros.msg') is not None)
    assert 'rmw_' in found['middleware'].text


def test_the_two_packages_of_one_name(tmp_path, monkeypatch):
    for name, message in (('a', 'AudioStamped'), ('b', 'AudioDataStamped')):
        package = tmp_path / name / 'audio_common_msgs'
        (package / 'msg').mkdir(parents=True)
        (package / '__init__.py').touch()
        (package / 'msg' / '__init__.py').write_text(f'class {message}: pass\n')
        monkeypatch.setenv('PYTHONPATH', str(tmp_path / name))
        probe = Machine().probe('doctor.ros_probe', timeout_s=60)
        assert probe.found['audio_kind'] == {'a': 'mgonzs13', 'b': 'ros-drivers'}[name]


def test_a_package_that_does_not_load_is_not_missing(tmp_path, monkeypatch):
    package = tmp_path / 'hri_msgs'
    package.mkdir()
    (package / '__init__.py').touch()
    (package / 'msg.py').write_text('import hri_msgs_s__rosidl_typesupport_c\n')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    probe = Machine().probe('doctor.ros_probe', timeout_s=60)
    assert probe.found['hri_msgs.msg'] == 'needs hri_msgs_s__rosidl_typesupport_c'
