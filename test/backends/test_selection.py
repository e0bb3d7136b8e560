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

"""Which backend runs: compiled where it can be, PyTorch elsewhere, and the log says so."""

import difflib
import logging
import math
import os
from pathlib import Path
import subprocess

import pytest
import torch

from voxtral_ros.backends import selection
from voxtral_ros.backends.cpu import build as cpu_build
from voxtral_ros.backends.cpu import library as cpu
from voxtral_ros.backends.cpu.backend import CpuBackend
from voxtral_ros.backends.cpu.memory import weight_bytes
from voxtral_ros.backends.cuda.build import BuildError
from voxtral_ros.backends.cuda.memory import plan_memory
from voxtral_ros.backends.eager import EagerBackend
from voxtral_ros.model.checkpoint import open_weights, WEIGHTS
from voxtral_ros.model.config import ModelConfig
from voxtral_ros.model.tokenizer import Tokenizer
from voxtral_ros.quantization.tensorfile import TensorFile
from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.recognizer.events import Transcript
from voxtral_ros.resources import demo_model

soundfile = pytest.importorskip('soundfile')
ORDERS = Path(__file__).parents[1] / 'data' / 'orders.flac'


@pytest.fixture
def fresh(monkeypatch, caplog):
    """Forget the library that is loaded, before and after."""
    monkeypatch.delenv('VOXTRAL_CPU_KERNELS', raising=False)
    caplog.set_level(logging.INFO)
    for function in (cpu.load, cpu.available):
        function.cache_clear()
    yield monkeypatch
    for function in (cpu.load, cpu.available):
        function.cache_clear()


def transcript(engine, samples):
    stream = engine.open(480)
    stream.feed(samples)
    events = [*stream.poll(), *stream.close()]
    return [(event.text, event.is_final) for event in events if isinstance(event, Transcript)]


def test_the_demo_model_transcribes_the_same_either_way(fresh, caplog):
    samples = soundfile.read(ORDERS, dtype='float32')[0][:8 * 16000]
    compiled = Engine.load(demo_model(), 'cpu')
    assert isinstance(compiled.backend, CpuBackend)
    assert compiled.backend._model.decoder.layers[0].query.bits == 4
    assert 'backend: compiled for the CPU' in caplog.text
    cpu.load.cache_clear()
    cpu.available.cache_clear()
    fresh.setenv('VOXTRAL_CPU_KERNELS', 'off')
    plain = Engine.load(demo_model(), 'cpu')
    assert isinstance(plain.backend, EagerBackend)
    assert 'backend: PyTorch, operation by operation, KV cache in 32 bits, on cpu' in caplog.text
    assert 'VOXTRAL_CPU_KERNELS is off' in caplog.text
    found = transcript(compiled, samples)
    assert found == transcript(plain, samples)
    assert len(' '.join(text for text, is_final in found if is_final).split()) > 10


def test_other_types_run_in_pytorch():
    assert isinstance(Engine.load(demo_model(), 'cpu', 'bfloat16').backend, EagerBackend)


@pytest.mark.parametrize('dtype', [None, 'bfloat16'])
def test_a_checkpoint_is_opened_and_read_once(monkeypatch, dtype):
    """Whichever backend it is for."""
    opened, read = [], []

    class Counted(TensorFile):

        def _read_header(self):
            opened.append(self.path)
            return super()._read_header()

        def _pread(self, raw, offset):
            read.append(len(raw))
            super()._pread(raw, offset)

    monkeypatch.setattr('voxtral_ros.model.layout.TensorFile', Counted)
    Engine.load(demo_model(), 'cpu', dtype)
    with TensorFile(demo_model() / WEIGHTS) as file:
        assert sum(read) == sum(spec.nbytes for spec in file.specs.values())
    assert opened == [demo_model() / WEIGHTS]


@pytest.mark.parametrize(('dtype', 'wide'), [(None, 16), ('bfloat16', 16)])
def test_a_kv_cache_in_int8_has_half_the_size(dtype, wide):
    sizes = {}
    for kv_cache in ('16', '8'):
        backend = Engine.load(demo_model(), 'cpu', dtype, kv_cache=kv_cache).backend
        sizes[backend.cache_bits] = backend.cache_bytes
    assert sizes.keys() == {wide, 8}
    assert sizes[wide] / 2 < sizes[8] < 1.1 * sizes[wide] / 2


