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

"""
Files of the original script: its recipe, written out again, and what we make of such a file.

The recipe is that of reference section 1.6, as upstream's Marlin example does it: in [K, N], with
index tables, and everything at once. Its file must be ours to the last byte, and must load.
"""

import json

import numpy as np
import pytest
from quantization import packable
from safetensors.torch import save
import torch

from voxtral_ros.model.loading import load_network
from voxtral_ros.quantization.format import Recipe
from voxtral_ros.quantization.quantizer import quantize

NAMES = {'attention.wq': 'self_attn.q_proj', 'attention.wk': 'self_attn.k_proj',
         'attention.wv': 'self_attn.v_proj', 'attention.wo': 'self_attn.o_proj',
         'feed_forward.w1': 'mlp.gate_proj', 'feed_forward.w2': 'mlp.down_proj',
         'feed_forward.w3': 'mlp.up_proj'}
QUANTIZATION_CONFIG = {
    'quant_method': 'rtn', 'bits': 4, 'group_size': 128, 'sym': True,
    'checkpoint_format': 'marlin', 'pack_dtype': 'int32', 'encoding': 'uint4b8'}


def tile_order():
    """Return for each of the 1024 nibbles of a tile which code of it, 16 x 16 x 4, it holds."""
    order = []
    for lane in range(32):
        column, rows = lane // 4, [2 * (lane % 4) + extra for extra in (0, 1, 8, 9)]
        fragment = [16 * row + column + 8 * half for half in (0, 1) for row in rows]
        for sub_tile in range(4):
            order += [256 * sub_tile + index for index in fragment]
    return np.array(order).reshape(-1, 8)[:, [0, 2, 4, 6, 1, 3, 5, 7]].ravel()


