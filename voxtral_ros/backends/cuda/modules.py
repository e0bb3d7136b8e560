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
Linear layers that keep their weight packed, where an operator for that is faster.

Everywhere else a quantized weight is dequantized once, when it is loaded.
"""

from __future__ import annotations

import torch
from torch import nn, Tensor
from voxtral_ros.backends.cuda.gemm import matmul
from voxtral_ros.backends.cuda.library import available, DTYPES
from voxtral_ros.backends.cuda.weights import fits, pack_int4, pack_int8, PackedWeight
from voxtral_ros.quantization import marlin
from voxtral_ros.quantization.format import HEAD, is_decoder_linear, is_rotated
from voxtral_ros.quantization.marlin import GROUP, ZERO
from voxtral_ros.quantization.weights import WeightFile


def packed_layer(weights: WeightFile, native: str, device: torch.device,
                 dtype: torch.dtype) -> nn.Module | None:
    """
    Return a layer for a quantized weight that stays packed, or None to dequantize it.

    The one place that knows which operators there are.

    :param dtype: of the inputs
    """
    stored = weights.stored[native]
    if stored.kind != 'dense' and device.type == 'cuda' \
            and dtype in DTYPES and fits(*stored.shape[::-1]) and available():
        if native != HEAD:
            return KernelLinear.read(weights, native, device)
        if stored.kind == 'int4':
            return PackedEmbedding(pack_int4(*weights.raw(HEAD, device)), dtype)
    if stored.kind == 'int4' and is_decoder_linear(native) \
            and device.type == 'cpu' and dtype == torch.bfloat16 and CpuInt4Linear.pays():
        return CpuInt4Linear(weights, native)
    return None


class KernelLinear(nn.Module):
    """
    Linear layer over a weight that is packed for the CUDA kernels.

    Rows of q and k stay in the order of the file, which for INT4 is not the native one; `forward`
    reorders what it returns, fused attention takes them as they are.
    """

    bias: nn.Parameter | None

    def __init__(self, packed: PackedWeight, half_split: bool, head_dim: int) -> None:
        """
        Take a weight.

        :param half_split: rows of whole heads are in that order, see weights.half_split
        """
        super().__init__()
        self.packed, self.half_split, self.head_dim = packed, half_split, head_dim
        self.register_parameter('bias', None)

    @classmethod
    def read(cls, weights: WeightFile, native: str, device: torch.device) -> KernelLinear:
        """Read the weight `native`, which is stored in INT4 or INT8."""
        kind = weights.stored[native].kind
        pack = pack_int4 if kind == 'int4' else pack_int8
        return cls(pack(*weights.raw(native, device)), kind == 'int4' and is_rotated(native),
                   weights.head_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., K] to [..., N]."""
        out = matmul(x, self.packed, self.bias)
        if self.half_split:
            heads = out.unflatten(-1, (-1, 2, self.head_dim // 2))
            out = heads.transpose(-1, -2).flatten(-3)
        return out


class PackedEmbedding(nn.Module):
    """
    Token embedding and output head over one INT4 weight, packed for the CUDA kernels.

    An embedding is a column of the head: a few kilobytes, dequantized when it is needed. In 16
    bits the table would take four times the memory of the head and serve for nothing else.
    """

    def __init__(self, packed: PackedWeight, dtype: torch.dtype) -> None:
        """Take the head, [dim, vocabulary] in INT4; embeddings come in `dtype`."""
        super().__init__()
        self.packed, self.dtype = packed, dtype

    def forward(self, tokens: Tensor) -> Tensor:
        """Map int64 [...] to [..., dim]."""
        packed = self.packed
        assert packed.scales is not None
        return marlin.columns(packed.codes.flatten(1), packed.scales, tokens).to(self.dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """Map [..., dim] to [..., vocabulary]."""
        return matmul(hidden, self.packed)


class CpuInt4Linear(nn.Module):
    """
    Linear layer without bias over torch's INT4 operator for CPUs.

    The operator has fast paths for bfloat16 with AVX2 or AVX-512 alone; in float32 it is 9 times
    slower than a dequantized weight. In bfloat16 it beats that up to about 4 rows: 9216 x 3072 on
    one thread of a Xeon, 1.2 ms against 3.5 ms for one row, 2.5 against 2.9 for four, 4.8 against
    3.2 for eight. Scales are rounded to bfloat16.
    """

    packed: Tensor  # uint8 [N, K / 2]
    scale_and_zero: Tensor  # bfloat16 [K / 128, N, 2]

    def __init__(self, weights: WeightFile, native: str) -> None:
        """Read the weight `native`, which is stored in INT4."""
        super().__init__()
        n, k = weights.stored[native].shape
        self.register_buffer('packed', torch.empty(n, k // 2, dtype=torch.uint8))
        self.register_buffer('scale_and_zero', torch.zeros(k // GROUP, n, 2, dtype=torch.bfloat16))
        # Blocks have multiples of 64 rows, and so have the tiles of the operator's layout.
        for start, codes, scale in weights.codes(native):
            rows = slice(start, start + len(codes))
            self.packed[rows] = torch.ops.aten._convert_weight_to_int4pack_for_cpu(
                codes.int() + ZERO, 1)
            self.scale_and_zero[:, rows, 0] = scale.T

    @staticmethod
    def pays() -> bool:
        """Return whether this machine has the fast path."""
        return hasattr(torch.ops.aten, '_weight_int4pack_mm_for_cpu') \
            and torch.backends.cpu.get_cpu_capability().startswith('AVX')

    def forward(self, x: Tensor) -> Tensor:
        """Map bfloat16 [..., K] to [..., N]."""
        rows = x.flatten(0, -2).contiguous()
        out = torch.ops.aten._weight_int4pack_mm_for_cpu(
            rows, self.packed, GROUP, self.scale_and_zero)
        return out.unflatten(0, x.shape[:-1])
