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

"""Trying out a GPU, with drivers and libraries that are made up where there is no GPU."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from voxtral_ros.backends.cuda.memory import plan_memory
from voxtral_ros.backends.cuda.probe import _plan
from voxtral_ros.backends.gpu import n_gpus
from voxtral_ros.model.checkpoint import open_weights
from voxtral_ros.resources import demo_model

needs_cc = pytest.mark.skipif(not shutil.which('cc'), reason='no C compiler: apt install gcc')
DRIVER = """
#include <string.h>
int cuDriverGetVersion(int *v) {*v = 12060; return 0;}
int cuInit(int flags) {return INIT;}
int cuDeviceGetCount(int *n) {*n = 2; return 0;}
int cuDeviceGet(int *device, int number) {*device = number; return 0;}
int cuDeviceGetName(char *name, int size, int device) {strncpy(name, "Orin", size); return 0;}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 13 ? 1020000 : attribute == 16 ? 8 : attribute == 18 ? 1
         : attribute == 75 ? 8 : attribute == 76 ? 7 : -1;
  return 0;
}
"""
TORCH = """
__version__ = '2.8.0'
class version: cuda = '12.6'
float16 = 'float16'
class Numbers:
    def __rmul__(self, other): return self
    def __matmul__(self, other): return self
    def __getitem__(self, index): return 64.0
    def sum(self): return 4032
class cuda:
    is_available = staticmethod(lambda: True)
    get_arch_list = staticmethod(lambda: ['sm_80'])
def arange(n, device): return Numbers()
def ones(*shape, device, dtype): return Numbers()
"""
NO_KERNEL = 'CUDA error: no kernel image is available for execution on the device'


def probe(folder, torch=None, driver=DRIVER, init=0, arguments=()):
    """Run the probe with another driver and torch; return what it prints, and its exit code."""
    folder.mkdir(exist_ok=True)
    if driver:
        subprocess.run(['cc', '-shared', '-fPIC', f'-DINIT={init}', '-x', 'c', '-', '-o',
                        folder / 'libcuda.so.1'], input=driver, text=True, check=True)
    environment = {**os.environ, 'LD_LIBRARY_PATH': str(folder), 'PYTHONUNBUFFERED': ''}
    if torch is not None:
        (folder / 'torch.py').write_text(torch)
        environment['PYTHONPATH'] = f'{folder}:{os.environ.get("PYTHONPATH", "")}'
    done = subprocess.run([sys.executable, '-m', 'voxtral_ros.backends.cuda.probe', *arguments],
                          env=environment, capture_output=True, text=True, check=False)
    found = {}
    for line in done.stdout.splitlines():
        found.update(json.loads(line))
    return found, done.returncode


@pytest.mark.skipif(n_gpus() > 0, reason='there is a GPU')
def test_without_a_driver(tmp_path):
    assert probe(tmp_path, driver='') == ({'gpus': []}, 0)


@needs_cc
def test_what_a_driver_tells(tmp_path):
    found, code = probe(tmp_path, torch='raise OSError("libcublas.so.12: no such file\\nmore")')
    assert code == 0
    assert found == {
        'driver_cuda': '12.6', 'has_torch': True, 'torch_error': 'libcublas.so.12: no such file',
        'gpus': 2 * [{'name': 'Orin', 'architecture': 87, 'integrated': True, 'n_sms': 8,
                      'clock': 1020000000}]}


@needs_cc
def test_a_driver_that_does_not_start(tmp_path):
    assert probe(tmp_path, init=999) == ({'gpus': [], 'driver_error': 'CUDA error 999'}, 0)


@needs_cc
def test_a_driver_that_is_none(tmp_path):
    found, code = probe(tmp_path, driver='int other(void) {return 0;}')
    assert (found['gpus'], code) == ([], 0)
    assert 'cuDriverGetVersion' in found['driver_error']


@needs_cc
@pytest.mark.parametrize(('change', 'expected'), [
    (('is_available = staticmethod(lambda: True)', 'is_available = staticmethod(lambda: False)'),
     {'visible': False}),
    (('return 4032', f'raise RuntimeError("{NO_KERNEL}\\n\\nadvice")'),
     {'computes': False, 'compute_error': NO_KERNEL}),
    (('return 4032', 'return 0'),
     {'computes': False,
      'compute_error': 'twice the numbers below 64 do not add up to 4032'}),
    (('return 64.0', 'raise RuntimeError("CUBLAS_STATUS_ARCH_MISMATCH")'),
     {'computes': False, 'compute_error': 'CUBLAS_STATUS_ARCH_MISMATCH'}),
    (('return 4032', 'import os; os.abort()'), {'torch_architectures': ['sm_80']})],
    ids=['not seen', 'no kernel image', 'wrong numbers', 'cuBLAS', 'ends the process'])
def test_torch_is_tried_out(tmp_path, change, expected):
    torch = TORCH.replace(*change)
    assert torch != TORCH
    found, _ = probe(tmp_path, torch)
    assert found.items() >= expected.items()
    assert 'kernels' not in found and 'library' not in found
    assert ('computes' in found) == ('computes' in expected)


GB = 10 ** 9


@pytest.mark.parametrize(('kv_cache', 'total', 'bits'), [
    ('16', 1 * GB, 16), ('8', 24 * GB, 8), ('auto', 24 * GB, 16), ('auto', 1 * GB, 8)])
def test_the_plan_is_that_of_the_engine(monkeypatch, capsys, kv_cache, total, bits):
    torch = pytest.importorskip('torch')
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda: (GB // 2, total))
    _plan(demo_model(), 64, kv_cache, has_kernels=True)
    found = json.loads(capsys.readouterr().out)
    assert (found['cache_bits'], found['free'], found['total']) == (bits, GB // 2, total)
    with open_weights(demo_model(), 64) as (config, weights):
        plan = plan_memory(config, weights, torch.bfloat16, 1, 8, found['packed'], bits == 8)
    assert (found['plan'], found['plan_bytes']) == (str(plan), plan.total)


@needs_cc
def test_what_fails_after_a_computation_is_said(tmp_path):
    """This torch computes, and has nothing else that our modules import."""
    found, code = probe(tmp_path, TORCH, arguments=[tmp_path / 'none', '0', 'auto'])
    assert (found['computes'], found['kernels'], code) == (True, False, 0)
    assert found['kernels_error'] and found['plan_error']


@pytest.mark.skipif(n_gpus() == 0, reason='no GPU: needs one, and a torch for it')
def test_this_gpu():
    command = [sys.executable, '-m', 'voxtral_ros.backends.cuda.probe', demo_model(), '128', '8']
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = {}
    for line in done.stdout.splitlines():
        found.update(json.loads(line))
    assert found['computes'] and found['gpus'][0]['n_sms'] > 0
    assert found['plan_bytes'] > 0 and found['cache_bits'] == 8
    assert found['free'] <= found['total']
    if found['library']:
        assert found['kernels'] and 87 in found['library_architectures']
