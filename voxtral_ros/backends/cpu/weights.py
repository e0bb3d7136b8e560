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

They lie in panels of 16 outputs, in the order in which they are read; kernels/cpu/network.h has
the layout. All of it is numpy: a process that runs on a CPU needs no torch for this.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
import math
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

GROUP = 128  # inputs that share a scale
PANEL = 16  # outputs that lie side by side
_BLOCK = 32 << 20  # bytes
_LINE, _HUGE_PAGE = 64, 2 << 20  # bytes of a cache line and of a huge page
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
    """A weight of N outputs and K inputs, in panels; the last one is filled with zeros."""

    shape: tuple[int, int]  # N, K
    bits: int  # 32, 16 (bf16), 8 or 4
    codes: Array  # float32 or uint16 [P, K, 16], int8 [P, K / 4, 16, 4], uint8 [P, K / 8, 16, 4]
    scales: Array | None = None  # float32 [P, K / 128, 16] of INT8 and INT4

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + (0 if self.scales is None else self.scales.nbytes)


class WeightMemory:
    """
    Memory for arrays that a pass reads one after the other.

    They lie in few large blocks, for which numpy asks for huge pages: with small pages, a pass is
    an eighth slower.
    """

    def __init__(self) -> None:
        self._free = np.empty(0, np.uint8)

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Return an array of zeros."""
        n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        needed = -(-n_bytes // _LINE) * _LINE
        if needed > len(self._free):
            block = np.empty(max(needed, _BLOCK) + _HUGE_PAGE, np.uint8)
            self._free = block[-block.ctypes.data % _HUGE_PAGE:]
        out, self._free = self._free[:n_bytes], self._free[needed:]
        out[:] = 0
        return out.view(dtype).reshape(shape)


def read_weight(weights: StoredWeights, name: str, memory: WeightMemory) -> CpuWeight:
    """
    Read a weight [N, ...] from a file; further axes are flattened.

    :param name: checkpoint name
    """
    kind = weights.kind(name)
    n, *rest = weights.shape(name)
    k = math.prod(rest)
    n_panels = -(-n // PANEL)
    if kind == 'dense':
        dense = weights.array(name)
        codes = memory.zeros((n_panels, k, PANEL), dense.dtype)
        _put(codes, 0, dense.reshape(n, k, 1))
        return CpuWeight((n, k), 8 * codes.itemsize, codes)
    bits = 4 if kind == 'int4' else 8
    dtype = np.uint8 if bits == 4 else np.int8
    codes = memory.zeros((n_panels, k * bits // 32, PANEL, 4), dtype)
    scales = memory.zeros((n_panels, k // GROUP, PANEL), np.float32)
    for start, block, scale in weights.code_arrays(name):  # never two copies of a whole weight
        _put(codes, start, pack_int4(block) if bits == 4 else block.reshape(len(block), -1, 4))
        _put(scales, start, scale[:, :, None])
    return CpuWeight((n, k), bits, codes, scales)


def _put(panels: Array, start: int, rows: Array) -> None:
    """Put rows [R, C, D] into panels, [P, C, 16] or [P, C, 16, D], from row `start` on."""
    panels = panels.reshape(*panels.shape[:2], PANEL, -1)
    first = min(-start % PANEL, len(rows))  # rows that complete a panel
    whole = (len(rows) - first) // PANEL * PANEL
    for begin, end in ((0, first), (first + whole, len(rows))):
        if begin < end:
            panel, place = divmod(start + begin, PANEL)
            panels[panel, :, place:place + end - begin] = rows[begin:end].swapaxes(0, 1)
    if whole:
        panel = (start + first) // PANEL
        blocks = rows[first:first + whole].reshape(-1, PANEL, *rows.shape[1:])
        panels[panel:panel + len(blocks)] = blocks.swapaxes(1, 2)


def float_of(bits: Array) -> Array:
    """Return bfloat16 numbers, given as the uint16 of their bits, as float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def pack_int4(codes: Array) -> Array:
    """Pack codes of -8..7, int8 [N, K], in pairs 4 apart: uint8 [N, K / 8, 4]."""
    pairs = (codes + np.int8(8)).astype(np.uint8).reshape(len(codes), -1, 2, 4)
    packed: Array = pairs[:, :, 0] | pairs[:, :, 1] << 4
    return packed
