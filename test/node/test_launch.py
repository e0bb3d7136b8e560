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

"""The launch file, where launch_ros and ros2launch are installed."""

from importlib.util import find_spec
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess

from lifecycle_msgs.srv import GetState
from node.driver import Driver
import pytest
import rclpy
from rclpy.node import Node
from support.processes import ends_with_us
from voxtral_ros.node.parameter_table import TABLE

ROOT = Path(__file__).resolve().parents[2]
ORDERS = ROOT / 'test' / 'data' / 'orders.flac'
FILE = str(ROOT / 'launch' / 'asr.launch.py')
pytestmark = pytest.mark.skipif(
    find_spec('launch_ros') is None or shutil.which('ros2') is None,
    reason='no ros2 launch: `ros2 without apt` in docs/ros.md has how to build it')


# ---- what the node would be started with ----

class Started:
    """The nodes that a launch description would start, instead of starting them."""

    def __init__(self, monkeypatch):
        from launch.actions import LogInfo
        from launch.utilities import perform_substitutions
        from launch_ros.actions import LifecycleNode
        self.commands, self.names, self.log = [], [], ''

        def take(node, context):
            node._perform_substitutions(context)
            namespace, _, name = node.node_name.rpartition('/')
            context.extend_locals({'ros_specific_arguments': {
                'ns': f'__ns:={namespace or "/"}', 'name': f'__node:={name}'}})
            self.commands.append([perform_substitutions(context, word) for word in node.cmd])
            self.names.append(node.node_name)

        def note(action, context):
            self.log += perform_substitutions(context, action.msg)

        monkeypatch.setattr(LifecycleNode, 'execute', take)
        monkeypatch.setattr(LogInfo, 'execute', note)

    def run(self, *entities):
        """Visit what launch would, in its way; return self."""
        from launch import LaunchContext, LaunchDescription
        from launch.utilities import visit_all_entities_and_collect_futures
        visit_all_entities_and_collect_futures(LaunchDescription(entities), LaunchContext())
        return self

    @property
    def parameters(self):
        """Return what ROS itself makes of the command of the last node."""
        context = rclpy.Context()
        rclpy.init(args=self.commands[-1][1:], context=context)
        try:
            node = Node('anybody', context=context)
            assert node.get_fully_qualified_name() == self.names[-1]
            given = {key: value.value for key, value in node._parameter_overrides.items()}
            node.destroy_node()
        finally:
            rclpy.shutdown(context=context)
        return given


@pytest.fixture
def started(monkeypatch):
    return Started(monkeypatch)


def include(**arguments):
    """Include the launch file as `ros2 launch` and other launch files do."""
    from launch.actions import IncludeLaunchDescription
    from launch.launch_description_sources import PythonLaunchDescriptionSource
    return IncludeLaunchDescription(PythonLaunchDescriptionSource(FILE), launch_arguments=[
        (name.replace('__', '.'), value) for name, value in arguments.items()])


def set_by_the_parent(**configurations):
    from launch.actions import SetLaunchConfiguration
    return [SetLaunchConfiguration(name, value) for name, value in configurations.items()]


@pytest.fixture(params=['/asr', '/**', '/*'])
def params_file(request, tmp_path):
    """Return a file that says the opposite of what launch says, for names of many kinds."""
    file = tmp_path / 'mine.yaml'
    file.write_text(f'{request.param}:\n  ros__parameters:\n    use_sim_time: true\n'
                    '    autostart: false\n    delay_ms: 560\n    endpoint.silence_s: 2.0\n')
    return str(file)


def test_the_node_starts_itself_where_nobody_says_otherwise(started):
    assert started.run(include()).parameters == {'autostart': True}


def test_what_the_file_says_is_not_overridden(started, params_file):
    assert started.run(include(params_file=params_file)).parameters == {
        'use_sim_time': True, 'autostart': False, 'delay_ms': 560, 'endpoint.silence_s': 2.0}


def test_what_is_given_overrides_the_file(started, params_file):
    given = include(params_file=params_file, use_sim_time='false', autostart='true',
                    delay_ms='240', endpoint__silence_s='1')
    assert started.run(given).parameters == {
        'use_sim_time': False, 'autostart': True, 'delay_ms': 240, 'endpoint.silence_s': 1.0}


def test_what_a_parent_sets_for_all_its_nodes_is_not_overridden(started):
    from launch_ros.actions import SetParameter
    parent = [SetParameter('use_sim_time', True), SetParameter('autostart', False),
              SetParameter('source', 'file')]
    assert started.run(*parent, include()).parameters == {
        'use_sim_time': True, 'autostart': False, 'source': 'file'}
    assert started.run(*parent, include(source='microphone')).parameters['source'] == 'microphone'