def recipe(weight):
    """Return B, s and the dequantized weight of a weight [N, K] in fp16."""
    n, k = weight.shape
    groups = weight.T.float().reshape(k // 128, 128, n)
    scales = (groups.abs().amax(dim=1).clamp(min=1e-10) / 8).half()
    quotients = groups / scales.float()[:, None]
    rounded = torch.round(quotients).clamp(-8, 7).int()
    codes = (rounded + 8).reshape(k, n).numpy().astype(np.uint32)
    tiles = codes.reshape(k // 16, 16, n // 16, 16).transpose(0, 2, 1, 3).reshape(k // 16, -1)
    nibbles = tiles.reshape(-1, 1024)[:, tile_order()].reshape(k // 16, -1)
    words = np.zeros((k // 16, 2 * n), np.uint32)
    for place in range(8):
        words |= nibbles[:, place::8] << np.uint32(4 * place)
    order = [i + 8 * j for i in range(8) for j in range(8)]
    permuted = scales.reshape(-1, 64)[:, order].reshape(-1, n).contiguous()
    dequantized = (rounded.float() * scales.float()[:, None]).reshape(k, n).T
    return torch.from_numpy(words.view(np.int32)), permuted, dequantized


def to_halves(weight, n_heads):
    """Reorder the rows of each head from pairs to halves, as Hugging Face's conversion does."""
    n, k = weight.shape
    return weight.view(n_heads, n // n_heads // 2, 2, k).transpose(1, 2).reshape(n, k)


def to_pairs(weight, n_heads):
    n, k = weight.shape
    return weight.view(n_heads, 2, n // n_heads // 2, k).transpose(1, 2).reshape(n, k)


@pytest.fixture(scope='module')
def original():
    """Return the tensors of the original script's file, and the dequantized native ones."""
    params, result, twin = packable.PARAMS, {}, {}
    for name, tensor in packable.tensors().items():
        if name not in packable.DECODER_LINEARS:
            result[name], twin[name] = tensor, tensor.float()
            continue
        _, layer, *module = name.removesuffix('.weight').split('.')
        half = tensor.half()
        n_heads = {'wq': params['n_heads'], 'wk': params['n_kv_heads']}.get(module[-1])
        words, scales, back = recipe(to_halves(half, n_heads) if n_heads else half)
        prefix = f'layers.{layer}.{NAMES[".".join(module)]}'
        result[prefix + '.B'], result[prefix + '.s'] = words, scales
        twin[name] = (to_pairs(back, n_heads) if n_heads else back).contiguous()
    return result, twin


@pytest.fixture
def folder(tmp_path, original):
    """Return a checkpoint as published: the script's weights, params.json with the config."""
    folder = packable.write(tmp_path / 'original', original[0])
    params = packable.PARAMS | {'quantization_config': QUANTIZATION_CONFIG}
    (folder / 'params.json').write_text(json.dumps(params, indent=2))
    return folder


def header_and_data(path):
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], 'little')
    return json.loads(content[8:start]), content[start:]


def test_our_file_is_the_original_one_to_the_last_byte(tmp_path, folder):
    """But for the checksums: they stand in the metadata, which its readers leave alone."""
    source = packable.write(tmp_path / 'native')
    quantize(source, tmp_path / 'ours', Recipe())
    for name in ('params.json', 'tekken.json'):
        assert (tmp_path / 'ours' / name).read_bytes() == (folder / name).read_bytes(), name
    theirs, their_data = header_and_data(folder / 'consolidated.safetensors')
    ours, our_data = header_and_data(tmp_path / 'ours' / 'consolidated.safetensors')
    assert our_data == their_data
    assert ours.pop('__metadata__').keys() == {f'crc32:{name}' for name in theirs}
    assert list(ours.items()) == list(theirs.items())


def test_the_names_and_shapes_are_the_published_ones(original):
    """Section 1.6 has the table for the real sizes."""
    tensors, params = original[0], packable.PARAMS
    dim, hidden = params['dim'], params['hidden_dim']
    assert tensors['layers.1.mlp.down_proj.B'].shape == (hidden // 16, 2 * dim)
    assert tensors['layers.1.mlp.down_proj.s'].shape == (hidden // 128, dim)
    assert tensors['layers.0.self_attn.k_proj.B'].shape == (dim // 16, 2 * 2 * 32)
    n_packed = len(packable.DECODER_LINEARS)
    assert len(tensors) == len(packable.tensors()) + n_packed


def test_an_original_file_gives_the_logits_of_its_dequantized_twin(tmp_path, folder, original):
    network = load_network(folder, dtype=torch.float32)
    twin = load_network(packable.write(tmp_path / 'twin', original[1]))
    expected = packable.logits(twin)
    assert torch.equal(packable.logits(network), expected)
    # And in the half precisions as near as their rounding of weights and activations.
    for dtype, tolerance in ((torch.float16, 4e-3), (torch.bfloat16, 5e-2)):
        found = packable.logits(load_network(folder, dtype=dtype))
        assert (found - expected).std() < tolerance * expected.std()


def test_the_type_of_the_file_is_that_of_what_is_not_packed(folder):
    network = load_network(folder)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}


def test_a_file_of_the_bare_script_has_no_quantization_config(folder, original):
    """The script copies params.json as it is; only the published one was completed by hand."""
    (folder / 'params.json').write_text(json.dumps(packable.PARAMS, indent=2))
    load_network(folder)


def test_a_group_of_zeros_stays_zero(tmp_path):
    """The original divides 0 by fp16(1e-10 / 8) = 0 and makes an integer of the NaN."""
    weights = dict(packable.tensors())
    name = 'layers.0.feed_forward.w2.weight'
    weights[name] = weights[name].clone()
    weights[name][5, 128:256] = 0
    weights[name][9] = 0
    source = packable.write(tmp_path / 'native', weights)
    quantize(source, tmp_path / 'ours', Recipe())
    network = load_network(tmp_path / 'ours', dtype=torch.float32)
    loaded = network.decoder.layers[0].feed_forward.w2.weight
    assert not loaded[5, 128:256].any()
    assert not loaded[9].any()
    assert loaded[5, :128].any()
    assert packable.logits(network).isfinite().all()


def test_the_original_file_equals_what_its_own_writer_makes(folder, original):
    """That the fixture is what safetensors.torch.save_file, the script's last line, writes."""
    assert (folder / 'consolidated.safetensors').read_bytes() == save(original[0])
