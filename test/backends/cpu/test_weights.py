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

import pytest
from quantization import packable
import torch
from voxtral_ros.backends.cpu.backend import NativeStep
from voxtral_ros.backends.cpu.weights import (
    NativeEmbedding,
    NativeLinear,
    NativeWeight,
    pack_int4,
    unpack_int4,
)
from voxtral_ros.backends.eager import EagerStep
from voxtral_ros.model.checkpoint import load_network
from voxtral_ros.quantization.format import Recipe
from voxtral_ros.quantization.quantizer import quantize

native = pytest.importorskip('support.native')

RECIPES = {
    'bf16': None,
    'int4, bf16': Recipe(skip=('*.attention.wq.weight',)),
    'int4, int8': Recipe('mse', encoder_bits=8, head_bits=8),
    'int4 head': Recipe('mse', encoder_bits=8, head_bits=4),
}
N_SLOTS, MAX_TOKENS = 5, 4


@pytest.fixture(scope='module', params=RECIPES)
def folder(request, tmp_path_factory):
    folder = packable.write(tmp_path_factory.mktemp('native'))
    if RECIPES[request.param] is None:
        return folder
    quantized = tmp_path_factory.mktemp('quantized')
    quantize(folder, quantized, RECIPES[request.param])
    return quantized


@pytest.fixture(scope='module')
def dense(folder):
    return load_network(folder, dtype=torch.float32)


@pytest.fixture(scope='module')
def small(folder):
    return load_network(folder, dtype=torch.float32, native=True)


@pytest.mark.parametrize('name', native.instruction_sets())
def test_passes_are_those_of_the_dequantized_network(dense, small, name):
    reference = EagerStep(dense, native.PAD, N_SLOTS, MAX_TOKENS)
    ours = NativeStep(small, native.PAD, N_SLOTS, MAX_TOKENS)
    native.open_streams(reference, dense, N_SLOTS)
    native.open_streams(ours, small, N_SLOTS)
    with torch.inference_mode(), native.instructions(name):
        for n_streams in range(1, N_SLOTS + 1):
            slots = list(range(n_streams))
            sound = native.noise(n_streams, MAX_TOKENS, n_streams)
            given = [[5 * slot, 33, 32, 1005] for slot in slots]
            for passed in ((slots, sound, given, 100), (slots, sound, 100)):
                kind = 'prompt' if len(passed) == 4 else 'generate'
                ids, chances = getattr(ours, kind)(*passed)
                expected_ids, expected = getattr(reference, kind)(*passed)
                assert ids == expected_ids
                torch.testing.assert_close(torch.tensor(chances), torch.tensor(expected),
                                           rtol=1e-3, atol=1e-6)
    for slot in range(N_SLOTS):
        for mine, theirs in zip(native.memory(ours.state, slot),
                                native.memory(reference.state, slot), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize('name', native.instruction_sets())
def test_a_row_does_not_depend_on_the_batch(small, name):
    alone = NativeStep(small, native.PAD, N_SLOTS, MAX_TOKENS)
    batch = NativeStep(small, native.PAD, N_SLOTS, MAX_TOKENS)
    native.open_streams(alone, small, N_SLOTS)
    native.open_streams(batch, small, N_SLOTS)
    sound = native.noise(N_SLOTS, MAX_TOKENS, 0)
    with torch.inference_mode(), native.instructions(name):
        together = batch.generate(range(N_SLOTS), sound, MAX_TOKENS)
        for slot in range(N_SLOTS):
            pieces = [alone.generate([slot], sound[[slot], 1280 * n:1280 * n + 1520].copy(), n + 1)
                      for n in range(MAX_TOKENS)]
            for mine, parts in zip(together, zip(*pieces, strict=True), strict=True):
                assert mine[slot] == [part[0][0] for part in parts]
    for mine, theirs in zip(vars(batch.state.decoder_ring).values(),
                            vars(alone.state.decoder_ring).values(), strict=True):
        assert not isinstance(mine, torch.Tensor) or mine.equal(theirs)


def test_the_network_can_run_in_pytorch_too(dense, small):
    torch.testing.assert_close(packable.logits(small), packable.logits(dense), rtol=0, atol=1e-5)


def test_weights_take_the_bytes_of_the_file(folder, small):
    kinds = {16: 2, 8: 1 + 4 / 128, 4: 0.5 + 4 / 128}
    layers = [module for module in small.modules()
              if isinstance(module, (NativeLinear, NativeEmbedding))]
    assert len(layers) == 1 + 2 + 7 * 3
    for layer in layers:
        weight = layer.native
        size = weight.codes.nbytes + (0 if weight.scales is None else weight.scales.nbytes)
        assert size == weight.dequantize().numel() * kinds[weight.storage]


def test_float_weights_stay_as_they_are(tmp_path):
    """Only bf16 is exact in 16 bits of the kernels' choice; fp16 becomes float32."""
    for dtype in (torch.float32, torch.float16):
        folder = packable.write(tmp_path / str(dtype), packable.tensors(dtype))
        network = load_network(folder, dtype=torch.float32, native=True)
        assert not any(isinstance(module, NativeLinear) for module in network.modules())
        step = NativeStep(network, native.PAD, 1, 1)
        layer = network.decoder.layers[0].attention.wq.weight
        assert step._passes._model.decoder.layers[0].query.weight == layer.data_ptr()


def test_packed_codes_come_back():
    codes = torch.randint(-8, 8, (3, 256), dtype=torch.int8,
                          generator=torch.Generator().manual_seed(0))
    packed = pack_int4(codes)
    assert packed.shape == (3, 128)
    assert unpack_int4(packed).equal(codes)
    scales = torch.rand(3, 2)
    rows = torch.tensor([[2], [0]])
    weight = NativeWeight(4, packed, scales)
    assert weight.dequantize(rows).shape == (2, 1, 256)
    assert weight.dequantize(rows)[0, 0, 200] == codes[2, 200] * scales[2, 1]
