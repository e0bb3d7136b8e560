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
Weights as the CPU kernels take them: bf16, INT8 and INT4 stay as small as they are in the file.

All of it is numpy: a process that runs on a CPU needs no torch for this.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

GROUP = 128  # inputs that share a scale
_HALF = 16  # codes of INT4 in the low halves of as many bytes, and as many in the high halves
Array = npt.NDArray[Any]


class StoredWeights(Protocol):
    """What is needed of an open checkpoint file; see quantization.weights.WeightFile."""

    def kind(self, name: str) -> str:
        """Return how a weight is stored: 'dense', 'int8' or 'int4'; '' if there is none."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a weight."""

    def array(self, name: str) -> Array:
        """Read a dense weight: float32, or the bits of bfloat16 as uint16."""

    def code_arrays(self, name: str) -> Iterator[tuple[int, Array, Array]]:
        """Read a quantized weight in blocks of rows: first row, int8 codes, fp16 scales."""


@dataclass(frozen=True)
class CpuWeight:
    """A weight [N, K], row after row."""

    bits: int  # 32, 16 (bf16), 8 or 4
    codes: Array  # float32, uint16 (bf16) or int8 [N, K], uint8 [N, K / 2]
    scales: Array | None = None  # float32 [N, K / 128] of INT8 and INT4

    @property
    def shape(self) -> tuple[int, int]:
        n, columns = self.codes.shape
        return n, columns * (2 if self.bits == 4 else 1)

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + (0 if self.scales is None else self.scales.nbytes)


def read_weight(weights: StoredWeights, name: str, packed: bool = True) -> CpuWeight:
    """
    Read a weight [N, ...] from a file; further axes are flattened.

    :param name: checkpoint name
    :param packed: let it be as small as it is in the file; else float32
    """
    kind = weights.kind(name)
    if kind == 'dense':
        codes = weights.array(name)
        codes = codes.reshape(len(codes), -1)
        if codes.dtype == np.uint16 and not packed:
            codes = float_of(codes)
        return CpuWeight(8 * codes.itemsize, codes)
    n, k = weights.shape(name)
    bits = 4 if kind == 'int4' else 8
    codes = np.empty((n, k * bits // 8), np.uint8 if bits == 4 else np.int8)
    scales = np.empty((n, k // GROUP), np.float32)
    for start, block, scale in weights.code_arrays(name):  # never two copies of a whole weight
        rows = slice(start, start + len(block))
        codes[rows] = pack_int4(block) if bits == 4 else block
        scales[rows] = scale
    return CpuWeight(bits, codes, scales)


def float_of(bits: Array) -> Array:
    """Return bfloat16 numbers, given as the uint16 of their bits, as float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def pack_int4(codes: Array) -> Array:
    """Pack codes of -8..7, int8 [N, K], in pairs 16 apart: uint8 [N, K / 2]."""
    pairs = (codes + np.int8(8)).astype(np.uint8).reshape(len(codes), -1, 2, _HALF)
    packed: Array = (pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(len(codes), -1)
    return packed
