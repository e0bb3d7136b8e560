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

"""The GPU: its architecture against the code that torch and our kernels have, tried out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import re
from typing import Any

from voxtral_ros.backends.cuda.build import BuildError, find_nvcc
from voxtral_ros.backends.gpu import NEEDS_TORCH
from voxtral_ros.doctor.board import read_release
from voxtral_ros.doctor.finding import Finding, look, ok, wrong
from voxtral_ros.doctor.machine import Machine, Probe

OLDEST = 87  # what our kernels are compiled for, and newer
_PATIENCE_S = 60.0  # torch comes slowly from a card
_JETPACK_6 = 36
_INDEX = 'https://pypi.jetson-ai-lab.io/jp6/cu126'
_BUILD = 'voxtral build-kernels'


def probe_gpu(machine: Machine, *model: str) -> Probe:
    """
    Try out the GPU in a process of its own.

    :param model: its folder, the window, and what the KV cache is to be
    """
    return machine.probe('backends.cuda.probe', *model, timeout_s=_PATIENCE_S)


def check_gpu(machine: Machine, probe: Probe) -> Iterator[Finding]:
    """Show what was found out about driver, torch and kernels."""
    found = probe.found
    gpus = found.get('gpus')
    if not gpus:
        yield _no_gpu(machine, probe)
        return
    first = gpus[0]
    text = f'{first["name"]}, SM{first["architecture"]}, driver for CUDA {found["driver_cuda"]}'
    if len(gpus) > 1:
        text += f', and {len(gpus) - 1} more'
    if first['architecture'] < OLDEST:
        yield look('GPU', text, f'our kernels need SM{OLDEST}: PyTorch runs the network without '
                   'them, several times slower')
    else:
        yield ok('GPU', text)
    yield _torch(machine, probe, first['architecture'])
    if found.get('computes') and first['architecture'] >= OLDEST:
        yield _kernels(found, first['architecture'], probe.error)


def _no_gpu(machine: Machine, probe: Probe) -> Finding:
    found = probe.found
    problem = found.get('driver_error') or ('' if 'gpus' in found else probe.error)
    if machine.is_jetson:
        return wrong('GPU', f'a Jetson has one, but it is not seen: {problem or "no driver"}',
                     'in a container, start it with --runtime nvidia; else install the board '
                     'support again: sudo apt install nvidia-jetpack')
    if problem:
        return look('GPU', f'not usable: {problem}', 'look at what nvidia-smi says; without a '
                    'GPU, the CPU is used')
    return ok('GPU', 'none: the CPU is used')


def _torch(machine: Machine, probe: Probe, architecture: int) -> Finding:
    found, name = probe.found, 'torch'
    install = _where_from(machine)
    if 'has_torch' not in found:
        return wrong(name, f'not known: {probe.error}', 'start the machine again')
    if not found['has_torch']:
        finding = wrong if machine.is_jetson else look
        return finding(name, f'a GPU {NEEDS_TORCH.partition(":")[0]}: the CPU is used', install)
    if problem := found.get('torch_error') or ('' if 'torch' in found else probe.error):
        return wrong(name, f'cannot be imported: {problem}', f'install it again: {install}')
    cuda = found.get('torch_cuda')
    text = f'{found["torch"]}, {f"CUDA {cuda}" if cuda else "without CUDA"}'
    if not found['visible']:
        return wrong(name, f'{text}; it does not see the GPU',
                     f'{"it is for another driver" if cuda else "take one with CUDA"}: {install}')
    archs: Sequence[str] = found['torch_architectures']
    text += f', code for {", ".join(archs)}'
    if not found.get('computes'):
        return wrong(name, f'{text}; computing fails: '
                     f'{found.get("compute_error") or probe.error}',
                     f'it needs code for sm_{architecture}: {install}')
    if not covers(archs, architecture):
        return look(name, f'{text}; it computes, but has no code for sm_{architecture}',
                    f'what was not tried may fail: {install}')
    return ok(name, f'{text}; it computes')


def _where_from(machine: Machine) -> str:
    """Return how to get a torch that fits."""
    if not machine.is_jetson:
        return 'pip install torch, with CUDA (pytorch.org has the line for this machine)'
    release = read_release(machine)
    if release and release[0] == _JETPACK_6:
        return f'pip install torch --index-url {_INDEX}, see docs/jetson.md'
    return 'docs/jetson.md says where there is a torch for this JetPack'


def covers(archs: Sequence[str], architecture: int) -> bool:
    """
    Return whether there is machine code for a GPU, or PTX that the driver can translate.

    :param archs: as torch lists them, sm_87 for code and compute_90 for PTX
    """
    for arch in archs:
        match = re.fullmatch(r'(sm|compute)_(\d+)[af]?', arch)
        if match and (int(match[2]) == architecture
                      or (match[1] == 'compute' and int(match[2]) <= architecture)):
            return True
    return False


def _kernels(found: dict[str, Any], architecture: int, error: str) -> Finding:
    name = 'kernels'
    path = found.get('library')
    if path == '':
        try:
            find_nvcc()
        except BuildError as failure:
            return wrong(name, f'not compiled, and {failure}',
                         'without them PyTorch runs the network, several times slower')
        return look(name, 'not compiled yet: the first start takes a minute for it', _BUILD)
    problem = found.get('kernels_error') or ('' if 'kernels' in found else error)
    numbers = found.get('library_architectures')
    text = f'{path}' if path else 'not found'
    if numbers:
        text += ', code for ' + ', '.join(f'SM{number}' for number in numbers)
    if problem:
        return wrong(name, f'{text}: {problem}', f'compile them here: {_BUILD}')
    if numbers and architecture not in numbers:
        return look(name, f'{text}; SM{architecture} runs what the driver makes of it', _BUILD)
    return ok(name, f'{text}; they compute')


def check_nvcc(machine: Machine, probe: Probe) -> Finding:
    """Find CUDA's compiler, which our kernels are compiled with once, and ask for its version."""
    name = 'nvcc'
    try:
        path = find_nvcc()
    except BuildError as error:
        if probe.found.get('gpus'):
            return look(name, 'not found', str(error).partition(': ')[2])
        return ok(name, 'not found, and not needed without a GPU')
    output = machine.run(str(path), '--version')
    version = re.search(r'release (\d+)\.(\d+)', output.out) if output else None
    if version is None:
        return look(name, f'{path} does not show its version: '
                    f'{output.last_error if output else "it cannot be started"}',
                    'install the CUDA toolkit again (on a Jetson, nvidia-jetpack)')
    text = f'CUDA {version[1]}.{version[2]}, {path}'
    driver = probe.found.get('driver_cuda', '')
    if driver and int(driver.partition('.')[0]) < int(version[1]):
        return look(name, f'{text}, but the driver is for CUDA {driver}',
                    f'what it compiles may not load: point CUDA_HOME at a CUDA {driver}')
    return ok(name, text)
