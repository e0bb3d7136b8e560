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

"""What a machine lacks is installed if that asks nothing, else one line names all of it."""

from pathlib import Path
import runpy
import shutil
import subprocess
import sys

import pytest

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
SCRIPT = TOOLS / 'check_system.py'


@pytest.fixture
def check(monkeypatch):
    """Return a function that runs the check with changed globals and returns its exit code."""
    def run(*arguments, **changes):
        module = runpy.run_path(str(SCRIPT))
        monkeypatch.setattr(sys, 'argv', [str(SCRIPT), *arguments])
        module['main'].__globals__.update(changes)
        return module['main']()
    return run


@pytest.fixture
def machine(tmp_path):
    """Return a function that gives a PATH with fake programs: name -> what it does, in shell."""
    def make(**programs):
        folder = tmp_path / 'bin'
        folder.mkdir()
        for name in ('bash', 'env', 'true'):
            (folder / name).symlink_to(shutil.which(name))
        for name, does in programs.items():
            program = folder / name.replace('_', '-')
            program.write_text(f'#!{shutil.which("bash")}\n{does}\n')
            program.chmod(0o755)
        return {'PATH': str(folder), 'LOG': str(tmp_path / 'log')}
    return make


USER, ROOT = 'echo 1000', 'echo 0'
NOTHING = 'exit 1'
LOGS = '[[ " $* " == *" update "* ]] || echo "$DEBIAN_FRONTEND $*" >> "$LOG"'
RUNS = 'shift; exec "$@"'


def run(environment, *command):
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    log = Path(environment['LOG'])
    return result, log.read_text(encoding='utf-8') if log.exists() else ''


def test_complete_machine_passes_silently(check, capsys):
    assert check() == 0
    assert capsys.readouterr() == ('', '')


@pytest.mark.parametrize('range_', [((3, 0), (3, 1)), ((3, 98), (3, 99))])
def test_unsupported_python_gets_one_line(check, capsys, range_):
    assert check(OLDEST=range_[0], NEWEST=range_[1]) == 1
    message = capsys.readouterr().err
    assert message.count('\n') == 1
    assert 'PYTHON=' in message


@pytest.mark.parametrize('name', ['riscv64', 'armv7l', 'i686'])
@pytest.mark.parametrize('ros', ['wheels', 'sourced', 'none'])
def test_other_machines_get_one_line(check, capsys, monkeypatch, name, ros):
    monkeypatch.setattr('platform.machine', lambda: name)
    assert check('--ros', ros) == 1
    message = capsys.readouterr().err
    assert message.count('\n') == 1
    assert name in message


def test_a_32_bit_python_on_a_64_bit_machine_gets_one_line(check, capsys, monkeypatch):
    monkeypatch.setattr(sys, 'maxsize', 2 ** 31 - 1)
    assert check() == 1
    assert '64-bit' in capsys.readouterr().err


@pytest.mark.parametrize('change', [
    ('platform.machine', lambda: 'aarch64'), ('platform.libc_ver', lambda: ('', '')),
    ('sys.platform', 'darwin')], ids=lambda change: change[0])
def test_without_wheels_ros_is_sourced_or_done_without(check, capsys, monkeypatch, change):
    monkeypatch.setattr(*change)
    assert check('--ros', 'wheels') == 1
    message = capsys.readouterr().err
    assert message.count('\n') == 1
    assert 'source' in message
    assert 'ROS=none' in message
    assert check('--ros', 'none') == 0
    assert capsys.readouterr() == ('', '')


def test_what_is_missing_is_one_line_for_who_may_not_install(machine):
    environment = machine(id=USER, sudo=NOTHING, dpkg_query=NOTHING, apt_get=LOGS)
    result, log = run(environment, sys.executable, SCRIPT)
    assert result.returncode == 1
    assert log == ''
    assert result.stderr.count('\n') == 1
    assert {'g++', 'cmake'} <= set(result.stderr.split('apt-get install')[1].split())


@pytest.mark.parametrize('user', [ROOT, USER])
def test_what_is_missing_is_installed_without_a_question(machine, user):
    environment = machine(id=user, sudo=RUNS, dpkg_query=NOTHING, apt_get=LOGS)
    result, log = run(environment, sys.executable, SCRIPT, '--ros', 'none')
    assert result.returncode == 0, result.stderr
    assert log.startswith('noninteractive ')
    assert log.split('--no-install-recommends')[1].split() == ['g++']


def test_a_failure_of_apt_is_an_error(machine):
    environment = machine(id=ROOT, dpkg_query=NOTHING, apt_get='echo no archive >&2; exit 100')
    result, _ = run(environment, TOOLS / 'apt_install.sh', 'cmake')
    assert result.returncode == 1
    assert 'no archive' in result.stderr
    assert 'cmake' in result.stderr.splitlines()[-1]


def test_only_what_is_not_there_is_named(machine):
    environment = machine(
        id=USER, sudo=NOTHING, apt_get=LOGS,
        dpkg_query='[[ "$*" != *cmake* ]] && echo -n installed')
    result, _ = run(environment, TOOLS / 'apt_install.sh', 'g++', 'cmake')
    assert result.stderr.split('apt-get install')[1].split() == ['cmake']
    assert run(environment, TOOLS / 'apt_install.sh', 'g++')[0].returncode == 0


def test_without_apt_the_packages_are_named(machine):
    result, _ = run(machine(), TOOLS / 'apt_install.sh', 'g++')
    assert result.returncode == 1
    assert result.stderr.count('\n') == 1
    assert 'g++' in result.stderr


def test_sourced_ros_needs_colcon_and_none_needs_no_cmake(monkeypatch):
    which = shutil.which
    monkeypatch.setattr(
        shutil, 'which', lambda name: None if name in ('colcon', 'cmake') else which(name))
    missing_packages = runpy.run_path(str(SCRIPT))['missing_packages']
    assert missing_packages('sourced') == ['cmake', 'python3-colcon-common-extensions']
    assert missing_packages('wheels') == ['cmake']
    assert missing_packages('none') == []