def test_every_parameter_can_be_given(started):
    given = {row.name: 'true' if isinstance(row.default, bool) else str(row.default)
             for row in TABLE}
    given |= {'model': '2602', 'microphone': '2', 'file': '1.5', 'frame_id': 'yes',
              'capture.folder': '7', 'hri_voice': 'on', 'engine.model': '3.10',
              'engine.token_file': '007', 'engine.ca_file': 'null',
              'engine.url': 'ws://host:8000/v1/realtime',
              'phrases.list': "['living room']", 'wake.phrases': "['hey robot']"}
    parameters = started.run(include(**given)).parameters
    assert parameters.keys() == given.keys() - {'dtype', 'phrases.file'}  # empty: as not given
    for row in TABLE[1:]:
        if row.name in parameters:
            assert type(parameters[row.name]) is type(row.default), row.name
            assert str(parameters[row.name]).lower() == given[row.name].lower()


@pytest.mark.parametrize(('text', 'meant'), [
    ("['living room', 'Kowalski :2.5']", ['living room', 'Kowalski :2.5']), ('[]', ['']),
    ('living room', ['living room']), ('[2, yes, R2]', ['2', 'yes', 'R2'])])
def test_a_list_can_be_given(started, text, meant):
    assert started.run(include(phrases__list=text)).parameters['phrases.list'] == meant


def test_policies_of_the_audio_topic_can_be_given(started):
    names = [f'qos_overrides./audio.subscription.{name}' for name in ('reliability', 'depth')]
    given = dict(zip(names, ('reliable', '50'), strict=True))
    parameters = started.run(include(**given)).parameters
    assert [parameters[name] for name in names] == ['reliable', 50]


@pytest.mark.parametrize(('arguments', 'words'), [
    ({'micrphone': '2'}, 'no argument micrphone: did you mean microphone'),
    ({'zebra': '2'}, 'no argument zebra'),
    ({'params_file': 'nowhere/mine.yaml'}, 'nowhere/mine.yaml, but there is no file /'),
    ({'delay_ms': '500'}, "delay_ms is '500', expected one of 80"),
    ({'channel': 'left'}, "channel is 'left', expected a whole number from -2 to 63"),
    ({'respawn': 'often'}, "respawn is 'often', expected true or false"),
    ({'log_level': 'loud'}, 'log_level is')])
def test_what_cannot_be_is_one_error(started, arguments, words):
    with pytest.raises(RuntimeError, match=re.escape(words)):
        started.run(include(**arguments))
    assert started.commands == []


# What other launch files of robots have arguments for.
ROBOT = {'model': 'tiago', 'device': '/dev/ttyUSB0', 'source': 'lidar', 'file': 'map.pgm',
         'namespace': 'arm', 'params_file': 'nav2_params.yaml', 'use_sim_time': 'true',
         'autostart': 'false', 'log_level': 'verbose', 'respawn': '3', 'zebra': '1'}


def test_configurations_of_other_launch_files_are_not_taken_over(started):
    started.run(*set_by_the_parent(**ROBOT), include(delay_ms='240'))
    assert started.parameters == {'autostart': True, 'delay_ms': 240}
    assert started.names == ['/asr']
    assert '--log-level' not in started.commands[-1]
    assert all(name in started.log for name in ROBOT if name != 'zebra')
    assert 'zebra' not in started.log


def test_nor_are_those_of_another_node_of_ours(started):
    started.run(include(node_name='left', channel='0', respawn='true'),
                include(node_name='right', namespace='robot'))
    assert started.names == ['/left', '/robot/right']
    assert started.parameters == {'autostart': True}


def test_a_launch_file_passes_on_what_it_was_given_and_what_it_was_not(started):
    from launch.actions import DeclareLaunchArgument
    from launch.substitutions import LaunchConfiguration
    passed = {name: LaunchConfiguration(name) for name in ('model', 'channel')}
    started.run(*set_by_the_parent(model='/opt/voxtral'), DeclareLaunchArgument('model'),
                DeclareLaunchArgument('channel', default_value=''), include(**passed))
    assert started.parameters == {'autostart': True, 'model': '/opt/voxtral'}


def test_other_launch_files_do_not_get_our_defaults(started):
    from launch.actions import DeclareLaunchArgument, OpaqueFunction
    seen = []
    started.run(include(), DeclareLaunchArgument('model', default_value='tiago'), OpaqueFunction(
        function=lambda context: seen.append(dict(context.launch_configurations))))
    assert seen == [{'model': 'tiago'}]


