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
Weights in the order in which a warp reads them, in 4, 8 or 16 bits.

INT4 is the Marlin layout as it is in checkpoints. INT8 and 16-bit weights follow the same idea:
512 bytes at a time, in which every lane of a warp finds operands of mma.m16n8k16 in 16 bytes.
Layers that share their input are merged by concatenation; nothing is packed anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from voxtral_ros.quantization import marlin
from voxtral_ros.quantization.marlin import GROUP

# Outputs of the strip that one warp computes, by bits; see kernels/cuda/weights.cuh.
STRIP = {4: 64, 8: 32, 16: 16}


@dataclass(frozen=True)
class PackedWeight:
    """A weight of K inputs and N outputs, as gemm.py takes it."""

    bits: int  # 4, 8 or 16
    k: int
    n: int
    codes: Tensor  # [steps of K, N / strip, words of a strip]
    scales: Tensor | None  # fp16 [K / 128, N], permuted in every strip; None for 16 bits

    @property
    def nbytes(self) -> int:
        scales = 0 if self.scales is None else self.scales.nbytes
        return self.codes.nbytes + scales

    def to(self, device: torch.device | str) -> PackedWeight:
        scales = None if self.scales is None else self.scales.to(device)
        return PackedWeight(self.bits, self.k, self.n, self.codes.to(device), scales)


def fits(k: int, n: int) -> bool:
    """Return whether the kernels can take a weight of K inputs and N outputs."""
    return k % GROUP == 0 and n % STRIP[4] == 0


