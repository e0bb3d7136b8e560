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

"""The CUDA network, on the CPU through the plain versions of all ops, against the modules."""

from dataclasses import replace

import pytest
from support import checkpoints
import torch

from voxtral_ros.backends.benchmark import planned_bytes
from voxtral_ros.backends.cuda.gemm import gemm
from voxtral_ros.backends.cuda.network import CudaNetwork, fits_kernels
from voxtral_ros.backends.cuda.norm_rope import embed
from voxtral_ros.backends.cuda.random_weights import RandomWeights
from voxtral_ros.backends.cuda.weight_source import CheckpointWeights, mergeable
from voxtral_ros.backends.cuda.weights import dequantize
from voxtral_ros.cli.bench import LAYOUTS
from voxtral_ros.model.checkpoint import open_weights
from voxtral_ros.model.config import ModelConfig
from voxtral_ros.model.loading import load_network
from voxtral_ros.quantization.format import Recipe
from voxtral_ros.quantization.quantizer import quantize
from voxtral_ros.quantization.weights import half_split
from voxtral_ros.resources import demo_model

SIZES = {
    'dim': 256, 'head_dim': 64, 'hidden_dim': 512, 'n_heads': 4, 'n_kv_heads': 2,
    'vocab_size': 1088, 'encoder.dim': 256, 'encoder.head_dim': 64, 'encoder.hidden_dim': 512,
    'encoder.n_heads': 4, 'encoder.n_kv_heads': 4}
