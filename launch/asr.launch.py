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
Start the speech recogniser, configured and active.

    ros2 launch voxtral_ros asr.launch.py
    ros2 launch voxtral_ros asr.launch.py source:=microphone model:=/opt/voxtral
    ros2 launch voxtral_ros asr.launch.py params_file:=mine.yaml endpoint.silence_s:=1.2

Every parameter of the node is a launch argument. What is not given here is as `params_file` has
it, or a SetParameter of the launch file that includes this one, and else the default of the node.
"""

import inspect
import os

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument, IncludeLaunchDescription, LogInfo, OpaqueFunction)
from launch.utilities import normalize_to_list_of_substitutions, perform_substitutions
from launch_ros.actions import LifecycleNode
from voxtral_ros.node.parameter_table import QOS_OVERRIDES, Row, ROWS, suggestion
import yaml

# Arguments that are no parameters of the table.
OTHERS = {row.name: row for row in (
    Row('params_file', '', 'YAML file with the parameters of the node'),
    Row('namespace', '', 'namespace of the node and its topics'),
    Row('node_name', 'asr', 'name of the node'),
    Row('audio_topic', 'audio', 'topic with the audio; audio_info is looked for beside it'),
    Row('use_sim_time', False, 'take the time from /clock'),
    Row('log_level', 'info', 'what is logged, also of one logger alone (asr:=debug)',
        pattern='(.+:=)?(debug|info|warn|error|fatal)', like='debug, info, warn, error or fatal'),
    Row('respawn', False, 'start the node again when it has ended'),
)}
KNOWN = {**OTHERS, **ROWS}


class Argument(DeclareLaunchArgument):
    """
    An argument that `--show-args` lists.

    Its default is no value, so it sets none: a launch configuration would also be seen by whatever
    else the including launch file starts.
    """

    def execute(self, context):
        pass


def arguments_of_this_file(context):
    """
    Return the launch arguments that this file was given, and the names of those that it was not.

    Launch configurations cannot tell: all that the including launch files and their other includes
    have set is among them, such as the `model` of a robot or the `device` of its lidar. What is
    meant for this file stands in the action that includes it, also from the command line. Launch
    visits actions recursively, so that one is further up in the call stack.
    """
    configurations = context.launch_configurations
    frame = inspect.currentframe()
    while frame is not None:
        for action in frame.f_locals.values():
            if isinstance(action, IncludeLaunchDescription) and os.path.realpath(
                    action.launch_description_source.location) == os.path.realpath(__file__):
                names = [perform_substitutions(context, normalize_to_list_of_substitutions(name))
                         for name, _ in action.launch_arguments]
                others = sorted(KNOWN.keys() & configurations.keys() - set(names))
                return {name: configurations[name] for name in names}, others
        frame = frame.f_back
    # Not included at all, but part of a description that somebody composes in Python.
    return {name: configurations[name] for name in KNOWN if name in configurations}, []


def parse(name, text):
    """Return an argument as what it is meant to be; raise RuntimeError when it cannot be."""
    if name.startswith(QOS_OVERRIDES):
        return yaml.safe_load(text)
    if name not in KNOWN:
        hint = suggestion(name, KNOWN) or ': see --show-args'
        raise RuntimeError(f'asr.launch.py has no argument {name}{hint}')
    if isinstance(KNOWN[name].default, list):
        text = yaml.load(text, yaml.BaseLoader)  # of which all values are texts
    try:
        value = KNOWN[name].parse(text)
    except ValueError as error:
        raise RuntimeError(str(error)) from None
    if name == 'params_file' and not os.path.isfile(value):
        raise RuntimeError(
            f'params_file is {value}, but there is no file {os.path.abspath(value)}')
    return [''] if value == [] else value  # an empty list has no type


def start(context):
    """
    Return the node.

    It starts itself (autostart), not through events of launch: so it also comes up again when it
    is respawned, and stays as it is when somebody takes over its lifecycle.
    """
    texts, others = arguments_of_this_file(context)
    # An empty one is passed on by a launch file that was not given it either.
    given = {name: parse(name, text) for name, text in texts.items() if text}
    parameters = {name: value for name, value in given.items()
                  if name not in OTHERS or name == 'use_sim_time'}
    audio = given.get('audio_topic', '')
    folder, slash, _ = audio.rpartition('/')
    node = LifecycleNode(
        package='voxtral_ros', executable='asr_node', name=given.get('node_name', 'asr'),
        namespace=given.get('namespace', ''), output='screen', emulate_tty=True,
        respawn=given.get('respawn', False), respawn_delay=2.0,
        arguments=['--ros-args', '-p', 'autostart:=true'],  # what comes later has precedence
        ros_arguments=['--log-level', given['log_level']] if 'log_level' in given else [],
        parameters=[source for source in (given.get('params_file'), parameters) if source],
        remappings=[('audio', audio), ('audio_info', f'{folder}{slash}audio_info')]
        if audio else [])
    hint = [LogInfo(msg=f'asr.launch.py is not given {", ".join(others)} of the launch files '
                        'around it; what is meant for it belongs into the launch arguments of '
                        'its inclusion')] if others else []
    return [*hint, node]


def argument(row):
    """Return what `--show-args` says of an argument."""
    default = str(row.default).lower() if isinstance(row.default, bool) else str(row.default)
    if row.name == 'autostart':
        default = 'true'
    if row.name in ROWS or row.name == 'use_sim_time':
        default = f'as params_file says, else {default or "empty"}'
    return Argument(row.name, default_value=default,
                    description=f'{row.description} ({row.values})'.removesuffix(' (text)'))


def generate_launch_description():
    """Return the arguments, and the node when they are known."""
    return LaunchDescription([*map(argument, KNOWN.values()), OpaqueFunction(function=start)])