def pack_int4(words: Tensor, scales: Tensor) -> PackedWeight:
    """
    Take a weight as an INT4 checkpoint has it.

    :param words: int32 [K / 16, 2 N], see marlin.pack
    :param scales: fp16 [K / 128, N], permuted, see marlin.permute_scales
    """
    k, n = words.shape[0] * marlin.TILE_K, words.shape[1] // 2
    marlin.check_size(k, n)
    return PackedWeight(4, k, n, words.reshape(words.shape[0], n // STRIP[4], -1), scales)


def pack_int4_codes(codes: Tensor, scales: Tensor) -> PackedWeight:
    """
    Lay out codes, int8 [N, K] of -8..7, with scales fp16 [N, K / 128], where they are.

    See marlin.pack, which does the same in numpy.
    """
    n, k = codes.shape
    unsigned = (codes + marlin.ZERO).to(torch.uint8).T
    axes = unsigned.reshape(k // marlin.TILE_K, 2, 4, 2, n // marlin.TILE_N, 4, 2, 8)
    low, high = axes.permute(0, 4, 7, 2, 5, 3, 6, 1).unbind(-1)
    words = (low | high << 4).reshape(k // marlin.TILE_K, 8 * n).view(torch.int32)
    return pack_int4(words, _permute(scales.T, STRIP[4]))


def pack_int8(codes: Tensor, scales: Tensor) -> PackedWeight:
    """
    Lay out codes, int8 [N, K], with scales fp16 [N, K / 128], as INT8 checkpoints have them.

    In 32 inputs x 16 outputs lane 4 c + r has 16 bytes: for both tiles of 16 inputs, for inputs
    2r.. and 2r + 8.., for outputs c and c + 8, two neighbouring inputs; 128 is added to all.
    """
    n, k = codes.shape
    marlin.check_groups(k)
    unsigned = codes.view(torch.uint8) ^ 128
    # k: 32 step + 16 tile + 8 k_half + 2 r + k_odd;  n: 16 block + 8 n_half + c
    axes = unsigned.reshape(n // 16, 2, 8, k // 32, 2, 2, 4, 2)
    # [step, block, c, r, tile, k_half, n_half, k_odd]
    ordered = axes.permute(3, 0, 2, 6, 4, 5, 1, 7)
    packed = ordered.reshape(k // 32, n // STRIP[8], -1).view(torch.int32)
    return PackedWeight(8, k, n, packed.contiguous(), _permute(scales.T, STRIP[8]))


def pack_dense(weight: Tensor) -> PackedWeight:
    """
    Lay out a 16-bit weight [N, K] in operands of mma.

    In 16 inputs x 16 outputs lane 4 c + r has inputs 2r.. of outputs c and c + 8, then inputs
    2r + 8.. of both.
    """
    n, k = weight.shape
    marlin.check_groups(k)
    axes = weight.reshape(n // 16, 2, 8, k // 16, 2, 4, 2)
    # [tile, block, c, r, k_half, n_half, k_odd]
    ordered = axes.permute(3, 0, 2, 5, 4, 1, 6)
    return PackedWeight(16, k, n, ordered.reshape(k // 16, n // STRIP[16], -1).contiguous(), None)


def concatenate(weights: Sequence[PackedWeight]) -> PackedWeight:
    """Join layers that share their input: their outputs follow each other."""
    first = weights[0]
    codes = torch.cat([weight.codes for weight in weights], dim=1)
    scales = None if first.scales is None \
        else torch.cat([scales_of(weight) for weight in weights], dim=1)
    return PackedWeight(first.bits, first.k, sum(weight.n for weight in weights), codes, scales)


def interleave_gate_up(gate: PackedWeight, up: PackedWeight) -> PackedWeight:
    """Join gate and up strip by strip, as gemm_swiglu wants them."""
    codes = torch.stack((gate.codes, up.codes), dim=2).flatten(1, 2)
    scales = None
    if gate.scales is not None:
        parts = [scales_of(weight).unflatten(1, (-1, STRIP[gate.bits])) for weight in (gate, up)]
        scales = torch.stack(parts, dim=2).flatten(1)
    return PackedWeight(gate.bits, gate.k, gate.n + up.n, codes, scales)


def dequantize(weight: PackedWeight) -> Tensor:
    """Return what a packed weight stands for, float32 [K, N]; what kernels are tested against."""
    if weight.bits == 4:
        words, scales = weight.codes.flatten(1), scales_of(weight)
        dense = marlin.dequantize(words.cpu().numpy(), scales.cpu().numpy())
        return torch.from_numpy(dense).to(words.device)
    if weight.bits == 16:
        axes = weight.codes.reshape(weight.k // 16, weight.n // 16, 8, 4, 2, 2, 2)
        return axes.permute(0, 4, 3, 6, 1, 5, 2).reshape(weight.k, weight.n).float()
    axes = weight.codes.contiguous().view(torch.uint8).reshape(
        weight.k // 32, weight.n // 16, 8, 4, 2, 2, 2, 2)
    codes = axes.permute(0, 4, 5, 3, 7, 1, 6, 2).reshape(weight.k, weight.n).float() - 128
    scales = _permute(scales_of(weight), STRIP[8], undo=True).float()
    return (codes.unflatten(0, (-1, GROUP)) * scales[:, None]).flatten(0, 1)


def columns(weight: PackedWeight, index: Tensor) -> Tensor:
    """
    Return some columns of what an INT4 weight stands for; reads no others, waits for no GPU.

    :param index: int64 [...], of columns
    :return: float32 [..., K]
    """
    words, scales = weight.codes.flatten(1), scales_of(weight)
    tile_k, tile_n = marlin.TILE_K, marlin.TILE_N
    n, k = index[..., None], torch.arange(tile_k, device=index.device)
    # Where marlin.pack has put the rows of a tile.
    word = n // tile_n * 128 + (n % 8 * 4 + k % 8 // 2) * 4 + n % tile_n // 16  # [..., 16]
    nibble = k // 8 % 2 + 2 * (n // 8 % 2) + 4 * (k % 2)
    codes = (words[:, word] >> 4 * nibble & 15) - marlin.ZERO  # [K / 16, ..., 16]
    scale = scales[:, index // tile_n * tile_n + index % 8 * 8 + index % tile_n // 8]
    groups = codes.float().movedim(0, -2).flatten(-2).unflatten(-1, (-1, GROUP))
    return (groups * scale.float().movedim(0, -1)[..., None]).flatten(-2)


def scales_of(weight: PackedWeight) -> Tensor:
    """Return the scales of an INT4 or INT8 weight."""
    assert weight.scales is not None
    return weight.scales


def _permute(scales: Tensor, strip: int, undo: bool = False) -> Tensor:
    """Transpose the scales [K / 128, N] of every strip: those of a lane become neighbours."""
    groups, n = scales.shape
    rows = 8 if undo else strip // 8
    return scales.reshape(groups, n // strip, rows, -1).transpose(2, 3).reshape(groups, n)
