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

"""The step on some of a GPU's multiprocessors: where it runs is found out, and what that means."""

from contextlib import contextmanager
import subprocess
from types import SimpleNamespace

from bench.scripts import load
import pytest
from support import checkpoints
import torch

from voxtral_ros.backends.benchmark import PassBytes
from voxtral_ros.backends.cuda.build import BuildError, find_nvcc
from voxtral_ros.backends.cuda.random_weights import RandomWeights
from voxtral_ros.model.config import ModelConfig
from voxtral_ros.quantization.format import Recipe

few_sms = load('few_sms')
WHOLE, CLOCK = 132, 1.75  # of the GPU that is played here: multiprocessors, GHz
SIZES = {
    'dim': 256, 'head_dim': 64, 'hidden_dim': 512, 'n_heads': 4, 'n_kv_heads': 2,
    'vocab_size': 1088, 'encoder.dim': 256, 'encoder.head_dim': 64, 'encoder.hidden_dim': 512,
    'encoder.n_heads': 4, 'encoder.n_kv_heads': 4}


class Stream:
    """A stream with some multiprocessors, of which a few or all blocks see one each."""

    def __init__(self, sms):
        self.sms = sms

    def synchronize(self):
        pass

    def wait_stream(self, other):
        pass


class Gpu:
    """Streams and graphs of torch.cuda, on the CPU: launches run at once, replays do nothing."""

    def __init__(self):
        self.current = self.default = Stream(range(WHOLE))
        self.replayed_on = []

    @contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream
        yield
        self.current = before

    def graph(self, graph, pool, stream, capture_error_mode):
        return self.stream(stream)

    def new_graph(self):
        return SimpleNamespace(replay=lambda: self.replayed_on.append(self.current))

    def probe(self, device):
        sms = [self.current.sms[n % len(self.current.sms)] for n in range(4 * WHOLE)]
        return torch.tensor([[sm, 1 << 20, round((1 << 20) / CLOCK)] for sm in sms])


@pytest.fixture
def gpu(monkeypatch):
    """Let a CUDA backend run on the CPU."""
    gpu = Gpu()
    cuda = SimpleNamespace(
        Stream=lambda device: gpu.default, stream=gpu.stream, graph=gpu.graph,
        CUDAGraph=gpu.new_graph, graph_pool_handle=lambda: None, synchronize=lambda device: None,
        current_stream=lambda device: gpu.current, device=lambda device: gpu.stream(gpu.current),
        get_device_properties=lambda device: SimpleNamespace(multi_processor_count=WHOLE))
    for name, value in vars(cuda).items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.Tensor, 'pin_memory', lambda self: self)
    monkeypatch.setattr(few_sms, 'probe', gpu.probe)
    return gpu


@pytest.fixture
def config():
    return ModelConfig.from_params(checkpoints.tiny_params(**SIZES))


def backend_on(stream, config):
    weights = RandomWeights(config, Recipe(), torch.device('cpu'), torch.float32)
    backend = few_sms.ConfinedBackend(stream, config, weights, 32, [2, 32, 33], 1, 2,
                                      speculative=False)
    backend._spare = 0  # only the kernels know of a slot without a KV cache
    return backend


def test_a_step_is_measured_where_it_runs(gpu, config, capsys):
    eight = Stream(range(40, 48))
    backend = backend_on(eight, config)
    counted = PassBytes.of(config, backend.weight_bytes)
    few_sms.print_confined(backend, 8, counted, config.decoder.sliding_window, (1, 2), 'tiny')
    assert gpu.replayed_on and set(gpu.replayed_on) == {eight}
    where, _, _, _, *rows, _, least = capsys.readouterr().out.splitlines()
    assert str(list(range(40, 48))) in where and f' {CLOCK:.3f} GHz' in where
    assert [row.split(' | ')[1] for row in rows] == ['80 ms', '160 ms']
    per_clock = [float(cell) for row in rows for cell in row.strip('| ').split(' | ')[7:]]
    assert float(least.split()[-1]) == pytest.approx(min(per_clock), abs=0.06)


def test_a_graph_that_runs_elsewhere_is_an_error(gpu, config):
    with pytest.raises(RuntimeError, match='ran on 132 multiprocessors, not on 8: '):
        backend_on(gpu.default, config).check(8)
    with pytest.raises(RuntimeError, match='ran on 10 multiprocessors, not on 8: '):
        backend_on(Stream(range(10)), config).check(8)
    with pytest.raises(RuntimeError, match='ran on 6 multiprocessors, not on 8: '):
        backend_on(Stream(range(6)), config).check(8)


def test_a_probe_that_does_not_see_the_whole_gpu_is_not_believed(gpu, config):
    backend = backend_on(Stream(range(8)), config)
    gpu.current = Stream(range(8))
    with pytest.raises(RuntimeError, match='was seen on 8 multiprocessors of 132'):
        backend.check(8)


def test_a_rate_is_bytes_per_second_and_per_clock_of_every_multiprocessor():
    where = few_sms.Where(frozenset(range(8)), 1.98e9)
    rate = few_sms.Rate(0.0116, 3.06e9, where)
    assert rate.bytes_per_s == pytest.approx(264e9, rel=0.01)
    assert rate.bytes_per_clock_and_sm == pytest.approx(16.7, rel=0.01)


def test_the_clock_is_that_of_all_blocks_though_the_timer_is_coarse():
    # Half a millisecond by a timer that goes on every millisecond.
    rows = torch.tensor([[0, 990_000, 0], [1, 990_000, 1_000_000]])
    assert few_sms.Where.of(rows).clock_hz == pytest.approx(1.98e9)


def test_what_the_driver_refuses_is_named(monkeypatch):
    monkeypatch.setattr(few_sms.ctypes, 'CDLL', lambda name: SimpleNamespace(
        cuCtxGetDevice=lambda device: 0, cuDeviceGetDevResource=lambda *arguments: 801))
    monkeypatch.setattr(torch.cuda, 'synchronize', lambda: None)
    with pytest.raises(RuntimeError, match='^cuDeviceGetDevResource: CUDA error 801$'):
        few_sms.few_sms(8)


def test_the_probe_can_be_assembled(tmp_path):
    try:
        ptxas = find_nvcc().parent / 'ptxas'
    except BuildError as error:
        pytest.skip(str(error))
    (tmp_path / 'probe.ptx').write_bytes(few_sms.PROBE)
    subprocess.run([ptxas, '-arch=sm_90', tmp_path / 'probe.ptx', '-o', tmp_path / 'probe'],
                   check=True)
