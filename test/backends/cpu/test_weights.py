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

"""Weights stay as small as they are in the file, and compute the same."""

import math

import numpy as np
import pytest
from quantization import packable
import torch

from voxtral_ros.backends.cpu.weights import read_weight, WeightMemory
from voxtral_ros.model.checkpoint import open_weights
from voxtral_ros.model.loading import load_network
from voxtral_ros.model.shapes import weight_shapes
from voxtral_ros.quantization.format import Recipe
from voxtral_ros.quantization.quantizer import quantize

cpu = pytest.importorskip('support.cpu')

RECIPES = {
    'bf16': None,
    'int4, bf16': Recipe(skip=('*.attention.wq.weight',)),
    'int4, int8': Recipe('mse', encoder_bits=8, head_bits=8),
    'int4 head': Recipe('mse', encoder_bits=8, head_bits=4),
    'int4 encoder': Recipe('mse', encoder_bits=4, head_bits=4),
}
N_SLOTS, MAX_TOKENS = 5, 4


@pytest.fixture(scope='module', params=RECIPES)
def folder(request, tmp_path_factory):
    folder = packable.write(tmp_path_factory.mktemp('dense'))
    if RECIPES[request.param] is None:
        return folder
    quantized = tmp_path_factory.mktemp('quantized')
    quantize(folder, quantized, RECIPES[request.param])
    return quantized


def prefilled(backend):
    """Return the probabilities after some prompts; no token of them depends on another result."""
    cpu.open_streams(backend, N_SLOTS)
    tokens = [[5 * slot, 33, 32, 1005] for slot in range(N_SLOTS)]
    passes = [cpu.noise(N_SLOTS, MAX_TOKENS, seed) for seed in range(8)]
    return np.array([backend.prefill(range(N_SLOTS), windows, tokens)[1] for windows in passes])


def error(found, expected):
    return np.median(np.abs(found / expected - 1))


@pytest.mark.parametrize('name', cpu.instruction_sets())
def test_passes_are_those_of_the_dequantized_network(folder, name):
    """With inputs rounded as ours; where one is rounded the other way, others follow it."""
    dequantized = cpu.with_half_caches(cpu.eager_backend(folder, N_SLOTS, MAX_TOKENS, exact=True))
    far = prefilled(dequantized)
    near = prefilled(cpu.rounded_inputs(dequantized, folder))
    with cpu.instructions(name):
        ours = prefilled(cpu.cpu_backend(folder, N_SLOTS, MAX_TOKENS))
    if np.array_equal(far, near):  # nothing is quantized
        np.testing.assert_allclose(ours, near, rtol=5e-3)
        assert error(ours, near) < 5e-4
    else:
        np.testing.assert_allclose(ours, near, rtol=0.4)
        assert error(ours, near) < 0.02 < error(ours, far) < 0.08


@pytest.mark.parametrize('name', cpu.instruction_sets())
def test_a_row_does_not_depend_on_the_batch(folder, name):
    alone = cpu.cpu_backend(folder, N_SLOTS, MAX_TOKENS)
    batch = cpu.cpu_backend(folder, N_SLOTS, MAX_TOKENS)
    cpu.open_streams(alone, N_SLOTS)
    cpu.open_streams(batch, N_SLOTS)
    noise = cpu.noise(N_SLOTS, MAX_TOKENS, 0)
    with cpu.instructions(name):
        together = batch.decode(range(N_SLOTS), noise)
        for slot in range(N_SLOTS):
            pieces = [alone.decode([slot], noise[[slot], 1280 * n:1280 * n + 1520].copy())
                      for n in range(MAX_TOKENS)]
            for mine, parts in zip(together[:2], list(zip(*pieces, strict=True))[:2], strict=True):
                assert mine[slot] == [part[0][0] for part in parts]
    for name in ('keys', 'values', 'position'):
        assert np.array_equal(getattr(batch.state.decoder, name),
                              getattr(alone.state.decoder, name))