@pytest.mark.parametrize(('more', 'bits'), [(1, 16), (-1, 8)])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_the_kv_cache_is_in_int8_where_memory_is_short(monkeypatch, dtype, more, bits):
    """Where weights and KV caches would take more than half of it."""
    with open_weights(demo_model()) as (_, file):
        weights = weight_bytes(file) if dtype == 'float32' else 2 * sum(
            math.prod(stored.shape) for stored in file.stored.values())
    caches = 3 * ModelConfig.load(demo_model()).kv_cache_bytes(32, 16)
    monkeypatch.setattr(os, 'sysconf', lambda name: {
        'SC_PAGE_SIZE': 1, 'SC_PHYS_PAGES': 2 * (weights + caches) + more}[name])
    engine = Engine.load(demo_model(), 'cpu', dtype, max_streams=3)
    assert engine.backend.cache_bits == bits


@pytest.mark.parametrize('kernels', [False, True])
@pytest.mark.parametrize(('kv_cache', 'more', 'int8'), [
    ('auto', 1, False), ('auto', -1, True), ('16', -1, False), ('8', 1, True)])
def test_a_gpu_keeps_int8_where_its_memory_is_short(monkeypatch, kernels, kv_cache, more, int8):
    """The GPU is played by the CPU."""
    folder, made = demo_model(), []
    with open_weights(folder) as (config, weights):
        plan = plan_memory(config, weights, torch.bfloat16, 1, 8, kernels)
        memory = 2 * plan.total + more
        monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda _: (memory, memory))
        monkeypatch.setattr('voxtral_ros.backends.cuda.library.available', lambda _: kernels)
        monkeypatch.setattr('voxtral_ros.backends.cuda.backend.CudaBackend',
                            lambda *_, int8_cache: made.append(int8_cache))
        tokenizer = Tokenizer.load(folder, config.vocab_size)
        backend = selection._on_gpu(
            config, weights, 'cpu', 'bfloat16', tokenizer, 1, 8, kv_cache)
    assert made == ([int8] if kernels else [])
    assert kernels or backend.cache_bits == (8 if int8 else 16)


def test_kv_caches_of_other_widths_are_refused():
    with pytest.raises(ValueError, match="kv_cache '4' is not auto, 16 or 8"):
        Engine.load(demo_model(), 'cpu', kv_cache='4')


def test_what_a_model_writes_with_a_kv_cache_in_int8():
    samples = soundfile.read(ORDERS, dtype='float32')[0][:8 * 16000]
    texts = [transcript(Engine.load(demo_model(), 'cpu', kv_cache=kv_cache), samples)[-1][0]
             for kv_cache in ('16', '8')]
    same = difflib.SequenceMatcher(None, *(text.split() for text in texts)).ratio()
    assert same > 0.9
    assert len(texts[1].split()) > 3


@pytest.mark.parametrize(('sees', 'found', 'said'), [
    (True, 'cuda:0', None), (False, 'cpu', 'this torch does not see it')])
def test_auto_is_a_gpu_that_torch_can_use(monkeypatch, caplog, sees, found, said):
    monkeypatch.setattr(selection, 'n_gpus', lambda: 1)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: sees)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 0)
    assert selection.find_device('auto') == found
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == (said is not None)
    assert not warnings or said in warnings[0]


@pytest.mark.parametrize('name', ['gpu', 'cuda:', 'cuda:x', 'cuda:-1', 'CPU', 'cpu:0', '', 'mps'])
def test_what_is_no_device_is_refused(name):
    with pytest.raises(ValueError, match='is not auto, cpu, cuda or cuda:N'):
        selection.find_device(name)


def test_without_a_compiler_there_is_one_warning_and_the_network_of_pytorch(
        fresh, caplog, tmp_path):
    fresh.setenv('XDG_CACHE_HOME', str(tmp_path))
    fresh.setenv('PATH', str(tmp_path))
    fresh.delenv('CXX', raising=False)
    fresh.setattr(cpu, 'installed', lambda name: None)
    for _ in range(2):
        assert isinstance(Engine.load(demo_model(), 'cpu').backend, EagerBackend)
    warnings = [record for record in caplog.records if record.levelname == 'WARNING']
    assert len(warnings) == 1
    assert 'apt install g++' in warnings[0].getMessage()


def test_without_a_place_for_the_library_the_network_of_pytorch_runs(fresh, caplog, tmp_path):
    (tmp_path / 'file').touch()
    fresh.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    fresh.setattr(cpu, 'installed', lambda name: None)
    assert not cpu.available()
    assert 'cannot be compiled' in caplog.text


