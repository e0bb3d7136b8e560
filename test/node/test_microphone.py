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

"""The node at a microphone: a real capture device, without hardware."""

from pathlib import Path
import tempfile

from audio.virtual_microphone import missing, VirtualMicrophone
from node.driver import ACTIVATE, CONFIGURE, driven
import pytest

from voxtral_ros.node.health import ERROR, OK

ORDERS = Path(__file__).resolve().parents[1] / 'data' / 'orders.flac'
pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or '')


@pytest.fixture
def ear():
    # Not tmp_path: a Unix socket's path has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix='ear') as folder, \
            VirtualMicrophone(Path(folder)) as virtual:
        yield virtual


def test_words_come_out_also_after_it_was_unplugged_and_plugged_in_again(tmp_path, ear):
    with driven(tmp_path, environment=ear.environment, source='microphone',
                microphone='Robot_Ear', frame_id='head') as driver:
        assert driver.change(CONFIGURE)
        assert driver.change(ACTIVATE)
        driver.wait(lambda: driver.diagnosed(OK, 'listening to the microphone'))
        player = ear.play(ORDERS)
        driver.wait(lambda: driver.finals)
        player.kill()
        player.wait()
        assert driver.finals[0].text.startswith('robot go to the kitchen')
        assert driver.finals[0].header.frame_id == 'head'
        ear.stop()
        driver.wait(lambda: driver.diagnosed(ERROR, 'trying again in'))
        assert driver.state == 'active'
        ear.start()
        driver.wait(lambda: driver.diagnosed(OK, 'listening') or driver.diagnosed(
            b'\x01', 'jumps'))
        published = len(driver.finals)
        player = ear.play(ORDERS)
        driver.wait(lambda: len(driver.finals) > published)
        player.kill()
        player.wait()
        assert 'kitchen' in ' '.join(final.text for final in driver.finals[published:])


def test_a_name_that_no_microphone_has_fails_activation_with_the_list(tmp_path, ear):
    with driven(tmp_path, environment=ear.environment, source='microphone',
                microphone='no such thing') as driver:
        assert driver.change(CONFIGURE)
        assert not driver.change(ACTIVATE)
        assert driver.state == 'inactive'
        driver.wait(lambda: driver.diagnosed(
            ERROR, "no input device has 'no such thing' in its name"))
        assert 'robot_ear' in driver.diagnostics[-1].message


def test_a_node_that_started_itself_waits_for_a_microphone_that_comes_later(tmp_path):
    with tempfile.TemporaryDirectory(prefix='ear') as folder:
        ear = VirtualMicrophone(Path(folder))
        with driven(tmp_path, environment=ear.environment, source='microphone',
                    microphone='Robot_Ear', autostart='true') as driver:
            try:
                driver.wait(lambda: driver.diagnosed(ERROR, 'starting again in'))
                assert driver.state == 'inactive'
                ear.start()
                driver.wait(lambda: driver.diagnosed(OK, 'listening to the microphone'))
                player = ear.play(ORDERS)
                driver.wait(lambda: driver.finals)
                player.kill()
                player.wait()
                assert 'kitchen' in driver.finals[0].text
                assert driver.log.count("'Robot_Ear' in its name") == 1  # not at every attempt
            finally:
                ear.stop()


def test_who_has_changed_the_state_is_not_overruled(tmp_path, ear):
    with driven(tmp_path, environment=ear.environment, source='microphone',
                microphone='no such thing', autostart='true') as driver:
        driver.wait(lambda: driver.diagnosed(ERROR, 'starting again in'))
        assert not driver.change(ACTIVATE)
        driver.wait(lambda: driver.diagnostics[-1].message.startswith('activate failed')
                    and 'starting again' not in driver.diagnostics[-1].message)
