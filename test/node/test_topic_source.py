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

"""What publishers offer, send and leave behind, on the topics of a node without its model."""

import os
from pathlib import Path
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    'VOXTRAL_OVERLAYS' not in os.environ, reason='the overlays are built by `make test`')


@pytest.mark.parametrize('name', [
    'info_that_comes_late', 'no_info_at_all', 'reliability_is_followed', 'overrides_are_kept',
    'info_goes_with_its_publisher', 'info_of_somebody_else_stays', 'two_publishers',
    'info_of_another_type', 'halves_of_samples',
    'looks_around_often_only_while_something_is_missing'])
def test_scenario(name):
    script = Path(__file__).with_name('topic_scenarios.py')
    setup = f'source {os.environ["VOXTRAL_OVERLAYS"]}/ros_drivers/install/local_setup.bash'
    done = subprocess.run(
        ['bash', '-c', f'{setup}; exec "$@"', 'scenario', sys.executable, str(script), name],
        capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
