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

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

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


def pack(codes: Array) -> Array:
    """
    Lay out codes, uint8 [K, N] of 0..15, as Marlin words, int32 [K / 16, 2 N].

    K must be a multiple of 16 and N of 64. Code (k, n) is in the word
    [k // 16, n // 64 * 128 + lane * 4 + j], where lane = n % 8 * 4 + k % 8 // 2 and
    j = n % 64 // 16, the nibble k // 8 % 2 + 2 * (n // 8 % 2) + 4 * (k % 2) from bit 0.
    """
    k, n = codes.shape
    # row in a tile: 8 k_half + 2 k_lane + k_odd;  column: 16 j + 8 n_half + n_lane
    axes = codes.reshape(k // TILE_K, 2, 4, 2, n // TILE_N, 4, 2, 8)
    # [k_half, k tile, n tile, n_lane, k_lane, j, k_odd, n_half]
    low, high = axes.transpose(1, 0, 4, 7, 2, 5, 3, 6)
    return (low | high << 4).reshape(k // TILE_K, 8 * n).view(np.int32)


def unpack(words: Array) -> Array:
    """Return the codes, uint8 [K, N], of Marlin words, int32 [K / 16, 2 N]: undo `pack`."""
    k_tiles, n = words.shape[0], words.shape[1] // 2
    pairs = np.ascontiguousarray(words).view(np.uint8).reshape(
        k_tiles, n // TILE_N, 8, 4, 4, 2, 2)
    # [k tile, k_lane, k_odd, n tile, j, n_half, n_lane]
    pairs = pairs.transpose(0, 3, 5, 1, 4, 6, 2)
    codes = np.empty((k_tiles, 2, *pairs.shape[1:]), np.uint8)
    np.bitwise_and(pairs, 15, out=codes[:, 0])
    np.right_shift(pairs, 4, out=codes[:, 1])
    return codes.reshape(k_tiles * TILE_K, n)


def permute_scales(scales: Array) -> Array:
    """
    Reorder grouped scales, [K / 128, N], for the layout, or back: it is its own inverse.

    In every 64 columns an 8 x 8 transpose: a lane reads the scales of its columns c, c + 8, ...,
    c + 56 at once.
    """
    groups, n = scales.shape
    return scales.reshape(groups, n // TILE_N, 8, 8).swapaxes(2, 3).reshape(groups, n)


def dequantize(words: Array, scales: Array) -> Array:
    """
    Return the weight that a packed layer stands for; what kernels are tested against.

    :param words: int32 [K / 16, 2 N]
    :param scales: fp16 [K / 128, N], permuted
    :return: float32 [K, N], exact: a code has 4 bits and a scale 11
    """
    codes = unpack(words).astype(np.float32).reshape(len(scales), GROUP, -1) - np.float32(ZERO)
    weight: Array = codes * permute_scales(scales).astype(np.float32)[:, None]  # [K / 128, 128, N]
    return weight.reshape(-1, scales.shape[1])
