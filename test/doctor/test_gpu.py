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

"""What is said of a GPU by what a probe has found out, and what the probe finds out here."""

import pytest
from support.machine import fake_machine, gpu_probe, orin

from voxtral_ros.doctor import gpu
from voxtral_ros.doctor.gpu import check_gpu, check_nvcc, covers, probe_gpu
from voxtral_ros.doctor.machine import Machine, Output, Probe

H200 = [{'name': 'NVIDIA H200', 'architecture': 90, 'integrated': False, 'n_sms': 132,
         'clock': 1980000000}]
RTX_3090 = [{**H200[0], 'name': 'NVIDIA GeForce RTX 3090', 'architecture': 86}]
NO_KERNEL = 'CUDA error: no kernel image is available for execution on the device'


def findings(machine, **changes):
    return {found.name: found for found in check_gpu(machine, gpu_probe(**changes))}


def test_an_orin_on_which_all_is_well(tmp_path):
    found = findings(orin(tmp_path))
    assert [(line.name, line.state) for line in found.values()] \
        == [('GPU', 'ok'), ('torch', 'ok'), ('kernels', 'ok')]
    assert found['GPU'].text == 'Orin, SM87, driver for CUDA 12.6'
    assert found['torch'].text == '2.8.0, CUDA 12.6, code for sm_87; it computes'
    assert 'code for SM87; they compute' in found['kernels'].text


@pytest.mark.parametrize(('archs', 'architecture', 'expected'), [
    (['sm_87'], 87, True),
    (['sm_80', 'sm_90'], 87, False),
    (['sm_80', 'compute_80'], 87, True),
    (['sm_90', 'compute_90'], 87, False),
    (['sm_90', 'compute_90'], 120, True),
    (['sm_110', 'sm_121'], 87, False),
    (['sm_90a'], 90, True),
    (['sm_90', 'sm_120', 'compute_120'], 121, True),
    (['gfx90a'], 90, False),
    ([], 87, False)])
def test_lists_of_architectures(archs, architecture, expected):
    assert covers(archs, architecture) == expected


@pytest.mark.parametrize(('changes', 'state', 'said'), [
    ({'torch_architectures': ['sm_110', 'sm_121'], 'computes': False,
      'compute_error': NO_KERNEL}, 'wrong',
     f'code for sm_110, sm_121; computing fails: {NO_KERNEL}'),
    # What the list says is one thing, what a computation does is another.
    ({'torch_architectures': ['sm_87'], 'computes': False, 'compute_error': NO_KERNEL},
     'wrong', NO_KERNEL),
    ({'torch_architectures': ['sm_80', 'sm_90']}, 'look',
     'it computes, but has no code for sm_87'),
    ({'torch_architectures': ['sm_80', 'compute_80']}, 'ok', 'it computes'),
    ({'torch_architectures': [], 'torch_cuda': None, 'visible': False, 'computes': None}, 'wrong',
     '2.8.0, without CUDA; it does not see the GPU'),
    ({'torch_architectures': [], 'torch_cuda': '13.0', 'visible': False, 'computes': None},
     'wrong', 'CUDA 13.0; it does not see the GPU'),
    ({'has_torch': False, 'torch': None}, 'wrong', 'needs PyTorch, which is not installed'),
    ({'torch': None, 'torch_error': 'libcudnn.so.9: cannot open shared object file'}, 'wrong',
     'cannot be imported: libcudnn.so.9'),
    # The process has ended in what came next.
    ({'has_torch': None, 'error': 'no answer within 60 s'}, 'wrong', 'no answer within 60 s'),
    ({'torch': None, 'error': 'the process was ended by SIGILL'}, 'wrong', 'SIGILL'),
    ({'computes': None, 'error': 'no answer within 60 s'}, 'wrong',
     'computing fails: no answer within 60 s')])
def test_torch(tmp_path, changes, state, said):
    found = findings(orin(tmp_path), **changes)['torch']
    assert found.state == state
    assert said in found.text
    assert bool(found.advice) == (state != 'ok')


def test_without_a_computation_nothing_is_said_of_the_kernels(tmp_path):
    assert 'kernels' not in findings(orin(tmp_path), computes=False, compute_error=NO_KERNEL)


@pytest.mark.parametrize(('release', 'advice'), [
    ('R36 (release), REVISION: 4.3', 'https://pypi.jetson-ai-lab.io/jp6/cu126'),
    ('R39 (release), REVISION: 2.1', 'docs/jetson.md')])
def test_where_torch_comes_from(tmp_path, release, advice):
    machine = orin(tmp_path, files={'etc/nv_tegra_release': f'# {release}, GCID: 1\n'})
    assert advice in findings(machine, has_torch=False)['torch'].advice


def test_on_a_pc_the_cpu_can_do_without_torch(tmp_path):
    found = findings(fake_machine(tmp_path), gpus=H200, has_torch=False)['torch']
    assert (found.state, 'pytorch.org' in found.advice) == ('look', True)


