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

"""Settings of all tests."""

from collections import Counter
from importlib.util import find_spec
import os
import signal

from hypothesis import settings
import pytest

# Without ROS or torch the rest can still be tested; the report says so.
HAS_ROS = find_spec('rclpy') is not None
HAS_TORCH = find_spec('torch') is not None
NO_TORCH = 'no torch: make test TORCH=1'
NO_ROS = 'no ROS 2, README.md has how to get it'
LEFT_OUT = ([] if HAS_ROS else [('node', NO_ROS), ('examples/test_with_ros.py', NO_ROS)]) \
    + ([] if HAS_TORCH else [('server', NO_TORCH)])
collect_ignore_glob = [folder for folder, _ in LEFT_OUT]


def pytest_report_header():
    """Say what is left out."""
    return [f'test/{folder} is left out: {reason}' for folder, reason in LEFT_OUT]


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector):
    """Skip files that need torch where it is not installed."""
    report = (yield).get_result()
    if report.failed and "No module named 'torch'" in str(report.longrepr):
        report.outcome = 'skipped'
        report.longrepr = (str(collector.path), 0, f'Skipped: {NO_TORCH}')


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call():
    """Skip tests that need torch where it is not installed."""
    outcome = yield
    error = outcome.excinfo[1] if outcome.excinfo else None
    if isinstance(error, ModuleNotFoundError) and error.name == 'torch' and not HAS_TORCH:
        outcome.force_exception(pytest.skip.Exception(NO_TORCH))


def pytest_terminal_summary(terminalreporter):
    """Say what was skipped and how to get it, in one line per reason."""
    reports = terminalreporter.getreports('skipped')
    reasons = Counter(report.longrepr[2].removeprefix('Skipped: ') for report in reports)
    if reasons:
        terminalreporter.section('skipped')
    for reason, n in reasons.most_common():
        terminalreporter.line(f'{n:5} {reason}')


# Who ends the tests, as `timeout` does, ends the processes that they have started, too.
signal.signal(signal.SIGTERM, signal.default_int_handler)

# Tiny GEMMs on one thread: a second one costs a factor of 8 on a busy machine.
os.environ['OMP_NUM_THREADS'] = '1'
if HAS_TORCH:
    import torch
    torch.set_num_threads(1)

# No deadline: how long an example takes says more about the machine than about the code.
# The same examples every time; HYPOTHESIS_PROFILE=search looks for others.
settings.register_profile('voxtral_ros', deadline=None, derandomize=True)
settings.register_profile('search', deadline=None)
settings.load_profile(os.environ.get('HYPOTHESIS_PROFILE', 'voxtral_ros'))