N_SLOTS, CHUNK = 3, 4


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Return the same random weights in 16 bits, and packed."""
    root = tmp_path_factory.mktemp('fused')
    params = checkpoints.tiny_params(**SIZES)
    tensors = checkpoints.random_tensors(params, 1)
    checkpoints.write_checkpoint(root / 'dense', params, tensors, checkpoints.tiny_tekken())
    for name, recipe in (('int4', Recipe()), ('int4, int8', Recipe('mse', encoder_bits=8)),
                         ('compact', Recipe('mse', encoder_bits=8, head_bits=4)),
                         ('small', Recipe('mse', encoder_bits=4, head_bits=4)),
                         ('first layer dense', Recipe(skip=('layers.0.*',)))):
        quantize(root / 'dense', root / name, recipe)
    return root


def run(passes, reset):
    """Return audio embeddings and hidden states of streams that start one after the other."""
    torch.manual_seed(0)
    for slot in range(N_SLOTS):
        reset(slot, 1 + 3 * slot)
    out = []
    for count in range(12):
        slots = torch.tensor([[2], [0, 2], [1, 0, 2]][min(count // 3, 2)])
        n_tokens = 1 + count % CHUNK
        samples = 0.1 * torch.randn(len(slots), n_tokens * 1280 + 240)
        tokens = torch.randint(0, 1088, (len(slots), n_tokens))
        out += passes(samples, tokens, slots)
    return out


def run_modules(folder, int8_cache=False):
    network = load_network(folder, 'cpu', torch.float32)
    state = network.new_state(N_SLOTS, CHUNK, int8_cache)

    def passes(samples, tokens, slots):
        audio = network.encode(samples, state, slots, 60)
        return audio, network.decode(audio, tokens, state, slots, 60)

    def reset(slot, delay):
        state.reset(slot, network.decoder.delay_scales(torch.tensor([delay]))[:, 0])
    return run(passes, reset)


def cuda_network(folder, dtype=torch.float32, int8_cache=False):
    with open_weights(folder) as (config, weights):
        source = CheckpointWeights(weights, torch.device('cpu'), dtype)
        return CudaNetwork(config, source, N_SLOTS, CHUNK, 32, [2, 32, 33], int8_cache)


def run_kernels(network, folder):
    decoder = load_network(folder, 'cpu', torch.float32).decoder

    def passes(samples, tokens, slots):
        audio = network.encode(samples, slots)
        hidden = network.decode(audio, tokens, slots)
        return audio, decoder.logits(hidden[:, -1])
    return run(passes, network.reset)


@pytest.mark.parametrize('name', [
    'dense', 'int4', 'int4, int8', 'compact', 'small', 'first layer dense'])
def test_equals_the_modules(folders, name):
    network = cuda_network(folders / name)
    with torch.inference_mode():
        expected = run_modules(folders / name)
        found = run_kernels(network, folders / name)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert [layer.half_split for layer in network.decoder.layers] == [
        name != 'dense' and not (name == 'first layer dense' and n == 0)
        for n in range(len(network.decoder.layers))]


def test_equals_the_modules_with_keys_and_values_in_int8(folders):
    """
    As far as rounding lets it: a last bit can decide which of two codes is nearer.

    How often it does depends on the processor; what INT8 changes is more than that.
    """
    network = cuda_network(folders / 'compact', int8_cache=True)
    with torch.inference_mode():
        expected = run_modules(folders / 'compact', int8_cache=True)
        found = run_kernels(network, folders / 'compact')
        exact = run_modules(folders / 'compact')
    for a, b, c in zip(found, expected, exact, strict=True):
        assert (a - b).norm() < 0.7 * (b - c).norm()
        assert 1e-5 * c.norm() < (b - c).norm() < 0.1 * c.norm()
    errors = [(a - b).norm() / b.norm() for a, b in zip(found, expected, strict=True)]
    assert sorted(errors)[len(errors) // 2] < 2e-3


@pytest.mark.parametrize('name', ['int4', 'int4, int8', 'compact', 'small'])
def test_a_packed_weight_equals_the_dequantized_one(folders, name):
    dense = dict(load_network(folders / name, 'cpu', torch.float32).named_parameters())
    with open_weights(folders / name) as (config, weights):
        source = CheckpointWeights(weights, torch.device('cpu'), torch.float32)
        for stack in ('encoder', 'decoder'):
            for linear in ('attention.wq', 'attention.wk', 'attention.wv', 'feed_forward.w2'):
                path = f'{stack}.layers.0.{linear}.weight'
                expected = dense[path]
                if source.half_split(path):
                    assert stack == 'decoder'
                    expected = half_split(expected, config.decoder.head_dim)
                assert torch.equal(dequantize(source.packed(path)).T, expected)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_random_weights_take_the_bytes_of_their_layout(layout):
    config, recipe = ModelConfig.from_params(checkpoints.tiny_params(**SIZES)), LAYOUTS[layout]
    weights = RandomWeights(config, Recipe(**recipe), torch.device('cpu'), torch.float16)
    network = CudaNetwork(config, weights, N_SLOTS, CHUNK, 32, [2, 32, 33])
    found, planned = network.weight_bytes, planned_bytes(config, Recipe(**recipe).bits, 4)
    assert found.encoder == pytest.approx(planned.encoder, rel=0.01)  # less norms and biases
    assert (found.decoder, found.head) == pytest.approx((planned.decoder, planned.head), rel=0.01)
    with torch.inference_mode():
        audio = network.encode(torch.randn(2, CHUNK * 1280 + 240), torch.tensor([0, 2]))
    assert audio.isfinite().all()


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_embeddings_of_a_packed_head_are_the_rows_of_the_table(folders, dtype):
    table = load_network(folders / 'compact', 'cpu', dtype).decoder
    head = cuda_network(folders / 'compact', dtype).head
    assert head.table is None
    tokens = torch.randint(0, 1088, (5, 40))
    nothing = torch.zeros(5, 40, 256, dtype=dtype)
    assert torch.equal(embed(nothing, head.embedding, tokens).to(dtype),
                       table.tok_embeddings(tokens))
    hidden = torch.randn(3, 2, 256, dtype=dtype)
    torch.testing.assert_close(gemm(hidden, head.screen), table.logits(hidden),
                               rtol=2e-3, atol=2e-3)


def test_weight_bytes_are_those_of_the_packed_weights(folders):
    compact, dense = (cuda_network(folders / name).weight_bytes for name in ('compact', 'dense'))
    # float32 here against INT4 with an fp16 scale per 128; convolutions and adapter stay dense
    assert dense.decoder / compact.decoder == pytest.approx(4 / (0.5 + 2 / 128))
    assert 1.5 < dense.encoder / compact.encoder < 4
    assert dense.head == compact.head  # screened in INT4 both


@pytest.mark.parametrize(('skip', 'merges'), [
    ('layers.0.*', True), ('*.attention.wo.weight', True), ('*.attention.wv.weight', False),
    ('layers.1.feed_forward.w1.weight', False)])
def test_only_weights_of_one_format_are_merged(folders, tmp_path, skip, merges):
    quantize(folders / 'dense', tmp_path / 'int4', Recipe(skip=(skip,)))
    with open_weights(tmp_path / 'int4') as (config, weights):
        assert mergeable(config, weights) == merges


def test_what_the_kernels_fit():
    for params in (checkpoints.real_params(), checkpoints.tiny_params(**SIZES)):
        config = ModelConfig.from_params(params)
        assert fits_kernels(config, torch.bfloat16)
        assert fits_kernels(config, torch.float16)
        assert not fits_kernels(config, torch.float32)
    assert fits_kernels(ModelConfig.load(demo_model()), torch.float16)
    odd = ModelConfig.from_params(checkpoints.tiny_params())
    assert not fits_kernels(odd, torch.bfloat16)
    real = ModelConfig.from_params(checkpoints.real_params())
    assert fits_kernels(real, torch.float16, max_chunk_tokens=32)
    assert not fits_kernels(real, torch.float16, max_chunk_tokens=512)  # too many queries
    assert not fits_kernels(replace(real, vocab_size=1 << 19), torch.float16)
    wide = replace(real, decoder=replace(real.decoder, dim=16384))
    assert not fits_kernels(wide, torch.float16)