def test_a_parent_in_xml(started, tmp_path):
    from launch.actions import IncludeLaunchDescription
    from launch.launch_description_sources import AnyLaunchDescriptionSource
    if find_spec('launch_xml') is None:
        pytest.skip('no launch_xml: `ros2 without apt` in docs/ros.md has how to build it')
    parent = tmp_path / 'robot.launch.xml'
    parent.write_text(
        '<launch><arg name="model" default="tiago"/><group>'
        '<push_ros_namespace namespace="robot1"/>'
        f'<include file="{FILE}"><arg name="microphone" value="2"/></include></group></launch>')
    started.run(IncludeLaunchDescription(AnyLaunchDescriptionSource(str(parent))))
    assert started.names == ['/robot1/asr']
    assert started.parameters == {'autostart': True, 'microphone': '2'}


def test_the_arguments_are_listed():
    from launch.launch_description_sources import PythonLaunchDescriptionSource
    description = PythonLaunchDescriptionSource(FILE).try_get_launch_description_without_context()
    listed = {argument.name: argument for argument in description.get_launch_arguments()}
    assert listed.keys() >= {row.name for row in TABLE} | {'params_file', 'namespace', 'node_name'}
    assert all(argument.default_value is not None for argument in listed.values())


# ---- the node, started ----

@pytest.fixture
def launched(tmp_path):
    """Run the launch file with arguments, in an overlay; return a driver of its node."""
    drivers = []
    context = rclpy.Context()
    rclpy.init(context=context)

    def launch(*arguments, overlay=None):
        setup = f'source {os.environ["VOXTRAL_OVERLAYS"]}/{overlay}/install/local_setup.bash; ' \
            if overlay else ''
        log = tmp_path / 'launch.log'
        process = subprocess.Popen(
            [*ends_with_us('INT'), 'bash', '-c',
             f'{setup}exec ros2 launch voxtral_ros asr.launch.py "$@"', 'launch', *arguments],
            stdout=log.open('w'), stderr=subprocess.STDOUT, start_new_session=True)
        drivers.append(Driver(Node('driver', context=context), process, log))
        return drivers[-1]

    yield launch
    for driver in drivers:
        if driver.process.poll() is None:
            os.killpg(driver.process.pid, signal.SIGKILL)
            driver.process.wait()
        driver.close()
    rclpy.shutdown(context=context)


def node_pid(driver):
    """Return the latest process of the node."""
    pids = re.findall(r'process started with pid \[(\d+)\]', driver.log)
    return int(pids[-1]) if pids else 0


def end(driver):
    """Do what Ctrl-C on a terminal does: SIGINT for the whole group; return the exit code."""
    os.killpg(driver.process.pid, signal.SIGINT)
    return driver.process.wait(60)


def test_it_comes_up_active_and_ends_cleanly(launched, tmp_path):
    params = tmp_path / 'mine.yaml'
    params.write_text(f'/**:\n  ros__parameters:\n    file: {ORDERS}\n')
    driver = launched('source:=file', f'params_file:={params}')
    driver.wait(lambda: driver.texts)
    assert driver.texts[0] == 'robot go to the kitchen and bring me the red cup'
    assert driver.state == 'active'
    assert end(driver) == 0
    assert 'process has finished cleanly' in driver.log


def test_without_autostart_it_waits(launched):
    driver = launched('autostart:=false', 'node_name:=input', 'namespace:=robot')
    answer = driver.call(GetState, 'robot/input/get_state', GetState.Request())
    assert answer.current_state.label == 'unconfigured'
    assert end(driver) == 0


@pytest.mark.skipif(
    'VOXTRAL_OVERLAYS' not in os.environ, reason='the overlays are built by `make test`')
def test_another_topic_brings_its_audio_info_along(launched):
    driver = launched('audio_topic:=/input/audio', overlay='ros_drivers')
    driver.wait(lambda: 'listening to topic /input/audio' in driver.log)
    driver.wait(lambda: driver.client.count_subscribers('/input/audio') == 1)
    driver.wait(lambda: driver.client.count_subscribers('/input/audio_info'))
    assert end(driver) == 0


def test_it_comes_back_after_kill(launched, tmp_path):
    params = tmp_path / 'mine.yaml'
    params.write_text(f'/**:\n  ros__parameters:\n    file: {ORDERS}\n')
    driver = launched('source:=file', f'params_file:={params}', 'respawn:=true')
    driver.wait(lambda: driver.texts)
    first = node_pid(driver)
    os.kill(first, signal.SIGKILL)
    driver.wait(lambda: node_pid(driver) != first)
    published = len(driver.texts)
    driver.wait(lambda: len(driver.texts) > published)
    assert driver.texts[published] == 'robot go to the kitchen and bring me the red cup'
    assert end(driver) == 0
