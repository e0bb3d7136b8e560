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

"""The fused network, on the CPU through the plain versions of all ops, against the modules."""

import pytest
from support import checkpoints
from support.kernels import packed_layer
import torch
from voxtral_ros.backends.cuda import modules as quantized
from voxtral_ros.backends.cuda.network import can_fuse, FusedNetwork
from voxtral_ros.model.checkpoint import load_network
from voxtral_ros.model.config import ModelConfig
from voxtral_ros.model.network import StreamState
from voxtral_ros.quantization.format import Recipe
from voxtral_ros.quantization.quantizer import quantize
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
                         ('compact', Recipe('mse', encoder_bits=8, head_bits=4))):
        quantize(root / 'dense', root / name, recipe)
    return root


def steps(passes, network, state):
    """Return audio embeddings and hidden states of streams that start one after the other."""
    torch.manual_seed(0)
    for slot in range(N_SLOTS):
        scales = network.decoder.delay_scales(torch.tensor([1 + 3 * slot]))[:, 0]
        state.reset(slot, scales, origin=1000 * slot)
    out = []
    for count in range(12):
        slots = torch.tensor([[2], [0, 2], [1, 0, 2]][min(count // 3, 2)])
        n_tokens = 1 + count % CHUNK
        samples = 0.1 * torch.randn(len(slots), n_tokens * 1280 + 240)
        tokens = torch.randint(0, 1088, (len(slots), n_tokens))
        audio, hidden = passes(samples, tokens, slots)
        out += [audio, hidden]
    return out


def of_modules(network, state):
    def passes(samples, tokens, slots):
        audio = network.encode(samples, state, slots, 60)
        logits = network.decode(audio, tokens, state, slots, 60)
        return audio, logits
    return passes


def of_fused(fused):
    def passes(samples, tokens, slots):
        audio = fused.encode(samples, slots)
        hidden = fused.decode(audio, tokens, slots)
        return audio, fused.network.decoder.logits(hidden[:, -1])
    return passes


@pytest.mark.parametrize('name', ['dense', 'int4', 'int4, int8', 'compact'])
def test_equals_the_modules(folders, monkeypatch, name):
    network = load_network(folders / name, 'cpu', torch.float32)
    state = StreamState(network, N_SLOTS, CHUNK)
    with torch.inference_mode():
        expected = steps(of_modules(network, state), network, state)

    monkeypatch.setattr('voxtral_ros.model.checkpoint.packed_layer', packed_layer)
    network = load_network(folders / name, 'cpu', torch.float32)
    state = StreamState(network, N_SLOTS, CHUNK)
    with torch.inference_mode():
        fused = FusedNetwork(network, state, pad=32, special=[2, 32, 33])
        found = steps(of_fused(fused), network, state)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert fused.decoder.half_split is (name != 'dense')


@pytest.mark.parametrize('name', ['int4', 'int4, int8', 'compact'])
def test_a_packed_layer_equals_the_dequantized_one(folders, monkeypatch, name):
    dense = load_network(folders / name, 'cpu', torch.float32)
    monkeypatch.setattr('voxtral_ros.model.checkpoint.packed_layer', packed_layer)
    network = load_network(folders / name, 'cpu', torch.float32)
    x = torch.randn(2, 5, 256)
    for linear in ('wq', 'wk', 'wv'):
        ours, theirs = (getattr(each.decoder.layers[0].attention, linear)
                        for each in (network, dense))
        assert isinstance(ours, quantized.KernelLinear)
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_embeddings_of_a_packed_head_are_the_rows_of_the_table(folders, monkeypatch, dtype):
    table = load_network(folders / 'compact', 'cpu', dtype).decoder
    monkeypatch.setattr('voxtral_ros.model.checkpoint.packed_layer', packed_layer)
    head = load_network(folders / 'compact', 'cpu', dtype).decoder
    assert not list(head.tok_embeddings.parameters())
    tokens = torch.randint(0, 1088, (5, 40))
    assert torch.equal(head.tok_embeddings(tokens), table.tok_embeddings(tokens))
    hidden = torch.randn(3, 2, 256, dtype=dtype)
    torch.testing.assert_close(head.logits(hidden), table.logits(hidden), rtol=2e-3, atol=2e-3)


def test_what_can_be_fused():
    for params in (checkpoints.real_params(), checkpoints.tiny_params(**SIZES)):
        config = ModelConfig.from_params(params)
        assert can_fuse(config, torch.bfloat16)
        assert can_fuse(config, torch.float16)
        assert not can_fuse(config, torch.float32)
    assert can_fuse(ModelConfig.load(demo_model()), torch.float16)
    odd = ModelConfig.from_params(checkpoints.tiny_params())
    assert not can_fuse(odd, torch.bfloat16)
