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

"""What the README shows works in the shell that it speaks of, and in no more than that."""

import os
from pathlib import Path
import subprocess
import sys

import pytest
from support.processes import ends_with_us

SHELL = Path(sys.prefix, 'ros.bash')
pytestmark = pytest.mark.skipif(not SHELL.exists(), reason='the shell is made by `make setup`')
# As somebody has it who has just opened a terminal.
BARE = {name: value for name, value in os.environ.items() if name in (
    'HOME', 'USER', 'LANG', 'ROS_DOMAIN_ID', 'ROS_AUTOMATIC_DISCOVERY_RANGE')} | {
        'PATH': '/usr/local/bin:/usr/bin:/bin'}


def shell(command, **options):
    return subprocess.Popen([*ends_with_us(), 'bash', '-c', f'source {SHELL}; {command}'],
                            env=BARE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            **options)


def test_the_node_listens_to_a_topic_and_ends():
    node = shell('exec asr_node --ros-args -p autostart:=true', start_new_session=True)
    try:
        last = next(line for line in node.stdout if 'listening' in line or 'failed' in line)
        assert 'listening to topic /audio' in last
        node.terminate()
        assert node.wait(30) == 0
    finally:
        node.kill()
        node.wait()


def test_the_command_is_there():
    process = shell('voxtral --version')
    assert process.communicate(timeout=60)[0].strip()
    assert process.returncode == 0


@pytest.mark.skipif(
    'VOXTRAL_OVERLAYS' not in os.environ, reason='the overlays are built by `make test`')
@pytest.mark.parametrize('seed', range(4))
def test_messages_that_are_sourced_afterwards_are_the_ones_that_count(seed):
    """Both packages are called audio_common_msgs: a mixture of them cannot be loaded."""
    code = ('import rclpy; from audio_common_msgs.msg import AudioStamped; rclpy.init(); '
            'node = rclpy.create_node("x"); node.create_subscription(AudioStamped, "a", print, 1)')
    process = shell('source $VOXTRAL_OVERLAYS/mgonzs13/install/local_setup.bash; '
                    f"PYTHONHASHSEED={seed} python -c '{code}'")
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
