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

"""The node on a CPU imports no PyTorch, whether it is installed or not."""

import os
import signal

from node.driver import driven
from node.orders import first_orders
import pytest
from support.without_torch import BLOCKED, NONE_IMPORTED, WATCHED

pytestmark = pytest.mark.skipif(
    'VOXTRAL_OVERLAYS' not in os.environ, reason='the overlays are built by `make test`')


@pytest.mark.parametrize('prelude', [WATCHED, BLOCKED + WATCHED],
                         ids=['installed', 'not installed'])
def test_it_transcribes_without_torch(tmp_path, prelude):
    file = first_orders(tmp_path, 1)
    with driven(tmp_path, prelude=prelude, source='file', file=file, autostart='true') as driver:
        driver.wait(lambda: driver.finals)
        assert driver.state == 'active'
        assert driver.finals[0].text.startswith('robot go to the kitchen')
        assert driver.end(signal.SIGTERM)[0] == 0
        assert NONE_IMPORTED in driver.log


def test_a_gpu_that_needs_torch_is_refused(tmp_path):
    with driven(tmp_path, prelude=BLOCKED, device='cuda', autostart='true') as driver:
        driver.wait(lambda: 'pip install voxtral_ros[torch]' in driver.log)
        driver.wait(lambda: driver.state == 'unconfigured')
        assert 'Traceback' not in driver.log
