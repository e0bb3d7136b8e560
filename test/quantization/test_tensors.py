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

"""Weights as arrays and as tensors: the same numbers, whatever their type and way of storage."""

import numpy as np
import pytest
from quantization import packable
from safetensors.torch import save_file
import torch

from voxtral_ros.quantization import rounding, tensorfile, tensors
from voxtral_ros.quantization.format import Recipe
from voxtral_ros.quantization.quantizer import quantize
from voxtral_ros.quantization.tensorfile import TensorFile
from voxtral_ros.quantization.weights import WeightFile, WEIGHTS

NORM = 'norm.weight'
FLOATS = {'F64': torch.float64, 'F32': torch.float32, 'BF16': torch.bfloat16,
          'F16': torch.float16}


@pytest.mark.parametrize('name', tensors.TORCH_DTYPES)
def test_an_array_and_its_tensor_share_their_memory(name):
    tensor = torch.arange(6).reshape(2, 3).to(tensors.TORCH_DTYPES[name])
    array = tensors.as_array(tensor)
    assert array.dtype == tensorfile.DTYPES[name]
    again = tensors.as_tensor(array, name)
    assert torch.equal(again, tensor)
    assert again.data_ptr() == tensor.data_ptr()


@pytest.mark.parametrize('name', FLOATS)
def test_the_cpu_gets_float32_or_the_bits_of_bfloat16(tmp_path, monkeypatch, name):
    monkeypatch.setattr(tensorfile, '_BUFFER', 40)
    tensor = (torch.randn(5, 7, 3) * 100).to(FLOATS[name])
    save_file({NORM: tensor}, tmp_path / WEIGHTS)
    with WeightFile(TensorFile(tmp_path / WEIGHTS), head_dim=16) as weights:
        array = weights.array(NORM)
        assert weights.main_dtype == name
        for dtype in FLOATS.values():
            assert torch.equal(tensors.read_weight(weights, NORM, 'cpu', dtype),
                               tensor.to(dtype))
    assert array.flags.c_contiguous
    if name == 'BF16':
        assert array.dtype == np.uint16
        assert np.array_equal(array, tensor.view(torch.int16).numpy().view(np.uint16))
    else:
        assert array.dtype == np.float32
        assert np.array_equal(array, tensor.float().numpy())


def test_a_packed_weight_is_what_its_blocks_stand_for(tmp_path, monkeypatch):
    """Whole, as GPUs take it, and in blocks, as CPUs do."""
    monkeypatch.setattr('voxtral_ros.quantization.weights._BLOCK', 9000)
    quantize(packable.write(tmp_path / 'dense'), tmp_path / 'small', Recipe('mse', 8, 4))
    small = TensorFile(tmp_path / 'small' / WEIGHTS)
    with WeightFile(small, packable.PARAMS['head_dim']) as weights:
        name = packable.ENCODER_LINEARS[0]
        assert weights.kind(name) == 'int8'
        whole = rounding.dequantize(*tensors.read_packed(weights, name, 'cpu'))
        blocks = list(tensors.read_codes(weights, name))
        assert len(blocks) > 1
        assert torch.equal(torch.cat([rounding.dequantize(codes, scale)
                                      for _, codes, scale in blocks]), whole)
        assert torch.equal(tensors.read_weight(weights, name, 'cpu', torch.float32), whole)
        words, scales = tensors.read_packed(weights, packable.HEAD, 'cpu')
        assert words.dtype == torch.int32
        assert scales.dtype == torch.float16
        n, k = weights.shape(packable.HEAD)
        assert words.shape == (k // 16, 2 * n)
        assert scales.shape == (k // 128, n)
