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

"""What lies between the GEMMs of a step: embedding, RoPE angles, residual and RMSNorm."""

from __future__ import annotations

import torch
from torch import Tensor

from voxtral_ros.backends.cuda.library import call, DTYPES
from voxtral_ros.backends.cuda.weights import columns, PackedWeight

MAX_WIDTH = 8192  # of a row that the norm can read


def add_rms_norm(h: Tensor, weight: Tensor, eps: float, partial: Tensor | None = None,
                 bias: Tensor | None = None, scales: Tensor | None = None,
                 slots: Tensor | None = None) -> Tensor:
    """
    Add the output of a layer to the residual stream and return RMSNorm(h) * weight (* scale).

    :param h: float32 [M, T, dim], changed in place
    :param weight: [dim], in the type of the result
    :param partial: float32 [splits, M, T, dim], see gemm_split_k
    :param bias: [dim], of that layer
    :param scales: [slots, dim], with slots int64 [M]: of the streams' delays
    :return: [M, T, dim]
    """
    if not h.is_cuda:
        for split in () if partial is None else partial:
            h += split
        if bias is not None:
            h += bias.float()
        x = h * torch.rsqrt(h.square().mean(dim=-1, keepdim=True) + eps) * weight.float()
        if scales is not None:
            assert slots is not None
            x = x * scales[slots].float()[:, None]
        return x.to(weight.dtype)
    m, length, dim = h.shape
    x = h.new_empty(m, length, dim, dtype=weight.dtype)
    call('voxtral_add_rms_norm', DTYPES[weight.dtype], h, partial,
         0 if partial is None else len(partial), bias, weight, scales, slots, length, x,
         m * length, dim, float(eps), device=h.device)
    return x


def embed(audio: Tensor, table: Tensor | PackedWeight, tokens: Tensor) -> Tensor:
    """
    Return the input of the decoder, float32 [M, T, dim].

    :param audio: [M, T, dim]
    :param table: [vocabulary, dim], in the type of audio, or the head in INT4 whose columns they
        are
    :param tokens: int64 [M, T]
    """
    if not audio.is_cuda:
        rows = columns(table, tokens) \
            if isinstance(table, PackedWeight) else table[tokens]
        return audio.float() + rows.to(audio.dtype).float()
    h = torch.empty_like(audio, dtype=torch.float32)
    audio, tokens = audio.contiguous(), tokens.contiguous()
    dtype, count = DTYPES[audio.dtype], tokens.numel()
    if isinstance(table, PackedWeight):
        call('voxtral_embed_int4', dtype, audio, table.codes, table.scales, tokens, h, count,
             table.k, table.n, device=audio.device)
    else:
        call('voxtral_embed', dtype, audio, table, tokens, h, count, audio.shape[-1],
             device=audio.device)
    return h


def rope_cos_sin(slots: Tensor, position: Tensor, inv_freq: Tensor, length: int,
                 per_token: int) -> tuple[Tensor, Tensor]:
    """
    Return cos and sin of the rotary angles of the next positions, float32 [M, length, D / 2].

    :param slots: int64 [M]
    :param position: int64 [slots], tokens
    :param inv_freq: float64 [D / 2], theta ** (-2 j / D)
    :param per_token: positions per token
    """
    if not slots.is_cuda:
        first = position[slots] * per_token
        angles = (first[:, None] + torch.arange(length))[..., None].double() * inv_freq
        return angles.cos().float(), angles.sin().float()
    cos, sin = torch.empty(2, len(slots), length, len(inv_freq), device=slots.device)
    call('voxtral_rope', slots, position, inv_freq, cos, sin, len(slots) * length, length,
         per_token, len(inv_freq), device=slots.device)
    return cos, sin


def advance(slots: Tensor, position: Tensor, n_tokens: int) -> None:
    """Move the positions, int64 [slots], of some streams by n tokens."""
    if not slots.is_cuda:
        position[slots] += n_tokens
        return
    call('voxtral_advance', slots, position, len(slots), n_tokens, device=slots.device)
