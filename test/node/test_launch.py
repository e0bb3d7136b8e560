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

ORDERS = Path(__file__).resolve().parents[1] / 'data' / 'orders.flac'
pytestmark = pytest.mark.skipif(
    find_spec('launch_ros') is None or shutil.which('ros2') is None,
    reason='launch_ros and ros2launch are not installed here')


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
            ['bash', '-c', f'{setup}exec ros2 launch voxtral_ros asr.launch.py "$@"', 'launch',
             *arguments], stdout=log.open('w'), stderr=subprocess.STDOUT, start_new_session=True)
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
    'VOXTRAL_OVERLAYS' not in os.environ, reason='the overlays are built by `make setup`')
def test_another_topic_brings_its_audio_info_along(launched):
    driver = launched('audio_topic:=/input/audio', overlay='ros_drivers')
    driver.wait(lambda: 'listening to topic /input/audio' in driver.log)
    driver.wait(lambda: driver.client.count_subscribers('/input/audio') == 1)
    driver.wait(lambda: driver.client.count_subscribers('/input/audio_info') == 1)
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
