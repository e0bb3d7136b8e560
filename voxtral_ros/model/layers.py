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
What encoder and decoder are made of: rotary embedding (RoPE), attention, feed-forward (SwiGLU).

Attributes carry the names of the tensors in `consolidated.safetensors`. Rows of wq and wk are in
interleaved order, as Mistral stores them: RoPE rotates the pair (2j, 2j + 1) of a head.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn, Tensor
import torch.nn.functional as F

from voxtral_ros.model.config import StackConfig

# (q [B, T, Hq, hd], k, v [B, T, Hkv, hd]), q and k after RoPE -> [B, T, Hq, hd]
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
# (length, window, device) -> the attention of a whole sequence
SequenceAttention = Callable[[int, int, torch.device], Attend]
Rope = tuple[Tensor, Tensor]  # cos and sin, float32 [B, T, 1, hd / 2]


def rope_inv_freq(head_dim: int, theta: float, device: torch.device) -> Tensor:
    """Return by how many rad the pairs of a head turn per position, float64 [head_dim / 2]."""
    pair = torch.arange(0, head_dim, 2, dtype=torch.float64, device=device)
    inv_freq: Tensor = theta ** (-pair / head_dim)
    return inv_freq


def rope_cos_sin(positions: Tensor, head_dim: int, theta: float) -> Rope:
    """
    Return cos and sin of the rotary angles of positions.

    Angles are computed in fp64: in fp32 they are off by 0.01 rad after three hours of 50 Hz
    frames and by more every hour; in fp64 a stream of a year is off by less than 1e-6.

    :param positions: int64 [B, T]
    """
    inv_freq = rope_inv_freq(head_dim, theta, positions.device)
    angles = positions[..., None, None].double() * inv_freq  # [B, T, 1, hd / 2]
    return angles.cos().float(), angles.sin().float()


def apply_rotary_emb(x: Tensor, rope: Rope) -> Tensor:
    """Rotate the interleaved pairs of the last axis of x, [B, T, H, hd], computed in fp32."""
    cos, sin = rope
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)  # [B, T, H, hd / 2] each
    rotated = torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1)
    return rotated.flatten(-2).type_as(x)


def grouped_query_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """
    Attend with query heads in groups that share a key head, reading each key once per group.

    :param q: [B, T, Hq, hd]; the query heads h * Hq / Hkv and following use key head h
    :param k, v: [B, S, Hkv, hd]
    :param mask: bool [B or 1, T, S], true where a query sees a key
    :return: [B, T, Hq, hd]
    """
    length, n_heads = q.shape[1:3]
    group = n_heads // k.shape[2]
    # The queries of a group become rows of one matrix product: [B, Hkv, group * T, hd]
    rows = q.unflatten(2, (-1, group)).permute(0, 2, 3, 1, 4).flatten(2, 3)
    mask = mask[:, None].repeat(1, 1, group, 1)  # [B, 1, group * T, S]
    out = F.scaled_dot_product_attention(rows, k.transpose(1, 2), v.transpose(1, 2), mask)
    return out.unflatten(2, (group, length)).permute(0, 3, 1, 2, 4).reshape(q.shape)


def sliding_window_attention(length: int, window: int, device: torch.device) -> Attend:
    """Return the causal attention of a whole sequence, `window` positions back, itself counted."""
    position = torch.arange(length, device=device)
    age = position[:, None] - position[None, :]
    mask = ((age >= 0) & (age < window))[None]  # [1, T, T]
    return lambda q, k, v: grouped_query_attention(q, k, v, mask)


class Attention(nn.Module):
    """Grouped-query attention; where the keys of the past come from is the caller's business."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        q_dim = config.n_heads * config.head_dim
        kv_dim = config.n_kv_heads * config.head_dim
        self.wq = nn.Linear(config.dim, q_dim, bias=config.use_biases)
        self.wk = nn.Linear(config.dim, kv_dim, bias=False)
        self.wv = nn.Linear(config.dim, kv_dim, bias=config.use_biases)
        self.wo = nn.Linear(q_dim, config.dim, bias=config.use_biases)

    def forward(self, x: Tensor, rope: Rope, attend: Attend) -> Tensor:
        """Map [B, T, dim] to [B, T, dim]."""
        q, k, v = (w(x).unflatten(-1, (-1, self.head_dim)) for w in (self.wq, self.wk, self.wv))
        q, k = apply_rotary_emb(q, rope), apply_rotary_emb(k, rope)
        out: Tensor = self.wo(attend(q, k, v).flatten(-2))
        return out


class FeedForward(nn.Module):
    """SwiGLU: w2(silu(w1 x) * w3 x)."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.w1 = nn.Linear(config.dim, config.hidden_dim, bias=False)
        self.w2 = nn.Linear(config.hidden_dim, config.dim, bias=config.use_biases)
        self.w3 = nn.Linear(config.dim, config.hidden_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, T, dim] to [B, T, dim]."""
        out: Tensor = self.w2(F.silu(self.w1(x)) * self.w3(x))
        return out
