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

"""Attention over a ring cache: rotate, write, attend, in one kernel or in plain PyTorch."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor
from voxtral_ros.backends.cuda.library import call, DTYPES, load

HEAD_DIMS = (64, 128)  # that the kernel is compiled for


@dataclass(frozen=True)
class Ring:
    """Keys and values of one layer; the key of position p lies in entry p % capacity."""

    keys: Tensor  # [slots, capacity, Hkv, D]
    values: Tensor  # [slots, capacity, Hkv, D]
    window: int  # positions that a query sees, its own counted
    per_token: int  # positions that a token of the stream's clock stands for


def attention(qkv: Tensor, ring: Ring, slots: Tensor, clock: Tensor, cosine: Tensor,
              sine: Tensor, n_heads: int, half_split: bool, counters: Tensor) -> Tensor:
    """
    Rotate queries and keys, write keys and values into the ring, and attend.

    On a GPU slots, clock and ring must be older than the kernel before: the kernel may read them
    while that one still runs. After `rotation_angles` on the same stream all that came before is.

    :param qkv: [M, T, (Hq + 2 Hkv) D], queries, keys and values before rotation
    :param slots: int64 [M], different ones; a slot without a ring gets zeros
    :param clock: int64 [slots], tokens before these positions
    :param cosine, sine: float32 [M, T, D / 2]
    :param half_split: a head's pairs are (j, j + D / 2), not (2j, 2j + 1)
    :param counters: int32, zeros; see n_counters
    :return: [M, T, Hq D]
    """
    if not qkv.is_cuda:
        return _plain(qkv, ring, slots, clock, cosine, sine, n_heads, half_split)
    m, length, _ = qkv.shape
    n_slots, capacity, n_kv_heads, head_dim = ring.keys.shape
    n_floats, needed = ctypes.c_int64(), ctypes.c_int64()
    load().voxtral_attention_scratch(m, length, n_heads, n_kv_heads, head_dim, capacity,
                                     ctypes.byref(n_floats), ctypes.byref(needed))
    if needed.value > counters.numel():
        raise ValueError(f'{counters.numel()} counters, {needed.value} needed')
    partial = qkv.new_empty(n_floats.value, dtype=torch.float32)
    out = qkv.new_empty(m, length, n_heads * head_dim)
    call('voxtral_attention', DTYPES[qkv.dtype], qkv, cosine, sine, ring.keys, ring.values, slots,
         clock, out, partial, counters, m, length, n_heads, n_kv_heads, head_dim, n_slots,
         capacity, ring.window, ring.per_token, int(half_split), device=qkv.device)
    return out


def n_counters(m: int, length: int, n_heads: int, n_kv_heads: int) -> int:
    """Return how many counters passes over up to M streams and T positions need."""
    return m * n_kv_heads * (-(-length * n_heads // n_kv_heads // 16))


def _plain(qkv: Tensor, ring: Ring, slots: Tensor, clock: Tensor, cosine: Tensor, sine: Tensor,
           n_heads: int, half_split: bool) -> Tensor:
    length = qkv.shape[1]
    _, capacity, n_kv_heads, head_dim = ring.keys.shape
    heads = qkv.unflatten(-1, (-1, head_dim))
    q, k, v = heads.split((n_heads, n_kv_heads, n_kv_heads), dim=2)
    q, k = (_rotate(part, cosine, sine, half_split) for part in (q, k))
    position = (clock[slots] * ring.per_token)[:, None] + torch.arange(length)  # [M, T]
    entries = position % capacity
    ring.keys[slots[:, None], entries] = k
    ring.values[slots[:, None], entries] = v
    newest = position[:, -1:]
    held = newest - (newest - torch.arange(capacity)) % capacity  # [M, S] positions
    age = position[:, :, None] - held[:, None]  # [M, T, S]
    mask = (age >= 0) & (age < ring.window) & (held >= 0)[:, None]
    keys, values = (part[slots].double().repeat_interleave(n_heads // n_kv_heads, dim=2)
                    for part in (ring.keys, ring.values))
    scores = torch.einsum('mthd,mshd->mhts', q.double(), keys) / head_dim ** 0.5
    scores = scores.masked_fill(~mask[:, None], float('-inf')).softmax(dim=-1)
    values = values.masked_fill((held < 0)[..., None, None], 0)
    return torch.einsum('mhts,mshd->mthd', scores, values).flatten(2).to(qkv.dtype)


def _rotate(x: Tensor, cosine: Tensor, sine: Tensor, half_split: bool) -> Tensor:
    cosine, sine = cosine[:, :, None], sine[:, :, None]  # [M, T, 1, D / 2]
    x32 = x.float()
    a, b = x32.chunk(2, dim=-1) if half_split else x32.unflatten(-1, (-1, 2)).unbind(-1)
    turned = (a * cosine - b * sine, a * sine + b * cosine)
    joined = torch.cat(turned, -1) if half_split else torch.stack(turned, -1).flatten(-2)
    return joined.to(x.dtype)
