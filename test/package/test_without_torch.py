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

"""On a CPU nothing imports PyTorch, whether it is installed or not; what needs it says so."""

import json
import os
from pathlib import Path
import shutil
import subprocess
import sys

import pytest
from support.without_torch import BLOCKED, NONE_IMPORTED, WATCHED

from voxtral_ros.resources import demo_model

DATA = Path(__file__).resolve().parents[1] / 'data'
FORWARD = DATA / 'go_forward_ten_meters.flac'
ON_A_CPU = {
    'transcribe': (['transcribe', FORWARD], 'go forward ten meters'),
    'serve': (['serve', '--test', FORWARD], 'go forward ten meters'),
    'evaluate': (['evaluate', '--manifest', DATA / 'manifest.tsv', '--only', 'go_'],
                 'word error rate 0.0 %'),
    'verify': (['verify', demo_model()], 'as their checksums say'),
    'bench': (['bench', '--repeats', '2', '--context', '20'], 'compiled for the CPU'),
}
IN_NEED = {
    'quantize': ['quantize', '--model-dir', demo_model(), '--output-dir', 'out'],
    'cuda': ['transcribe', '--device', 'cuda', FORWARD],
    'another GPU': ['serve', '--device', 'cuda:1', '--test', FORWARD],
    'bfloat16': ['transcribe', '--dtype', 'bfloat16', FORWARD],
}


def voxtral(prelude, *arguments, **options):
    """Run a command in a process that begins with the prelude."""
    code = f'{prelude}\nfrom voxtral_ros.cli.main import main\nsys.exit(main(sys.argv[1:]))'
    return subprocess.run([sys.executable, '-c', code, *map(str, arguments)],
                          capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize('installed', [True, False], ids=['installed', 'not installed'])
@pytest.mark.parametrize('command', ON_A_CPU)
def test_a_cpu_needs_no_torch(command, installed):
    arguments, printed = ON_A_CPU[command]
    done = voxtral(WATCHED if installed else BLOCKED + WATCHED, *arguments)
    assert done.returncode == 0, done.stderr
    assert printed in done.stdout
    assert done.stdout.endswith(NONE_IMPORTED + '\n')


def test_the_ids_are_the_same():
    pytest.importorskip('torch')
    found = [json.loads(voxtral(prelude, 'transcribe', '--json', FORWARD).stdout)
             for prelude in (BLOCKED, 'import torch, sys')]
    assert found[0]['token_ids'] == found[1]['token_ids']


@pytest.mark.parametrize('name', IN_NEED)
def test_what_needs_torch_says_so_in_one_line(tmp_path, name):
    done = voxtral(BLOCKED, *IN_NEED[name], cwd=tmp_path)
    assert done.returncode == 2
    line, = done.stderr.splitlines()
    assert line.startswith('voxtral ')
    assert 'needs PyTorch, which is not installed: pip install voxtral_ros[torch]' in line


def test_without_a_compiled_network_it_says_what_would_help():
    environment = {**os.environ, 'VOXTRAL_CPU_KERNELS': 'off'}
    done = voxtral(BLOCKED, 'transcribe', FORWARD, env=environment)
    assert done.returncode == 2
    line, = done.stderr.splitlines()
    assert '(VOXTRAL_CPU_KERNELS is off)' in line
    assert 'pip install voxtral_ros[torch]' in line


@pytest.mark.skipif(not shutil.which('cc'), reason='no C compiler: apt install gcc')
@pytest.mark.parametrize(('driver', 'n_gpus'), [
    ('int cuInit(int f) {return 0;} int cuDeviceGetCount(int *n) {*n = 2; return 0;}', 2),
    ('int cuInit(int f) {return 0;} int cuDeviceGetCount(int *n) {*n = 0; return 0;}', 0),
    ('int cuInit(int f) {return 100;} int cuDeviceGetCount(int *n) {*n = 7; return 3;}', 0),
    ('int cuInit(int f) {return 0;} int cuDeviceGetCount(int *n) {*n = 7; return 3;}', 0),
    ('int other(void) {return 0;}', 0)],
    ids=['two', 'hidden', 'no device', 'not initialised', 'no such functions'])
def test_a_gpu_without_torch_gives_a_warning_and_the_cpu(tmp_path, driver, n_gpus):
    subprocess.run(['cc', '-shared', '-fPIC', '-x', 'c', '-', '-o', tmp_path / 'libcuda.so.1'],
                   input=driver, text=True, check=True)
    done = voxtral(BLOCKED, 'serve', '--test', FORWARD,
                   env={**os.environ, 'LD_LIBRARY_PATH': str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert done.stdout == 'go forward ten meters\n'
    warnings = [line for line in done.stderr.splitlines() if 'WARNING' in line]
    assert len(warnings) == bool(n_gpus)
    assert all('there is a GPU, but the CPU is used: a GPU needs PyTorch' in line
               for line in warnings)
