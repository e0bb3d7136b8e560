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

"""What cannot run here is skipped, with how to get it."""

from pathlib import Path
import runpy
from types import SimpleNamespace

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / 'conftest.py'


def collected(error):
    """Return what becomes of the report on a file that could not be collected."""
    report = SimpleNamespace(failed=True, outcome='failed', longrepr=f'E   {error}')
    hook = runpy.run_path(str(CONFTEST))['pytest_make_collect_report'](
        SimpleNamespace(path=Path('test_some.py')))
    next(hook)
    with pytest.raises(StopIteration):
        hook.send(SimpleNamespace(get_result=lambda: report))
    return report


def test_files_that_need_torch_are_skipped_where_there_is_none():
    report = collected("ModuleNotFoundError: No module named 'torch'")
    assert report.outcome == 'skipped'
    assert 'TORCH=1' in report.longrepr[2]


def test_other_errors_stay_errors():
    report = collected("ModuleNotFoundError: No module named 'torchvision'")
    assert report.outcome == 'failed'
