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

"""What a stranger sees on a machine that lacks something: one message, before any download."""

from pathlib import Path
import runpy
import shutil
import subprocess
import sys

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / 'tools' / 'check_system.py'


@pytest.fixture
def check(monkeypatch):
    """Return a function that runs the check with changed globals and returns its exit code."""
    def run(**changes):
        module = runpy.run_path(str(SCRIPT))
        monkeypatch.setattr(sys, 'argv', [str(SCRIPT)])
        module['main'].__globals__.update(changes)
        return module['main']()
    return run


def test_complete_machine_passes_silently(check, capsys):
    assert check() == 0
    assert capsys.readouterr() == ('', '')


@pytest.mark.parametrize('range_', [((3, 0), (3, 1)), ((3, 98), (3, 99))])
def test_unsupported_python_gets_one_line(check, capsys, range_):
    assert check(OLDEST=range_[0], NEWEST=range_[1]) == 1
    message = capsys.readouterr().err
    assert message.count('\n') == 1
    assert 'PYTHON=' in message


def test_without_wheels_for_the_processor_ros_has_to_be_sourced(check, capsys, monkeypatch):
    monkeypatch.setattr('platform.machine', lambda: 'aarch64')
    assert check() == 1
    message = capsys.readouterr().err
    assert message.count('\n') == 1
    assert 'aarch64' in message
    assert 'source' in message


def test_missing_compiler_and_cmake_are_one_message(tmp_path):
    (tmp_path / 'python3').symlink_to(sys.executable)
    result = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True,
                            env={'PATH': str(tmp_path)})
    assert result.returncode == 1
    assert result.stderr.count('apt-get install') == 1
    packages = result.stderr.split('apt-get install')[1].split()
    assert 'g++' in packages
    assert 'cmake' in packages


def test_sourced_ros_needs_colcon(check, capsys, monkeypatch):
    which = shutil.which
    monkeypatch.setattr(shutil, 'which', lambda name: None if name == 'colcon' else which(name))
    module = runpy.run_path(str(SCRIPT))
    needed = [package for package, _ in module['missing_packages'](True)]
    assert needed == ['python3-colcon-common-extensions']
    assert module['missing_packages'](False) == []
