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
Weights of a checkpoint as tensors of torch, on any device.

A tensor goes through a small buffer in the memory of the host to its place, whatever the device:
there is never a second copy of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from voxtral_ros.quantization import rounding
from voxtral_ros.quantization.tensorfile import Array, DTYPES, TensorSource
from voxtral_ros.quantization.weights import WeightFile

# By the names that safetensors have for them.
TORCH_DTYPES = {
    'I64': torch.int64, 'F64': torch.float64, 'F32': torch.float32, 'I32': torch.int32,
    'BF16': torch.bfloat16, 'F16': torch.float16, 'I16': torch.int16, 'I8': torch.int8,
    'U8': torch.uint8, 'BOOL': torch.bool,
}
NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}


def as_tensor(array: Array, dtype: str) -> Tensor:
    """Return an array of a file, of a type as safetensors call it, in the same memory."""
    if dtype == 'BF16':
        return torch.from_numpy(array.view('i2')).view(torch.bfloat16)
    return torch.from_numpy(array)


def as_array(tensor: Tensor) -> Array:
    """Return a tensor as files have it, in the same memory: bfloat16 as the uint16 of its bits."""
    if tensor.dtype == torch.bfloat16:
        bits: Array = tensor.view(torch.int16).numpy()
        return bits.view(DTYPES['BF16'])
    array: Array = tensor.numpy()
    return array


def read_tensor(file: TensorSource, name: str, device: torch.device | str = 'cpu',
                dtype: torch.dtype | None = None) -> Tensor:
    """Read a tensor of a file to a device, as another type if asked for."""
    spec = file.specs[name]
    out = torch.empty(spec.shape, dtype=dtype or TORCH_DTYPES[spec.dtype], device=device)
    flat = out.view(-1)
    for first, part in file.pieces(name):
        flat[first:first + len(part)].copy_(as_tensor(part, spec.dtype))
    return out


def read_weight(weights: WeightFile, weight_name: str, device: torch.device | str,
                dtype: torch.dtype) -> Tensor:
    """Read a weight as `dtype`, dequantized if it is quantized."""
    stored = weights.stored[weight_name]
    if stored.kind == 'dense':
        return read_tensor(weights.file, stored.names[0], device, dtype)
    out = torch.empty(stored.shape, dtype=dtype, device=device)
    for start, codes, scale in read_codes(weights, weight_name):
        rows = rounding.dequantize(codes.to(device), scale.to(device))
        out[start:start + len(codes)] = rows
    return out


def read_rows(weights: WeightFile, weight_name: str, start: int, stop: int) -> Tensor:
    """Read rows of a dense weight, in the type of the file."""
    return as_tensor(weights.rows(weight_name, start, stop), weights.dtype(weight_name))


def read_codes(weights: WeightFile, weight_name: str) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Read a quantized weight in blocks of rows, see WeightFile.code_arrays."""
    for start, codes, scale in weights.code_arrays(weight_name):
        yield start, torch.from_numpy(codes), torch.from_numpy(scale)


def read_packed(weights: WeightFile, weight_name: str, device: torch.device | str,
                ) -> tuple[Tensor, Tensor]:
    """
    Read a quantized weight as the file has it.

    :return: INT4: Marlin words int32 [K / 16, 2 N] and permuted scales fp16 [K / 128, N];
        INT8: codes int8 [N, K] and scales fp16 [N, K / 128]
    """
    codes, scales = (read_tensor(weights.file, name, device)
                     for name in weights.stored[weight_name].names)
    return codes, scales
