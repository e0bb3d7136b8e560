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
Causal audio encoder: conv stem, sliding-window transformer, four frames joined into a token.

    mel [B, 128, 8n] -> conv stem [B, 4n, dim] -> blocks -> norm -> [B, n, 4 * dim]
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn, Tensor
import torch.nn.functional as F

from voxtral_ros.model.config import ModelConfig, StackConfig
from voxtral_ros.model.layers import Attend, Attention, FeedForward, Rope
from voxtral_ros.model.shapes import CONV_KERNEL


def conv_state_shapes(config: ModelConfig) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return channels and frames that each of the two convolutions remembers of a stream."""
    return (config.audio.num_mel_bins, CONV_KERNEL - 1), (config.encoder.dim, CONV_KERNEL - 2)


class CausalConv(nn.Module):
    """Convolution that sees its own past only, then GELU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.left_context = CONV_KERNEL - stride
        self.conv = nn.Conv1d(in_channels, out_channels, CONV_KERNEL, stride)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """
        Convolve x, [B, C, T] with T a multiple of the stride.

        :param state: [B, C, left_context], the end of the x before this one; zeros at the start
        :return: [B, C', T / stride] and the state for the next call
        """
        x = torch.cat((state, x), dim=-1)
        return F.gelu(self.conv(x)), x[..., -self.left_context:]


class EncoderBlock(nn.Module):
    """Pre-norm attention and feed-forward."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.dim, eps=config.norm_eps)
        self.attention = Attention(config)
        self.ffn_norm = nn.RMSNorm(config.dim, eps=config.norm_eps)
        self.feed_forward = FeedForward(config)

    def forward(self, h: Tensor, rope: Rope, attend: Attend) -> Tensor:
        """Map [B, T, dim] to [B, T, dim]."""
        h = h + self.attention(self.attention_norm(h), rope, attend)
        out: Tensor = h + self.feed_forward(self.ffn_norm(h))
        return out


class Encoder(nn.Module):
    """Mel frames at 100 Hz to groups of encoder frames at 12.5 Hz."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config.encoder
        self.group = config.downsample_factor
        dim = self.config.dim
        self.conv_layers: Any = nn.ModuleList((
            CausalConv(config.audio.num_mel_bins, dim, stride=1),
            CausalConv(dim, dim, stride=2),
        ))
        self.layers = nn.ModuleList(
            EncoderBlock(self.config) for _ in range(self.config.n_layers))
        self.norm = nn.RMSNorm(dim, eps=self.config.norm_eps)

    def new_conv_state(self, batch: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the state of both convolutions at the start of a stream: zeros, not silence."""
        first, second = self.conv_layers
        return (like.new_zeros(batch, first.conv.in_channels, first.left_context),
                like.new_zeros(batch, second.conv.in_channels, second.left_context))

    def forward(self, mel: Tensor, conv_state: tuple[Tensor, Tensor], rope: Rope,
                attends: list[Attend]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """
        Encode 8n mel frames.

        :param mel: [B, 128, 8n], in the type of the weights
        :param conv_state: see new_conv_state
        :param rope: of the 4n frames
        :param attends: one attention per layer
        :return: [B, n, 4 * dim] and the conv_state for the next call
        """
        h, conv_state = self.conv_stem(mel, conv_state)
        for layer, attend in zip(self.layers, attends, strict=True):
            h = layer(h, rope, attend)
        groups = self.norm(h).unflatten(1, (-1, self.group)).flatten(2)  # [B, n, 4 * dim]
        return groups, conv_state

    def conv_stem(self, mel: Tensor, conv_state: tuple[Tensor, Tensor],
                  ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return what the first block is given, [B, 4n, dim], and the next conv_state."""
        x, state_0 = self.conv_layers[0](mel, conv_state[0])  # [B, dim, 8n]
        x, state_1 = self.conv_layers[1](x, conv_state[1])  # [B, dim, 4n]
        return x.transpose(1, 2), (state_0, state_1)
