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

"""Names of files are bytes: those that are not UTF-8 are shown escaped, and used as they are."""

import json
import os
from pathlib import Path
import shutil
import subprocess
import sys

import pytest
from support.slow import slow_but

from voxtral_ros.cli.main import main

DATA = Path(__file__).resolve().parents[1] / 'data'
SPOKEN = DATA / 'go_forward_ten_meters.flac'
NAME = os.fsdecode(b'caf\xe9.flac')


@pytest.fixture
def named(tmp_path):
    """Return a folder with a recording whose name is not UTF-8."""
    shutil.copy(SPOKEN, tmp_path / NAME)
    return tmp_path


def voxtral(folder, *arguments, **environment):
    """Run a command as from a shell, its output as bytes."""
    return subprocess.run([sys.executable, '-m', 'voxtral_ros', *arguments], capture_output=True,
                          cwd=folder, env={**os.environ, 'OMP_NUM_THREADS': '1', **environment})


def test_all_files_are_transcribed(named):
    run = voxtral(named, 'transcribe', '--device', 'cpu', NAME, SPOKEN)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.decode().splitlines()
    assert rb'caf\xe9.flac:'.decode() == lines[0]
    assert lines[1] == lines[3] != ''


def test_json_has_the_very_name(named):
    run = voxtral(named, 'transcribe', '--device', 'cpu', '--json', NAME)
    result = json.loads(run.stdout.decode())
    assert os.fsencode(result['file']) == os.fsencode(NAME)
    assert result['text']


@pytest.mark.parametrize('encoding', slow_but('ascii', of=['ascii', 'latin-1']))
def test_json_is_json_whatever_the_terminal_takes(named, encoding):
    shutil.copy(SPOKEN, named / '\u4e2d\U0001f600.flac')
    run = voxtral(named, 'transcribe', '--device', 'cpu', '--json', '\u4e2d\U0001f600.flac',
                  PYTHONIOENCODING=encoding)
    assert json.loads(run.stdout.decode(encoding))['file'] == '\u4e2d\U0001f600.flac'


@pytest.mark.parametrize('command', [
    ('transcribe', NAME), ('transcribe', '--model', NAME, str(SPOKEN)), ('serve', '--model', NAME),
    ('serve', '--test', NAME), ('verify', NAME), ('evaluate', '--manifest', NAME),
    ('bench', '--model', NAME), ('quantize', '--model-dir', NAME, '--output-dir', 'x')])
def test_what_is_not_there_is_named_escaped(tmp_path, monkeypatch, capfdbinary, command):
    monkeypatch.chdir(tmp_path)
    if command[0] == 'quantize':
        pytest.importorskip('torch')
    assert main(command) == 2
    assert rb'caf\xe9.flac' in capfdbinary.readouterr().err


def test_tables_of_recordings(named, monkeypatch, capfdbinary):
    monkeypatch.chdir(named)
    Path('table.tsv').write_bytes(b'file\ttext\n' + os.fsencode(NAME) + b'\tgo forward\n')
    assert main(['evaluate', '--device', 'cpu', '--manifest', 'table.tsv', '--texts',
                 'texts.tsv']) == 0
    assert Path('texts.tsv').read_bytes().splitlines()[1].startswith(b'caf\xe9.flac\tgo forward')
    Path('table.tsv').write_bytes(b'file\ttext\nnone-' + os.fsencode(NAME) + b'\tgo forward\n')
    assert main(['evaluate', '--device', 'cpu', '--manifest', 'table.tsv']) == 2
    assert rb'none-caf\xe9.flac: no such file' in capfdbinary.readouterr().err