def test_weights_are_those_of_the_dequantized_network(folder):
    dense = dict(load_network(folder, dtype=torch.float32).named_parameters())
    linears = [name for name in dense if name.endswith('.weight') and 'norm' not in name]
    with open_weights(folder) as (_, weights):
        for name in linears:
            ours = dequantize(
                read_weight(weights, cpu.checkpoint_name(name), WeightMemory()))
            assert np.array_equal(ours, dense[name].flatten(1).numpy())


def test_weights_take_the_bytes_of_the_file(folder):
    kinds = {16: 2, 8: 1 + 4 / 128, 4: 0.5 + 4 / 128}
    with open_weights(folder) as (config, weights):
        n_packed = 0
        for name, shape in weight_shapes(config).items():
            if len(shape) < 2 or 'ada_rms' in name:
                continue
            weight = read_weight(weights, cpu.checkpoint_name(name), WeightMemory())
            assert shape[0] % 16 == 0
            assert weight.nbytes == math.prod(shape) * kinds[weight.bits]
            assert weight.shape == (shape[0], math.prod(shape[1:]))
            n_packed += 1
    assert n_packed == 1 + 2 + 2 + 7 * 3
    sizes = cpu.cpu_backend(folder).weight_bytes
    assert 0 < sizes.head < sizes.encoder + sizes.decoder


def test_float_weights_stay_as_they_are(tmp_path):
    """Only bf16 is exact in 16 bits of the kernels' choice; fp16 becomes float32."""
    for dtype in (torch.float32, torch.float16):
        folder = packable.write(tmp_path / str(dtype), packable.tensors(dtype))
        with open_weights(folder) as (config, weights):
            for name, shape in weight_shapes(config).items():
                if len(shape) == 2:
                    assert read_weight(
                        weights, cpu.checkpoint_name(name), WeightMemory()).bits == 32
        assert cpu.cpu_backend(folder)._model.decoder.layers[0].query.bits == 32


@pytest.mark.parametrize('kind', ['int8', 'int4', 'dense'])
@pytest.mark.parametrize('block', [1, 5, 16, 21, 40, 100])
@pytest.mark.parametrize('n', [3, 16, 50])
def test_rows_come_back_whatever_the_blocks(kind, block, n):
    rng = np.random.default_rng(0)
    if kind == 'dense':
        stored = cpu.Stored(rng.standard_normal((n, 4, 3)).astype(np.float32))
        expected = stored.codes.reshape(n, -1)
    else:
        most = 8 if kind == 'int4' else 128
        codes = rng.integers(-most, most, (n, 256)).astype(np.int8)
        scales = rng.uniform(0.1, 2, (n, 2)).astype(np.float16)
        stored = cpu.Stored(codes, scales, kind, block)
        expected = (codes.reshape(n, 2, 128) * scales.astype(np.float32)[..., None]).reshape(n, -1)
    weight = read_weight(stored, 'w', WeightMemory())
    assert weight.codes.shape[0] == -(-n // 16)
    assert np.array_equal(dequantize(weight), expected)


def dequantize(weight):
    """Return what a weight stands for, float32 [N, K]."""
    n, k = weight.shape
    codes = weight.codes
    if weight.bits == 4:  # [P, K / 8, 16, 4] to [P, K / 4, 16, 4]
        codes = np.stack((codes & 15, codes >> 4), axis=2).reshape(len(codes), k // 4, 16, 4)
        codes = codes.astype(np.int8) - np.int8(8)
    if weight.bits == 16:
        codes = cpu.float_of(codes)
    if weight.scales is None:  # [P, K, 16]
        return codes.swapaxes(1, 2).reshape(-1, k)[:n]
    rows = codes.swapaxes(1, 2).reshape(-1, k // 128, 128).astype(np.float32)
    scales = weight.scales.swapaxes(1, 2).reshape(-1, k // 128)
    return (rows * scales[..., None]).reshape(-1, k)[:n]