def test_a_gpu_that_is_too_old_for_our_kernels(tmp_path):
    found = findings(fake_machine(tmp_path), gpus=RTX_3090, torch_architectures=['sm_86'])
    assert (found['GPU'].state, found['torch'].state) == ('look', 'ok')
    assert 'kernels' not in found


def test_several_gpus(tmp_path):
    found = findings(fake_machine(tmp_path), gpus=2 * H200, torch_architectures=['sm_90'])
    assert found['GPU'].text.endswith(', and 1 more')


@pytest.mark.parametrize(('changes', 'state', 'said'), [
    ({'library': '', 'kernels': None}, 'look', 'the first start'),
    ({'kernels': False, 'kernels_error': 'voxtral_advance: no kernel image is available'},
     'wrong', 'no kernel image is available'),
    ({'kernels': False, 'library': None, 'library_architectures': None,
      'kernels_error': 'VOXTRAL_KERNELS is x, but there is no such file'}, 'wrong', 'is x, but'),
    ({'kernels': None, 'error': 'the process was ended by SIGSEGV'}, 'wrong', 'SIGSEGV'),
    ({'library_architectures': []}, 'ok', 'they compute')])
def test_kernels(tmp_path, monkeypatch, changes, state, said):
    monkeypatch.setattr(gpu, 'find_nvcc', lambda: tmp_path)
    found = findings(orin(tmp_path), **changes)['kernels']
    assert found.state == state
    assert said in found.text
    assert ('voxtral build-kernels' in found.advice) == (state != 'ok')


def test_kernels_without_machine_code_for_this_gpu(tmp_path):
    found = findings(fake_machine(tmp_path), gpus=H200, torch_architectures=['sm_90'])['kernels']
    assert (found.state, 'SM90 runs' in found.text) == ('look', True)


def test_kernels_that_nothing_can_compile(tmp_path, monkeypatch):
    monkeypatch.setenv('CUDA_HOME', str(tmp_path))
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.setattr('voxtral_ros.backends.cuda.build._USUAL_NVCC', tmp_path / 'none')
    found = findings(orin(tmp_path), library='', kernels=None)['kernels']
    assert (found.state, 'no nvcc' in found.text) == ('wrong', True)
    assert check_nvcc(orin(tmp_path), gpu_probe()).state == 'look'
    assert 'nvidia-jetpack' in check_nvcc(orin(tmp_path), gpu_probe()).advice
    assert check_nvcc(fake_machine(tmp_path), Probe({'gpus': []}, '')).state == 'ok'


@pytest.mark.parametrize('probe', [
    Probe({'gpus': []}, ''), Probe({'gpus': [], 'driver_error': 'CUDA error 999'}, ''),
    Probe({}, 'no answer within 60 s')])
def test_a_jetson_without_a_gpu_is_wrong_and_a_pc_is_not(tmp_path, probe):
    found, = check_gpu(orin(tmp_path / 'orin'), probe)
    assert (found.name, found.state, '--runtime nvidia' in found.advice) == ('GPU', 'wrong', True)
    problem = probe.found.get('driver_error', probe.error)
    assert problem in found.text
    found, = check_gpu(fake_machine(tmp_path / 'pc'), probe)
    assert (found.state, problem in found.text) == ('look' if problem else 'ok', True)


def nvcc(tmp_path, monkeypatch, output, **changes):
    path = tmp_path / 'bin' / 'nvcc'
    path.parent.mkdir()
    path.touch()
    monkeypatch.setenv('CUDA_HOME', str(tmp_path))
    return check_nvcc(orin(tmp_path, commands={f'{path} --version': output}), gpu_probe(**changes))


SAID = 'nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 12.6, V12.6.68\n'


@pytest.mark.parametrize(('output', 'driver', 'state', 'said'), [
    (SAID, '12.6', 'ok', 'CUDA 12.6, '),
    (SAID, '13.0', 'ok', 'CUDA 12.6, '),
    (SAID.replace('12.6', '12.9'), '12.6', 'ok', 'CUDA 12.9, '),
    (SAID.replace('12.6', '13.0'), '12.6', 'look', 'but the driver is for CUDA 12.6'),
    (Output(1, '', 'cannot execute binary file'), '12.6', 'look', 'cannot execute binary file'),
    (Output(None, ''), '12.6', 'look', 'does not show its version'),
    (None, '12.6', 'look', 'cannot be started')])
def test_nvcc(tmp_path, monkeypatch, output, driver, state, said):
    found = nvcc(tmp_path, monkeypatch, output, driver_cuda=driver)
    assert found.state == state
    assert said in found.text
    assert bool(found.advice) == (state != 'ok')


def test_the_probe_gets_the_model_and_the_window(tmp_path):
    asked = []

    def execute(command, timeout_s):
        asked.append(list(command[1:]))
        return Output(0, '{"gpus": []}')

    assert probe_gpu(Machine(execute=execute), '/some/model', '2048', '8').found == {'gpus': []}
    assert asked == [['-m', 'voxtral_ros.backends.cuda.probe', '/some/model', '2048', '8']]
