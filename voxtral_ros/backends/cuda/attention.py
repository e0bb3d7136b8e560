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

"""Attention over the KV cache: RoPE, write, attend, in one kernel or in plain PyTorch."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from voxtral_ros.backends.cuda.library import call, DTYPES, load
from voxtral_ros.model.kv_cache import contents, quantize

HEAD_DIMS = (64, 128)  # that the kernel is compiled for
MAX_QUERIES = 1024  # of one stream and one head of keys, in a pass


@dataclass(frozen=True)
class LayerCache:
    """KV cache of one layer; position p lies in entry p % capacity."""

    keys: Tensor  # [slots, capacity, Hkv, D]
    values: Tensor  # [slots, capacity, Hkv, D]
    scales: Tensor | None  # in INT8: of keys and values, [slots, Hkv, capacity, 2]
    window: int  # positions that a query sees, its own counted
    per_token: int  # positions of this stack per token


def attention(qkv: Tensor, cache: LayerCache, slots: Tensor, position: Tensor, cos: Tensor,
              sin: Tensor, n_heads: int, half_split: bool, counters: Tensor) -> Tensor:
    """
    Apply RoPE to queries and keys, write keys and values into the KV cache, and attend.

    On a GPU slots, position and cache must be older than the kernel before: the kernel may read
    them while that one still runs. After `rope_cos_sin` on the same CUDA stream they are.

    :param qkv: [M, T, (Hq + 2 Hkv) D], queries, keys and values before RoPE
    :param slots: int64 [M], different ones; a slot without a cache gets zeros
    :param position: int64 [slots], tokens before these
    :param cos, sin: float32 [M, T, D / 2]
    :param half_split: a head's pairs are (j, j + D / 2), not (2j, 2j + 1)
    :param counters: int32, zeros; see n_counters
    :return: [M, T, Hq D]
    """
    if not qkv.is_cuda:
        return _plain(qkv, cache, slots, position, cos, sin, n_heads, half_split)
    m, length, _ = qkv.shape
    n_slots, capacity, n_kv_heads, head_dim = cache.keys.shape
    n_floats, needed = ctypes.c_int64(), ctypes.c_int64()
    load().voxtral_attention_scratch(
        m, length, n_heads, n_kv_heads, head_dim, capacity, int(cache.scales is not None),
        ctypes.byref(n_floats), ctypes.byref(needed))
    if needed.value > counters.numel():
        raise ValueError(f'{counters.numel()} counters, {needed.value} needed')
    partial = qkv.new_empty(n_floats.value, dtype=torch.float32)
    out = qkv.new_empty(m, length, n_heads * head_dim)
    call('voxtral_attention', DTYPES[qkv.dtype], qkv, cos, sin, cache.keys, cache.values,
         cache.scales, slots, position, out, partial, counters, m, length, n_heads, n_kv_heads,
         head_dim, n_slots, capacity, cache.window, cache.per_token, int(half_split),
         device=qkv.device)
    return out


def n_counters(m: int, length: int, n_heads: int, n_kv_heads: int) -> int:
    """Return how many counters passes over up to M streams and T positions need."""
    return m * n_kv_heads * (-(-length * n_heads // n_kv_heads // 16))


def _plain(qkv: Tensor, cache: LayerCache, slots: Tensor, position: Tensor, cos: Tensor,
           sin: Tensor, n_heads: int, half_split: bool) -> Tensor:
    length = qkv.shape[1]
    _, capacity, n_kv_heads, head_dim = cache.keys.shape
    heads = qkv.unflatten(-1, (-1, head_dim))
    q, k, v = heads.split((n_heads, n_kv_heads, n_kv_heads), dim=2)
    q, k = (_apply_rope(part, cos, sin, half_split) for part in (q, k))
    at = (position[slots] * cache.per_token)[:, None] + torch.arange(length)  # [M, T]
    entries = at % capacity
    for which, (part, new) in enumerate(((cache.keys, k), (cache.values, v))):
        if cache.scales is not None:
            new, cache.scales[slots[:, None], :, entries, which] = quantize(new)
        part[slots[:, None], entries] = new
    newest = at[:, -1:]
    held = newest - (newest - torch.arange(capacity)) % capacity  # [M, S] positions
    age = at[:, :, None] - held[:, None]  # [M, T, S]
    mask = (age >= 0) & (age < cache.window) & (held >= 0)[:, None]
    keys, values = (part[slots].double().repeat_interleave(n_heads // n_kv_heads, dim=2)
                    for part in contents(cache.keys, cache.values, cache.scales))
    scores = torch.einsum('mthd,mshd->mhts', q.double(), keys) / head_dim ** 0.5
    scores = scores.masked_fill(~mask[:, None], float('-inf')).softmax(dim=-1)
    values = values.masked_fill((held < 0)[..., None, None], 0)
    return torch.einsum('mhts,mshd->mthd', scores, values).flatten(2).to(qkv.dtype)


def _apply_rope(x: Tensor, cos: Tensor, sin: Tensor, half_split: bool) -> Tensor:
    cos, sin = cos[:, :, None], sin[:, :, None]  # [M, T, 1, D / 2]
    x32 = x.float()
    a, b = x32.chunk(2, dim=-1) if half_split else x32.unflatten(-1, (-1, 2)).unbind(-1)
    rotated = (a * cos - b * sin, a * sin + b * cos)
    joined = torch.cat(rotated, -1) if half_split else torch.stack(rotated, -1).flatten(-2)
    return joined.to(x.dtype)
