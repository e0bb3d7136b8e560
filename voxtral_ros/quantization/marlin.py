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
The Marlin layout of INT4 weights: bytes that a GPU reads in the order in which it multiplies.

Here K is the number of inputs and N of outputs of a linear layer, so a weight is [K, N], the
transpose of nn.Linear.weight. A code is a nibble q in 0..15 that stands for (q - 8) * scale, with
one fp16 scale per output and group of 128 inputs. Tiles of 16 x 64 codes lie together, 512 bytes;
in a tile, every lane of a warp finds its operands of mma.m16n8k16 in 16 consecutive bytes.
Source: github.com/IST-DASLab/marlin, marlin/__init__.py; written here as index arithmetic.
"""

from __future__ import annotations

import torch
from torch import Tensor

GROUP = 128  # inputs that share a scale
TILE_K, TILE_N = 16, 64
ZERO = 8  # the code of 0


def check_size(k: int, n: int) -> None:
    """Raise ValueError unless a weight of k inputs and n outputs can be packed."""
    check_groups(k)
    if n % TILE_N:
        raise ValueError(f'{n} outputs, which is no multiple of {TILE_N}')


def check_groups(k: int) -> None:
    """Raise ValueError unless k inputs are whole groups."""
    if k % GROUP:
        raise ValueError(f'{k} inputs, which is no multiple of {GROUP}')


def pack(codes: Tensor) -> Tensor:
    """
    Lay out codes, uint8 [K, N] of 0..15, as Marlin words, int32 [K / 16, 2 N].

    K must be a multiple of 16 and N of 64. Code (k, n) is in the word
    [k // 16, n // 64 * 128 + lane * 4 + j], where lane = n % 8 * 4 + k % 8 // 2 and
    j = n % 64 // 16, the nibble k // 8 % 2 + 2 * (n // 8 % 2) + 4 * (k % 2) from bit 0.
    """
    k, n = codes.shape
    # row in a tile: 8 k_half + 2 k_lane + k_odd;  column: 16 j + 8 n_half + n_lane
    axes = codes.reshape(k // TILE_K, 2, 4, 2, n // TILE_N, 4, 2, 8)
    # [k tile, n tile, n_lane, k_lane, j, k_odd, n_half, k_half]
    ordered = axes.permute(0, 4, 7, 2, 5, 3, 6, 1)
    low, high = ordered.unbind(-1)
    return (low | high << 4).reshape(k // TILE_K, 8 * n).view(torch.int32)


def unpack(words: Tensor) -> Tensor:
    """Return the codes, uint8 [K, N], of Marlin words, int32 [K / 16, 2 N]: undo `pack`."""
    k_tiles, n = words.shape[0], words.shape[1] // 2
    pairs = words.contiguous().view(torch.uint8).reshape(k_tiles, n // TILE_N, 8, 4, 4, 2, 2)
    ordered = torch.stack((pairs & 15, pairs >> 4), dim=-1)
    axes = ordered.permute(0, 7, 3, 5, 1, 4, 6, 2)
    return axes.reshape(k_tiles * TILE_K, n)


def permute_scales(scales: Tensor) -> Tensor:
    """
    Reorder grouped scales, [K / 128, N], for the layout, or back: it is its own inverse.

    In every 64 columns an 8 x 8 transpose: a lane reads the scales of its columns c, c + 8, ...,
    c + 56 at once.
    """
    groups, n = scales.shape
    return scales.reshape(groups, n // TILE_N, 8, 8).transpose(2, 3).reshape(groups, n)


def dequantize(words: Tensor, scales: Tensor) -> Tensor:
    """
    Return the weight that a packed layer stands for; what kernels are tested against.

    :param words: int32 [K / 16, 2 N]
    :param scales: fp16 [K / 128, N], permuted
    :return: float32 [K, N], exact: a code has 4 bits and a scale 11
    """
    values = unpack(words).float().sub_(ZERO).unflatten(0, (-1, GROUP))  # [K / 128, 128, N]
    return values.mul_(permute_scales(scales).float()[:, None]).flatten(0, 1)


def columns(words: Tensor, scales: Tensor, index: Tensor) -> Tensor:
    """
    Return some columns of what `dequantize` returns, reading no others; never waits for a GPU.

    :param index: int64 [...], of columns
    :return: float32 [..., K]
    """
    n, k = index[..., None], torch.arange(TILE_K, device=index.device)
    # Where `pack` has put the rows of a tile.
    word = n // TILE_N * 128 + (n % 8 * 4 + k % 8 // 2) * 4 + n % TILE_N // 16  # [..., 16]
    nibble = k // 8 % 2 + 2 * (n // 8 % 2) + 4 * (k % 2)
    codes = (words[:, word] >> 4 * nibble & 15) - ZERO  # [K / 16, ..., 16]
    scale = scales[:, index // TILE_N * TILE_N + index % 8 * 8 + index % TILE_N // 8]
    groups = codes.float().movedim(0, -2).flatten(-2).unflatten(-1, (-1, GROUP))
    return (groups * scale.float().movedim(0, -1)[..., None]).flatten(-2)
