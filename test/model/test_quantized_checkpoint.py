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

"""Loading quantized checkpoints: what every variant computes, and what is wrong with bad ones."""

import json
import struct

import numpy as np
import pytest
from quantization import packable
from safetensors.torch import load_file, save, save_file
import torch

from voxtral_ros.model.checkpoint import CheckpointError, WEIGHTS
from voxtral_ros.model.loading import checkpoint_parameters, load_network
from voxtral_ros.quantization import marlin
from voxtral_ros.quantization.format import Recipe
from voxtral_ros.quantization.quantizer import quantize
from voxtral_ros.quantization.tensorfile import TensorFile
from voxtral_ros.quantization.weights import WeightFile

RECIPES = {
    'original': Recipe(),
    'mse': Recipe('mse'),
    'encoder 8': Recipe(encoder_bits=8),
    'encoder 4': Recipe(encoder_bits=4),
    'head 8': Recipe(head_bits=8),
    'head 4': Recipe(head_bits=4),
    'partly': Recipe(encoder_bits=8, skip=('*.attention.wq.weight', 'layers.1.*')),
    'smallest': Recipe('mse', 8, 4),
    'all in 4': Recipe('mse', 4, 4),
}
WK = 'layers.0.self_attn.k_proj'
ENCODER_W2 = packable.ENCODER_LINEARS[5]


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Return the folder of every recipe's result, and of the source as 'dense'."""
    return packable.quantized_folders(tmp_path_factory.mktemp('folders'), RECIPES)


@pytest.fixture
def folder(tmp_path, folders):
    """Return a checkpoint, all of it quantized, that may be damaged."""
    for name in ('params.json', 'tekken.json', WEIGHTS):
        (tmp_path / name).write_bytes((folders['smallest'] / name).read_bytes())
    return tmp_path


def refusal(folder):
    with pytest.raises(CheckpointError) as error:
        load_network(folder)
    return str(error.value)


@pytest.mark.parametrize('name', RECIPES)
def test_every_weight_is_near_the_one_it_comes_from(folders, name):
    """Near, row by row: rows in a wrong order would be off by more than their size."""
    dense = dict(checkpoint_parameters(load_network(folders['dense'], dtype=torch.float32)))
    for key, parameter in checkpoint_parameters(load_network(folders[name], dtype=torch.float32)):
        error = (parameter - dense[key]).square().sum(-1) / dense[key].square().sum(-1)
        limit = {4: 0.2, 8: 0.02, 16: 0.0}[RECIPES[name].bits(key)]
        assert error.sqrt().max() <= limit, key
        assert error.sqrt().max() >= limit / 10, key


@pytest.mark.parametrize('name', RECIPES)
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float16, 0.01), (torch.bfloat16, 0.06)])
def test_every_type_gives_the_same_logits(folders, name, dtype, tolerance):
    expected = packable.logits(load_network(folders[name], dtype=torch.float32))
    network = load_network(folders[name], dtype=dtype)
    assert (packable.logits(network) - expected).std() < tolerance * expected.std()
    assert {parameter.dtype for parameter in network.parameters()} == {dtype}


def test_int8_is_much_nearer_than_int4(folders, tmp_path):
    quantize(folders['dense'], tmp_path, Recipe(encoder_bits=8, head_bits=8, skip=('layers.*',)))
    expected = packable.logits(load_network(folders['dense'], dtype=torch.float32))
    found = packable.logits(load_network(tmp_path, dtype=torch.float32))
    assert 0.001 < (found - expected).std() / expected.std() < 0.03


