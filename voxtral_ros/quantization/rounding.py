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
From weights to integers and scales: which code stands for a weight, and what it is worth.

Weights are [N, K] like nn.Linear.weight; a group of 128 neighbours in a row shares an fp16 scale.
None of the rules sees data: rounding a weight depends on its own group only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from voxtral_ros.quantization.format import RULES
from voxtral_ros.quantization.marlin import GROUP

_RANGE = {4: (-8, 7), 8: (-127, 127)}  # bits -> lowest and highest code
# Scales that 'mse' tries, relative to the one of 'seed', which is among them.
_FACTORS = torch.linspace(0.6, 1.15, 45).tolist()
# Groups per step of the search: half a megabyte, which stays in the cache of a core.
_CHUNK = 1024


def round_int4(weight: Tensor, rule: str = 'seed') -> tuple[Tensor, Tensor]:
    """
    Quantize to signed 4 bits.

    'seed' is the rule of the original INT4 checkpoint: scale = fp16(max|w| / 8) of the weights in
    fp16, round half to even, clamp; the largest weight of a group clips to 7/8 if it is positive.
    'mse' takes of 45 scales between 0.6 and 1.15 times that, with either sign, the one with the
    least squared error; a negative scale costs no kernel anything.
    A group of zeros has scale 0 and stays zero.

    :param weight: [N, K], K a multiple of 128
    :param rule: one of RULES
    :return: int8 [N, K] in -8..7 and fp16 [N, K / 128]
    :raises ValueError: a weight is not finite in fp16
    """
    groups = _groups(weight.half())
    scale = _fp16(groups.abs().amax(-1).clamp(min=1e-10) / 8)
    if rule == 'mse':
        scale = _search(groups.flatten(0, 1), scale.flatten()).view_as(scale)
    elif rule != 'seed':
        raise ValueError(f'rounding {rule!r} is none of {", ".join(RULES)}')
    return nearest(weight, scale, 4), scale


def round_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """
    Quantize to signed 8 bits: scale = fp16(max|w| / 127), round half to even.

    :param weight: [N, K], K a multiple of 128
    :return: int8 [N, K] in -127..127 and fp16 [N, K / 128]
    :raises ValueError: a weight is not finite in fp16
    """
    scale = _fp16(_groups(weight.half()).abs().amax(-1) / 127)
    return nearest(weight, scale, 8), scale


def nearest(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """
    Return the codes, int8 [N, K], that come nearest to a weight with given scales.

    The weight goes through fp16 first, as in the original; the quotient is fp32.
    """
    return _codes(_groups(weight.half()), scale, *_RANGE[bits]).to(torch.int8).flatten(1)


def dequantize(codes: Tensor, scale: Tensor) -> Tensor:
    """Return codes, int8 [N, K], times their scales, fp16 [N, K / 128], as float32 [N, K]."""
    return _groups(codes).mul_(scale.float()[..., None]).flatten(1)


def _groups(weight: Tensor) -> Tensor:
    """Return [N, K] as float32 [N, K / 128, 128]."""
    return weight.float().unflatten(1, (-1, GROUP))


def _fp16(scale: Tensor) -> Tensor:
    if not scale.isfinite().all():
        raise ValueError('weights are infinite, not a number, or beyond the range of fp16')
    return scale.half()


def _codes(groups: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
    """Return the integers nearest to groups [..., 128] / scale [...], clamped, as float."""
    # Where the scale is 0, all weights are 0 or too small for any fp16 scale: their code is 0.
    divisor = torch.where(scale == 0, torch.inf, scale.float())
    return (groups / divisor[..., None]).round_().clamp_(low, high)


def _search(groups: Tensor, scale: Tensor) -> Tensor:
    """Return for groups [G, 128] the fp16 scales [G], near `scale`, of least squared error."""
    best = scale.clone()
    for start in range(0, len(groups), _CHUNK):
        chunk = groups[start:start + _CHUNK]
        seed = scale[start:start + _CHUNK].float()
        least = torch.full_like(seed, torch.inf)
        for factor in _FACTORS:
            for sign in (1, -1):
                tried = (seed * (sign * factor)).half()
                values = _codes(chunk, tried, *_RANGE[4]).mul_(tried.float()[:, None])
                error = values.sub_(chunk).square_().sum(-1)
                better = error < least
                least = torch.where(better, error, least)
                best[start:start + _CHUNK] = torch.where(
                    better, tried, best[start:start + _CHUNK])
    return best
