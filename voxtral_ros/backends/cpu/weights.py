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
Weights as the CPU passes take them: bf16, INT8 and INT4 stay as small as they are in the file.

The network can run with them in PyTorch, too: then they are dequantized whenever they are used.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn, Tensor
import torch.nn.functional as F
from voxtral_ros.quantization.marlin import GROUP, ZERO
from voxtral_ros.quantization.weights import WeightFile

_HALF = 16  # codes of INT4 in the low halves of as many bytes, and as many in the high halves


@dataclass(frozen=True)
class NativeWeight:
    """A weight [N, K], row after row."""

    storage: int  # bits: 32, 16 (bf16), 8 or 4
    codes: Tensor  # float32 or bfloat16 [N, K], int8 [N, K], uint8 [N, K / 2]
    scales: Tensor | None = None  # float32 [N, K / 128] of INT8 and INT4

    @classmethod
    def read(cls, weights: WeightFile, native: str) -> NativeWeight | None:
        """Read a weight from a file; None if it has to be float32."""
        stored = weights.stored[native]
        if stored.kind == 'dense':
            if weights.dtype(native) != torch.bfloat16:
                return None
            return cls(16, weights.read(native, 'cpu', torch.bfloat16))
        n, k = stored.shape
        bits = 8 if stored.kind == 'int8' else 4
        codes = torch.empty(n, k * bits // 8, dtype=torch.int8 if bits == 8 else torch.uint8)
        scales = torch.empty(n, k // GROUP)
        for start, block, scale in weights.codes(native):
            rows = slice(start, start + len(block))
            codes[rows] = block if bits == 8 else pack_int4(block)
            scales[rows] = scale
        return cls(bits, codes, scales)

    def dequantize(self, rows: Tensor | slice = slice(None)) -> Tensor:
        """Return some rows as float32 [..., K]."""
        codes = self.codes[rows]
        if self.scales is None:
            return codes.float()
        groups = (unpack_int4(codes) if self.storage == 4 else codes).unflatten(-1, (-1, GROUP))
        return (groups * self.scales[rows][..., None]).flatten(-2)


def pack_int4(codes: Tensor) -> Tensor:
    """Pack codes of -8..7, int8 [N, K], in pairs 16 apart: uint8 [N, K / 2]."""
    low, high = (codes + ZERO).to(torch.uint8).unflatten(1, (-1, 2, _HALF)).unbind(2)
    return (low | high << 4).flatten(1)


def unpack_int4(packed: Tensor) -> Tensor:
    """Undo pack_int4: int8 [..., K]."""
    halves = packed.unflatten(-1, (-1, _HALF))  # [..., K / 32, 16]
    pairs = torch.stack((halves & 15, halves >> 4), dim=-2)
    return pairs.flatten(-3).to(torch.int8) - ZERO


class NativeLinear(nn.Module):
    """Linear layer over a NativeWeight."""

    bias: nn.Parameter | None

    def __init__(self, native: NativeWeight) -> None:
        super().__init__()
        self.native = native
        self.register_parameter('bias', None)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 [..., K] to [..., N]."""
        return F.linear(x, self.native.dequantize(), self.bias)


class NativeEmbedding(nn.Module):
    """Token embedding over a NativeWeight."""

    def __init__(self, native: NativeWeight) -> None:
        super().__init__()
        self.native = native

    @property
    def weight(self) -> Tensor:
        return self.native.dequantize()

    def forward(self, tokens: Tensor) -> Tensor:
        """Map int64 [...] to float32 [..., K]."""
        return self.native.dequantize(tokens)


def native_layer(weights: WeightFile, native: str, layer: nn.Module) -> nn.Module | None:
    """
    Return a layer for a weight that stays as small as it is, or None to make it float32.

    :param layer: what it is to replace
    """
    if not native.endswith('.weight') or 'ada_rms_norm' in native:
        return None
    kind = {nn.Linear: NativeLinear, nn.Embedding: NativeEmbedding}.get(type(layer))
    weight = NativeWeight.read(weights, native) if kind else None
    return kind(weight) if kind and weight else None
