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

"""Fifty times through the lifecycle: neither memory nor threads grow."""

from pathlib import Path

from node.driver import ACTIVATE, CLEANUP, CONFIGURE, DEACTIVATE, driven
import pytest
from support import checkpoints

ORDERS = Path(__file__).resolve().parents[1] / 'data' / 'orders.flac'


@pytest.mark.slow
def test_fifty_rounds(tmp_path, monkeypatch):
    # So that what is measured is in use, and not what the allocator keeps for new threads or
    # behind what is still needed.
    monkeypatch.setenv('MALLOC_ARENA_MAX', '1')
    monkeypatch.setenv('MALLOC_MMAP_THRESHOLD_', '262144')
    params = checkpoints.tiny_params()
    model = tmp_path / 'model'
    model.mkdir()
    checkpoints.write_checkpoint(
        model, params, checkpoints.random_tensors(params, seed=0), checkpoints.tiny_tekken())
    with driven(tmp_path, source='file', file=ORDERS, model=model) as driver:
        usages = []
        for _ in range(50):
            for transition in (CONFIGURE, ACTIVATE, DEACTIVATE, CLEANUP):
                assert driver.change(transition), driver.log
            usages.append(driver.usage)
        # The first rounds fill caches and the arenas of the allocator.
        assert usages[-1][1] == usages[4][1]
        grown_mb = (usages[-1][0] - usages[9][0]) / 1024
        assert grown_mb < 4, [kilobytes for kilobytes, _ in usages]
