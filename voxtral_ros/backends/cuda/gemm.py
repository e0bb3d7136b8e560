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
GEMM of few rows with packed weights: the CUDA kernel, or the same in plain PyTorch.

How K is shared out among warps and blocks follows from the shape of the weight alone, so that a
row of the result depends neither on the other rows nor on the GPU.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
import torch.nn.functional as F

from voxtral_ros.backends.cuda.library import call, DTYPES
from voxtral_ros.backends.cuda.weights import dequantize, PackedWeight, STRIP
from voxtral_ros.quantization.marlin import GROUP

_STORE, _SPLIT_K, _SWIGLU, _LOGITS = range(4)  # epilogues of the kernel
_WARPS = 1152  # of all blocks: enough copies under way for any GPU, and many per SM of an Orin
# Warps per strip in a block. Few: a block that is small leaves room for others, and they read
# while it adds up. Measured: bench/results/kernels.md.
_MOST = {_STORE: 8, _SPLIT_K: 6, _SWIGLU: 4, _LOGITS: 4}


@cache
def plan(k: int, n: int, bits: int, epilogue: int = _STORE) -> tuple[int, int]:
    """
    Return into how many warps per strip of a block, and into how many blocks, K is split.

    All shares are equal. Only partial sums may come from several blocks.
    """
    groups, most = k // GROUP, _MOST[epilogue]
    divisors = [d for d in range(1, groups + 1) if groups % d == 0]
    wanted = max(4, -(-_WARPS // (n // STRIP[bits])))
    if epilogue == _SPLIT_K:
        shares = max(d for d in divisors if d <= wanted)
        warps = max(d for d in range(1, most + 1) if shares % d == 0)
        return warps, shares // warps
    if epilogue == _STORE:
        enough = [d for d in divisors if wanted <= d <= most]
        if enough:
            return min(enough), 1
    return max(d for d in divisors if d <= most), 1


def gemm(x: Tensor, weight: PackedWeight, bias: Tensor | None = None) -> Tensor:
    """
    Return x W (+ bias), summed in fp32.

    :param x: fp16 or bfloat16 [..., K]; on the CPU also float32
    :param bias: [N], in the type of x
    :return: [..., N], in the type of x
    """
    if not x.is_cuda:
        out = x.float() @ dequantize(weight)
        return (out if bias is None else out + bias.float()).to(x.dtype)
    x = x.contiguous()
    y = x.new_empty(*x.shape[:-1], weight.n)
    _launch(x, weight, _STORE, y, bias=bias)
    return y


def gemm_split_k(x: Tensor, weight: PackedWeight) -> Tensor:
    """
    Return x W as the sums of the splits of K, float32 [splits, ..., N]; see add_rms_norm.

    :param x: [..., K], 16 bits
    """
    if not x.is_cuda:
        return (x.float() @ dequantize(weight))[None]
    x = x.contiguous()
    splits = plan(weight.k, weight.n, weight.bits, _SPLIT_K)[1]
    y = x.new_empty(splits, *x.shape[:-1], weight.n, dtype=torch.float32)
    _launch(x, weight, _SPLIT_K, y)
    return y


def gemm_swiglu(x: Tensor, weight: PackedWeight) -> Tensor:
    """
    Return silu(x W_gate) * (x W_up), [..., N / 2], in the type of x.

    :param x: [..., K], 16 bits
    :param weight: gate and up, see weights.interleave_gate_up
    """
    if not x.is_cuda:
        strip = STRIP[weight.bits]
        gate, up = (x.float() @ dequantize(weight)).unflatten(-1, (-1, 2, strip)).unbind(-2)
        return (F.silu(gate) * up).flatten(-2).to(x.dtype)
    x = x.contiguous()
    y = x.new_empty(*x.shape[:-1], weight.n // 2)
    _launch(x, weight, _SWIGLU, y)
    return y


def gemm_logits(x: Tensor, weight: PackedWeight) -> tuple[Tensor, Tensor, Tensor]:
    """
    Return x W in float32 [M, N], and of every 64 of them maximum and sum of exp(logit - maximum).

    :param x: [M, K]
    :param weight: INT4
    """
    strips = weight.n // STRIP[4]
    if not x.is_cuda:
        logits = x.float() @ dequantize(weight)
        blocks = logits.unflatten(-1, (strips, -1))
        top = blocks.amax(dim=-1)
        return logits, top, (blocks - top[..., None]).exp().sum(dim=-1)
    x = x.contiguous()
    logits = x.new_empty(len(x), weight.n, dtype=torch.float32)
    top, total = x.new_empty(2, len(x), strips, dtype=torch.float32)
    _launch(x, weight, _LOGITS, logits, strips=(top, total))
    return logits, top, total


def _launch(x: Tensor, weight: PackedWeight, epilogue: int, y: Tensor,
            bias: Tensor | None = None, strips: tuple[Tensor, Tensor] | None = None) -> None:
    if x.shape[-1] != weight.k:
        raise ValueError(f'x has {x.shape[-1]} columns, the weight {weight.k} inputs')
    warps, splits = plan(weight.k, weight.n, weight.bits, epilogue)
    top, total = strips or (None, None)
    call('voxtral_gemm', weight.bits, DTYPES[x.dtype], epilogue, x, weight.codes, weight.scales,
         bias, y, top, total, x.numel() // weight.k, weight.k, weight.n, warps, splits,
         device=x.device)
