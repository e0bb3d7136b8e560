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

from voxtral_ros.backends.cpu.weights import pack_int4, read_weight
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


@pytest.mark.parametrize('name', cpu.instruction_sets())
def test_passes_are_those_of_the_dequantized_network(folder, name):
    reference = cpu.eager_backend(folder, N_SLOTS, MAX_TOKENS)
    ours = cpu.cpu_backend(folder, N_SLOTS, MAX_TOKENS)
    cpu.open_streams(reference, N_SLOTS)
    cpu.open_streams(ours, N_SLOTS)
    with cpu.instructions(name):
        for n_streams in range(1, N_SLOTS + 1):
            slots = list(range(n_streams))
            windows = cpu.noise(n_streams, MAX_TOKENS, n_streams)
            tokens = [[5 * slot, 33, 32, 1005] for slot in slots]
            for passed in (lambda backend: backend.prefill(slots, windows, tokens),  # noqa: B023
                           lambda backend: backend.decode(slots, windows)):  # noqa: B023
                (ids, probs), (expected_ids, expected) = passed(ours), passed(reference)
                assert ids == expected_ids
                np.testing.assert_allclose(probs, expected, rtol=1e-3, atol=1e-6)
    for slot in range(N_SLOTS):
        for mine, theirs in zip(cpu.memory(ours, slot), cpu.memory(reference, slot), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=2e-4)


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
            for mine, parts in zip(together, zip(*pieces, strict=True), strict=True):
                assert mine[slot] == [part[0][0] for part in parts]
    for name in ('keys', 'values', 'position'):
        assert np.array_equal(getattr(batch.state.decoder, name),
                              getattr(alone.state.decoder, name))


def test_weights_are_those_of_the_dequantized_network(folder):
    dense = dict(load_network(folder, dtype=torch.float32).named_parameters())
    linears = [name for name in dense if name.endswith('.weight') and 'norm' not in name]
    with open_weights(folder) as (_, weights):
        for name in linears:
            ours = dequantize(read_weight(weights, cpu.checkpoint_name(name)))
            assert np.array_equal(ours, dense[name].flatten(1).numpy())


def test_weights_take_the_bytes_of_the_file(folder):
    kinds = {16: 2, 8: 1 + 4 / 128, 4: 0.5 + 4 / 128}
    with open_weights(folder) as (config, weights):
        n_packed = 0
        for name, shape in weight_shapes(config).items():
            if len(shape) < 2 or 'conv' in name or 'ada_rms' in name:
                continue
            weight = read_weight(weights, cpu.checkpoint_name(name))
            assert weight.nbytes == math.prod(shape) * kinds[weight.bits]
            assert weight.shape == shape
            n_packed += 1
    assert n_packed == 1 + 2 + 7 * 3
    sizes = cpu.cpu_backend(folder).weight_bytes
    assert 0 < sizes.head < sizes.encoder + sizes.decoder


def test_float_weights_stay_as_they_are(tmp_path):
    """Only bf16 is exact in 16 bits of the kernels' choice; fp16 becomes float32."""
    for dtype in (torch.float32, torch.float16):
        folder = packable.write(tmp_path / str(dtype), packable.tensors(dtype))
        with open_weights(folder) as (config, weights):
            for name, shape in weight_shapes(config).items():
                if len(shape) == 2:
                    assert read_weight(weights, cpu.checkpoint_name(name)).bits == 32
        assert cpu.cpu_backend(folder)._model.decoder.layers[0].query.bits == 32


def unpack_int4(packed):
    """Undo pack_int4: int8 [N, K]."""
    halves = packed.reshape(len(packed), -1, 1, 16)
    pairs = np.concatenate((halves & 15, halves >> 4), axis=2)
    return pairs.reshape(len(packed), -1).astype(np.int8) - np.int8(8)


def test_packed_codes_come_back():
    codes = np.random.default_rng(0).integers(-8, 8, (3, 256)).astype(np.int8)
    packed = pack_int4(codes)
    assert packed.shape == (3, 128)
    assert np.array_equal(unpack_int4(packed), codes)


def dequantize(weight):
    """Return what a weight stands for, float32 [N, K]."""
    if weight.scales is None:
        return cpu.float_of(weight.codes) if weight.bits == 16 else weight.codes
    codes = unpack_int4(weight.codes) if weight.bits == 4 else weight.codes
    groups = codes.reshape(len(codes), -1, 128).astype(np.float32)
    return (groups * weight.scales[..., None]).reshape(len(codes), -1)
