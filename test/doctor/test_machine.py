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

"""Files and commands of the machine that is looked at: nothing is raised, nothing hangs."""

import os
from pathlib import Path
import sys
import time

import pytest
from support.machine import fake_machine

from voxtral_ros.doctor.machine import execute, Machine, Output


def python(code, timeout_s=20.0):
    return execute([sys.executable, '-c', code], timeout_s)


def test_a_command_that_is_not_there():
    assert execute(['no-such-command-anywhere', '-q'], 5.0) is None
    assert execute([os.devnull], 5.0) is None  # not executable


def test_what_a_command_says():
    found = python('import sys; print("out"); print("a\\n\\nlast ", file=sys.stderr); sys.exit(3)')
    assert (found.code, found.out, found.last_error) == (3, 'out\n', 'last')
    assert Output(2, '').last_error == 'exit code 2'


def test_bytes_that_are_no_text():
    assert python('import os; os.write(1, b"a\\xffb")').out == 'a\ufffdb'


@pytest.mark.parametrize('then', [
    '', 'import subprocess, sys; subprocess.Popen([sys.executable, "-c", "input()"]); '
    'subprocess.Popen(["sleep", "600"]); '], ids=['alone', 'with children that hold its output'])
def test_a_command_that_hangs_is_ended(then):
    found = python(f'{then}print("came so far", flush=True); import time; time.sleep(600)', 10.0)
    assert found.code is None
    assert found.out == 'came so far\n'


def test_an_ended_command_leaves_no_child(tmp_path):
    mark = tmp_path / 'pid'
    python(f'import os, subprocess, time; child = subprocess.Popen(["sleep", "600"]); '
           f'open({str(mark)!r}, "w").write(str(child.pid)); time.sleep(600)', 10.0)
    child = Path('/proc', mark.read_text(), 'stat')
    while child.exists() and child.read_text().rpartition(')')[2].split()[0] != 'Z':
        time.sleep(0.01)


def test_a_command_gets_no_input():
    ours, other, end = os.dup(0), *os.pipe()
    try:
        os.dup2(other, 0)  # as a terminal on which nobody types
        assert 'EOFError' in python('input()').err
    finally:
        os.dup2(ours, 0)
        for descriptor in (ours, other, end):
            os.close(descriptor)


def test_our_package_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('PYTHONPATH', raising=False)
    assert python('import voxtral_ros.resources').code == 0


def test_files_that_are_not_there_folders_and_binary_ones(tmp_path):
    machine = fake_machine(tmp_path, {'etc/a': ' text\n\0', 'etc/n': '42\n', 'etc/x': '-4 W\n'})
    (tmp_path / 'etc' / 'b').write_bytes(b'\xff\xfe')
    assert [machine.read(f'/etc/{name}') for name in ('a', 'b', 'none', '')] \
        == ['text', '\ufffd\ufffd', '', '']
    assert [machine.number(f'/etc/{name}') for name in ('n', 'x', 'none')] == [42, None, None]
    assert [path.name for path in machine.glob('/etc/[an]')] == ['a', 'n']


def test_a_file_that_only_root_may_read(tmp_path, monkeypatch):
    machine = fake_machine(tmp_path)

    def refuse(path, mode='r'):
        raise PermissionError if 'debug' in path.parts else FileNotFoundError

    monkeypatch.setattr(Path, 'open', refuse)
    assert machine.read('/debug/clk/rate') == ''
    assert machine.is_forbidden('/debug/clk/rate')
    assert not machine.is_forbidden('/none')


def test_a_probe_that_is_noisy():
    out = 'ALSA lib\n{"a": 1}\n[2]\n{broken\n{"b": "x"}\n'
    probe = Machine(execute=lambda command, s: Output(0, out)).probe('some.module', timeout_s=1)
    assert (probe.found, probe.error) == ({'a': 1, 'b': 'x'}, '')


@pytest.mark.parametrize(('output', 'error'), [
    (Output(None, '{"a": 1}'), 'no answer within 7 s'),
    (Output(-11, '{"a": 1}'), 'the process was ended by SIGSEGV'),
    (Output(-99, '{"a": 1}'), 'the process was ended by signal 99'),
    (Output(1, '{"a": 1}', 'Traceback\nImportError: libcudart.so\n'),
     'ImportError: libcudart.so')])
def test_a_probe_that_ends_early_has_said_something(output, error):
    probe = Machine(execute=lambda command, s: output).probe('some.module', timeout_s=7)
    assert (probe.found, probe.error) == ({'a': 1}, error)


def test_a_python_that_is_gone():
    probe = Machine(execute=lambda command, s: None).probe('some.module', timeout_s=7)
    assert probe.found == {} and 'cannot be started' in probe.error


def test_this_machine():
    machine = Machine()
    assert machine.memory['MemTotal'] > machine.memory['MemAvailable'] > 0
    assert machine.kind