def test_dense_weights_are_those_of_marlin_dequantize(folders):
    """What kernels are tested against is what runs on the CPU; k is in half-split order."""
    tensors = load_file(folders['mse'] / WEIGHTS)
    network = load_network(folders['mse'], dtype=torch.float32)
    layer = network.decoder.layers[0]
    up, key = (torch.from_numpy(marlin.dequantize(
        tensors[f'{name}.B'].numpy(), tensors[f'{name}.s'].numpy())).T
        for name in ('layers.0.mlp.up_proj', WK))
    assert torch.equal(layer.feed_forward.w3.weight, up)
    head_dim = packable.PARAMS['head_dim']
    for row in range(len(key)):
        head, place = divmod(row, head_dim)
        pair, second = divmod(place, 2)
        assert torch.equal(layer.attention.wk.weight[row],
                           key[head * head_dim + second * (head_dim // 2) + pair])


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU: needs one of NVIDIA')
@pytest.mark.parametrize('name', ['dense', *RECIPES])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_cuda_has_the_same_weights(folders, name, dtype):
    host = dict(checkpoint_parameters(load_network(folders[name], dtype=dtype)))
    for key, parameter in checkpoint_parameters(load_network(folders[name], 'cuda', dtype)):
        assert parameter.device.type == 'cuda'
        assert torch.equal(parameter.cpu(), host[key]), key


# ---- what is refused ----

@pytest.mark.parametrize(('key', 'value'), [
    ('bits', 8), ('bits', '4'), ('bits', True), ('group_size', 64), ('group_size', -1),
    ('sym', False), ('checkpoint_format', 'gptq'), ('pack_dtype', 'int64'),
    ('encoding', 'uint4'), ('quant_method', 'awq'), ('encoder_bits', 2), ('head_bits', 2),
    ('rounding', 'stochastic'), ('desc_act', True), ('group_size', [128]), ('bits', None)])
def test_an_unknown_quantization_is_named(folder, key, value):
    params = json.loads((folder / 'params.json').read_text())
    params['quantization_config'][key] = value
    (folder / 'params.json').write_text(json.dumps(params))
    message = refusal(folder)
    assert f'quantization_config.{key}' in message
    assert 'params.json' in message


@pytest.mark.parametrize('value', [[], 'marlin', 4, True])
def test_a_quantization_config_that_is_no_object(folder, value):
    params = json.loads((folder / 'params.json').read_text())
    (folder / 'params.json').write_text(json.dumps(params | {'quantization_config': value}))
    assert 'expected an object' in refusal(folder)


@pytest.mark.parametrize('value', ['rtn', 'gptq', 'voxtral_ros_gptq'])
def test_how_codes_were_chosen_does_not_matter(folder, value):
    params = json.loads((folder / 'params.json').read_text())
    params['quantization_config']['quant_method'] = value
    (folder / 'params.json').write_text(json.dumps(params))
    load_network(folder)


INT8 = ENCODER_W2 + '_int8'
CHANGES = {
    'no scales': ({WK + '.s': None}, f'{WK}.B is there, but not {WK}.s'),
    'no codes': ({WK + '.B': None}, f'{WK}.s is there, but not what it scales'),
    'no int8 scales': ({ENCODER_W2 + '_scale': None}, f'{INT8} is there, but not'),
    'nothing': ({WK + '.B': None, WK + '.s': None}, 'missing: layers.0.attention.wk.weight'),
    'twice': ({'layers.0.attention.wk.weight': torch.zeros(64, 128).bfloat16()},
              'layers.0.attention.wk.weight is in the file twice'),
    'int64 words': ({WK + '.B': torch.zeros(8, 128, dtype=torch.int64)}, f'{WK}.B is I64'),
    'bf16 scales': ({WK + '.s': torch.zeros(1, 64).bfloat16()}, f'{WK}.s is BF16'),
    'fp32 scales': ({WK + '.s': torch.zeros(1, 64)}, f'{WK}.s is F32'),
    'uint8 codes': ({INT8: torch.zeros(128, 256, dtype=torch.uint8)}, f'{INT8} is U8'),
    'flat words': ({WK + '.B': torch.zeros(1024, dtype=torch.int32)}, f'{WK}.B is I32'),
    'group of 64': ({WK + '.s': torch.zeros(2, 64).half()}, 'one scale for 128 inputs'),
    'per channel': ({ENCODER_W2 + '_scale': torch.zeros(128, 1).half()}, 'one scale for 128'),
    'odd inputs': ({WK + '.B': torch.zeros(5, 128, dtype=torch.int32)}, '80 inputs'),
    'odd outputs': ({WK + '.B': torch.zeros(8, 192, dtype=torch.int32)}, '96 outputs'),
    'odd words': ({WK + '.B': torch.zeros(8, 129, dtype=torch.int32)}, f'{WK}.B is [8, 129]'),
    'odd int8': ({INT8: torch.zeros(128, 200, dtype=torch.int8)}, '200 inputs'),
    'wider': ({WK + '.B': torch.zeros(8, 256, dtype=torch.int32),
               WK + '.s': torch.zeros(1, 128).half()},
              'wk.weight is [128, 128], but params.json makes it [64, 128]'),
    'unknown': ({'layers.0.self_attn.x_proj.B': torch.zeros(8, 128, dtype=torch.int32),
                 'layers.0.self_attn.x_proj.s': torch.zeros(1, 64).half()}, 'unknown: layers.0.'),
    'one more layer': ({'layers.2.mlp.up_proj.B': torch.zeros(8, 128, dtype=torch.int32),
                        'layers.2.mlp.up_proj.s': torch.zeros(1, 64).half()},
                       'unknown: layers.2.feed_forward.w3.weight'),
    'quantized norm': ({'norm.weight': None, 'norm.weight_int8': torch.zeros(128).to(torch.int8),
                        'norm.weight_scale': torch.ones(1).half()}, 'norm.weight_int8 is'),
}


@pytest.mark.parametrize('name', CHANGES)
def test_a_damaged_checkpoint_is_refused_by_name(folder, name):
    changes, said = CHANGES[name]
    tensors = {**load_file(folder / WEIGHTS), **changes}
    save_file({key: tensor for key, tensor in tensors.items() if tensor is not None},
              folder / WEIGHTS)
    message = refusal(folder)
    assert said in message
    assert str(folder / WEIGHTS) in message


def test_rows_of_half_a_head_are_refused(folder):
    with pytest.raises(CheckpointError, match=r'k_proj.B is .* whole heads of 128'):
        WeightFile(TensorFile(folder / WEIGHTS), head_dim=128)


def test_a_file_cut_off_anywhere_must_be_downloaded_again(folder):
    content = (folder / WEIGHTS).read_bytes()
    n_header = 8 + struct.unpack('<Q', content[:8])[0]
    ends = {n_header + entry['data_offsets'][1]
            for name, entry in json.loads(content[8:n_header]).items() if name != '__metadata__'}
    assert max(ends) == len(content)
    rng = np.random.default_rng(0)
    for size in [0, 8, n_header, *ends - {len(content)}, *rng.integers(9, len(content), 60)]:
        (folder / WEIGHTS).write_bytes(content[:size])
        assert 'again' in refusal(folder)


@pytest.mark.parametrize('content', [b'', bytes(4000), b'{"a": 1}' * 99,
                                     np.random.default_rng(3).bytes(9000), save({})])
def test_garbage_is_refused(folder, content):
    (folder / WEIGHTS).write_bytes(content)
    assert str(folder / WEIGHTS) in refusal(folder)