def test_the_installed_library_needs_no_compiler(fresh, tmp_path):
    library = cpu_build.build()
    fresh.setenv('XDG_CACHE_HOME', str(tmp_path))
    fresh.setenv('PATH', str(tmp_path))
    fresh.setattr(cpu, 'installed', lambda name: library)
    assert cpu.available()


def test_a_library_of_another_version_is_refused(fresh, tmp_path):
    library = tmp_path / 'lib.so'
    functions = ('instructions', 'use', 'threads', 'workspace', 'decode', 'prefill', 'sizes')
    whole = ''.join(f'long voxtral_cpu_{name}() {{return 7;}}' for name in functions)
    for source, message in (('int other() {return 0;}', 'cannot be used'),
                            (f'extern "C" {{{whole}}}', 'another version'),
                            (None, 'no such file')):
        library.unlink(missing_ok=True)
        if source:
            subprocess.run([cpu_build.find_compiler(), '-shared', '-fPIC', '-x', 'c++', '-', '-o',
                            library], input=source, text=True, check=True)
        fresh.setenv('VOXTRAL_CPU_KERNELS', str(library))
        with pytest.raises(BuildError, match=message):
            cpu.load()
        library = tmp_path / f'{message}.so'


def test_the_message_of_the_compiler_is_passed_on(fresh, tmp_path):
    fresh.setenv('XDG_CACHE_HOME', str(tmp_path))
    compiler = tmp_path / 'broken'
    compiler.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exit\necho no such instruction\nexit 1\n')
    compiler.chmod(0o755)
    fresh.setenv('CXX', str(compiler))
    with pytest.raises(BuildError, match='no such instruction'):
        cpu_build.build()
    assert cpu_build.cached() is None
    fresh.setenv('CXX', 'no-such-compiler')
    with pytest.raises(BuildError, match='CXX is no-such-compiler'):
        cpu_build.build()


def test_the_command_builds_for_the_cpu_without_cuda(fresh, capsys, tmp_path):
    from voxtral_ros.backends.cuda import build
    from voxtral_ros.cli.main import main
    fresh.setattr(build, 'find_nvcc', _no_nvcc)
    fresh.setattr(build, 'native_architecture', lambda: None)
    assert main(['build-kernels']) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].endswith(cpu_build.LIBRARY)
    assert 'no nvcc' in out[1]
    assert main(['build-kernels', '--arch', '90']) == 1
    assert 'no nvcc' in capsys.readouterr().err
    fresh.setattr(build, 'native_architecture', lambda: 90)
    assert main(['build-kernels']) == 1


def _no_nvcc():
    raise BuildError('no nvcc')


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 1)
    monkeypatch.setattr(selection, 'n_gpus', lambda: 2)
    assert selection.find_device('cuda:0') == 'cuda:0'
    assert selection.find_device('cuda') == selection.find_device('auto') == 'cuda:1'
    with pytest.raises(ValueError, match='there is no cuda:7: this machine has 2 CUDA GPUs'):
        selection.find_device('cuda:7')


def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 0)
    monkeypatch.setattr(selection, 'n_gpus', lambda: 2)


@pytest.mark.parametrize(('names', 'devices'), [
    ('auto', ['cuda:0']), ('all', ['cuda:0', 'cuda:1']), ('cuda:1,cuda:0', ['cuda:1', 'cuda:0']),
    ('cuda, cpu', ['cuda:0', 'cpu']), ('cpu,cpu,cpu', ['cpu'] * 3)])
def test_several_devices(monkeypatch, names, devices):
    two_gpus(monkeypatch)
    assert selection.find_devices(names) == devices


@pytest.mark.parametrize(('names', 'said'), [
    ('cuda:0,cuda:2', 'there is no cuda:2: this machine has 2'),
    ('cuda,cuda:1,cuda:0', 'cuda:0 is named twice'), ('cuda:1,cuda:1', 'cuda:1 is named twice'),
    ('cpu,', "device '' is not"), ('all,cpu', "device 'all' is not")])
def test_devices_that_cannot_be_had_together(monkeypatch, names, said):
    two_gpus(monkeypatch)
    with pytest.raises(ValueError, match=said):
        selection.find_devices(names)


def test_without_a_gpu_there_are_not_all_of_them(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(ValueError, match='sees no CUDA GPU'):
        selection.find_devices('all')
