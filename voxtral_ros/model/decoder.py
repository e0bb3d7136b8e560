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
Decoder: a causal language model over the sum of audio and token embeddings, 12.5 Hz.

The delay between audio and text is a condition: a vector per layer, computed from the delay,
scales the input of the feed-forward (adaptive RMSNorm). The output head is the token embedding.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn, Tensor
import torch.nn.functional as F

from voxtral_ros.model.config import ModelConfig
from voxtral_ros.model.layers import Attend, Attention, FeedForward, Rope


def delay_embedding(delay: Tensor, dim: int) -> Tensor:
    """
    Return the sinusoidal embedding of a delay in tokens, cosines first.

    :param delay: [B], tokens
    :return: float32 [B, dim]
    """
    half = torch.arange(dim // 2, dtype=torch.float32, device=delay.device)
    angles = delay.float()[:, None] * torch.exp(-math.log(10000.0) * 2 / dim * half)
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


def delay_scale(delay: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """
    Return what the feed-forward input of one layer is scaled by: 1 + the delay condition.

    Computed in fp32 (the reference uses the type of the model, which for bf16 moves logits by
    1e-2); constant for a stream.

    :param delay: [B], tokens
    :param down: [ada_dim, dim], weight of the first linear layer of ada_rms_norm_t_cond
    :param up: [dim, ada_dim], of the second
    :return: float32 [B, dim]
    """
    embedding = delay_embedding(delay, len(up))
    return 1 + F.linear(F.gelu(F.linear(embedding, down.float())), up.float())


class DecoderBlock(nn.Module):
    """Pre-norm attention and feed-forward, the latter conditioned on the delay."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        stack = config.decoder
        self.attention_norm = nn.RMSNorm(stack.dim, eps=stack.norm_eps)
        self.attention = Attention(stack)
        self.ffn_norm = nn.RMSNorm(stack.dim, eps=stack.norm_eps)
        self.feed_forward = FeedForward(stack)
        self.ada_rms_norm_t_cond = nn.Sequential(
            nn.Linear(stack.dim, config.ada_dim, bias=False),
            nn.GELU(),
            nn.Linear(config.ada_dim, stack.dim, bias=False),
        )

    def forward(self, h: Tensor, scale: Tensor, rope: Rope, attend: Attend) -> Tensor:
        """Map [B, T, dim] to [B, T, dim]; scale [B, 1, dim] is 1 + the delay condition."""
        h = h + self.attention(self.attention_norm(h), rope, attend)
        out: Tensor = h + self.feed_forward(self.ffn_norm(h) * scale)
        return out


class Decoder(nn.Module):
    """Sums of audio and token embeddings to hidden states, and those to logits."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config.decoder
        self.tok_embeddings = nn.Embedding(config.vocab_size, self.config.dim)
        self.layers: Any = nn.ModuleList(DecoderBlock(config) for _ in range(self.config.n_layers))
        self.norm = nn.RMSNorm(self.config.dim, eps=self.config.norm_eps)

    def delay_scales(self, delay: Tensor) -> Tensor:
        """
        Return what the feed-forward inputs of streams with these delays are scaled by.

        :param delay: [B], tokens
        :return: [n_layers, B, dim] in the type of the weights
        """
        scales = [delay_scale(delay, layer.ada_rms_norm_t_cond[0].weight,
                              layer.ada_rms_norm_t_cond[2].weight) for layer in self.layers]
        return torch.stack(scales).to(self.norm.weight.dtype)

    def forward(self, audio: Tensor, tokens: Tensor, scales: Tensor, rope: Rope,
                attends: list[Attend]) -> Tensor:
        """
        Return the hidden states, ready for the head.

        :param audio: [B, T, dim]
        :param tokens: int64 [B, T]; the token before each predicted one
        :param scales: [n_layers, B, dim], see delay_scales
        :return: [B, T, dim]
        """
        h = audio + self.tok_embeddings(tokens)
        for layer, scale, attend in zip(self.layers, scales, attends, strict=True):
            h = layer(h, scale[:, None], rope, attend)
        out: Tensor = self.norm(h)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """Map [..., dim] to [..., vocab_size]."""
        return F.linear(hidden, self.tok_embeddings.weight)
