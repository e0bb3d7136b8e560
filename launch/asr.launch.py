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
"""

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

ARGUMENTS = (
    ('params_file', None, 'YAML file with the parameters of the node'),
    ('namespace', '', 'namespace of the node and its topics'),
    ('node_name', 'asr', 'name of the node'),
    ('autostart', 'true', 'configure and activate the node'),
    ('source', '', 'topic, microphone or file; empty: as params_file says'),
    ('audio_topic', 'audio', 'topic with the audio; audio_info is looked for beside it'),
    ('device', '', 'auto, cpu, cuda or cuda:N; empty: as params_file says'),
    ('model', '', 'folder of the model; empty: as params_file says'),
    ('use_sim_time', 'false', 'take the time from /clock'),
    ('log_level', 'info', 'debug, info, warn, error or fatal'),
    ('respawn', 'false', 'start the node again when it has ended'),
)


def start(context):
    """
    Return the node.

    It starts itself (autostart), not through events of launch: so it also comes up again when it
    is respawned, and stays as it is when somebody takes over its lifecycle.
    """
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    # What is not given on the command line stays as the file has it.
    overrides = {name: given[name] for name in ('source', 'device', 'model') if given[name]}
    audio = given['audio_topic']
    folder, slash, _ = audio.rpartition('/')
    node = LifecycleNode(
        package='voxtral_ros', executable='asr_node', name=given['node_name'],
        namespace=given['namespace'], output='screen', emulate_tty=True,
        respawn=given['respawn'].lower() == 'true', respawn_delay=2.0,
        parameters=[given['params_file'],
                    {**overrides, 'autostart': given['autostart'].lower() == 'true',
                     'use_sim_time': given['use_sim_time'].lower() == 'true'}],
        remappings=[('audio', audio), ('audio_info', f'{folder}{slash}audio_info')],
        arguments=['--ros-args', '--log-level', given['log_level']])
    return [node]


def generate_launch_description():
    """Return the arguments, and the node when they are known."""
    default_file = PathJoinSubstitution([FindPackageShare('voxtral_ros'), 'config', 'asr.yaml'])
    arguments = [
        DeclareLaunchArgument(name, default_value=default_file if default is None else default,
                              description=description)
        for name, default, description in ARGUMENTS]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])
