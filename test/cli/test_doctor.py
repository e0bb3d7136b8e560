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

"""`voxtral doctor`: a line a check, what to do, and an exit code."""

import io
import json
import os
import subprocess
import sys

import pytest
from support.machine import fake_machine, orin, ORIN_GPU
from support.without_torch import BLOCKED

from voxtral_ros.cli.main import main
from voxtral_ros.doctor import machine as module
from voxtral_ros.model.checkpoint import WEIGHTS
from voxtral_ros.resources import demo_model

KEYS = {'name', 'state', 'text', 'advice'}


class Terminal(io.StringIO):
    """A standard output that somebody looks at."""

    def isatty(self):
        return True


@pytest.fixture
def on(monkeypatch):
    """Return a function that lets the command see another machine."""
    return lambda machine: monkeypatch.setattr(module, 'Machine', lambda: machine)


def voxtral(*arguments, prelude='import sys', **options):
    code = f'{prelude}\nfrom voxtral_ros.cli.main import main\nsys.exit(main(sys.argv[1:]))'
    return subprocess.run([sys.executable, '-c', code, *map(str, arguments)],
                          capture_output=True, text=True, check=False, **options)


def test_here_in_a_process_of_its_own():
    done = voxtral('doctor')
    lines = done.stdout.splitlines()
    assert {line.split()[0] for line in lines} <= {'ok', 'look', 'wrong', '->'}
    assert any(line.startswith('ok     checksums') for line in lines)
    assert done.returncode == any(line.startswith('wrong') for line in lines)
    assert done.stderr == ''
    assert '\033' not in done.stdout


def test_as_json(tmp_path, capsys, on):
    on(fake_machine(tmp_path))
    code = main(['doctor', '--json', '--no-verify'])
    found = json.loads(capsys.readouterr().out)
    assert found['model'] == str(demo_model())
    assert all(set(line) == KEYS for line in found['findings'])
    assert found['wrong'] == sum(line['state'] == 'wrong' for line in found['findings'])
    assert code == min(found['wrong'], 1)
    texts = {line['name']: line['text'] for line in found['findings']}
    assert texts['checksums'] == 'not compared'


def test_the_exit_code_tells_what_is_wrong(tmp_path, capsys, on):
    on(fake_machine(tmp_path))
    assert main(['doctor', '--no-verify']) == 0
    assert 'something wrong' not in capsys.readouterr().out
    assert main(['doctor', '--model', str(tmp_path / 'none')]) == 1
    shown = capsys.readouterr().out
    assert 'wrong  model' in shown
    assert shown.splitlines()[-1].startswith('1 of ')


def test_what_to_do_stands_below(tmp_path, capsys, on):
    gpu = {**ORIN_GPU, 'computes': False, 'compute_error': 'no kernel image'}
    on(orin(tmp_path, commands={'nvpmodel -q': 'NV Power Mode: 25W\n1\n'},
            probes={'backends.cuda.probe': gpu}))
    assert main(['doctor', '--no-verify']) == 1
    lines = capsys.readouterr().out.splitlines()
    line = next(n for n, line in enumerate(lines) if line.startswith('look   power mode'))
    assert lines[line + 1].strip() == '-> sudo nvpmodel -m 2'
    assert any(line.startswith('wrong  torch') for line in lines)


def test_a_terminal_has_colours(tmp_path, monkeypatch, on):
    on(fake_machine(tmp_path))
    shown = Terminal()
    monkeypatch.setattr(sys, 'stdout', shown)
    main(['doctor', '--no-verify'])
    assert '\033[32mok   \033[0m  machine' in shown.getvalue()


def test_damage_is_found_unless_it_is_not_looked_for(tmp_path, capsys, on):
    on(fake_machine(tmp_path))
    folder = tmp_path / 'model'
    folder.mkdir()
    for path in demo_model().iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-2] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    assert main(['doctor', '--model', str(folder)]) == 1
    assert 'is damaged' in capsys.readouterr().out
    assert main(['doctor', '--model', str(folder), '--no-verify']) == 0


@pytest.mark.parametrize('prelude', [BLOCKED, 'import sys'], ids=['without torch', 'with torch'])
def test_neither_ros_nor_torch_is_needed(prelude):
    """No module of ROS is loaded into the process, nor torch, whether it is there or not."""
    watch = ('import atexit, sys\natexit.register(lambda: print("loaded:", sorted('
             '{"rclpy", "torch", "sounddevice"} & {*sys.modules})))\n')
    environment = {key: value for key, value in os.environ.items()
                   if key not in ('AMENT_PREFIX_PATH', 'ROS_DISTRO')}
    done = voxtral('doctor', '--no-verify', prelude=watch + prelude, env=environment)
    assert done.returncode in (0, 1), done.stderr
    assert 'Traceback' not in done.stderr
    assert done.stdout.endswith('loaded: []\n')
    assert 'CPU backend' in done.stdout
