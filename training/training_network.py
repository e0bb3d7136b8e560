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
The network as it is trained: with a distillation head, dropout and fake quantization.

None of these are part of the saved checkpoint: the head is dropped and the weights stay BF16.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn, Tensor
import torch.nn.functional as F

from voxtral_ros.model.layers import (
    Attend, grouped_query_attention, rope_cos_sin, SequenceAttention)
from voxtral_ros.model.network import VoxtralRealtime
from voxtral_ros.quantization.marlin import GROUP
from voxtral_ros.quantization.rounding import round_int4


def blocked_attention(length: int, window: int, device: torch.device) -> Attend:
    """Return sliding_window_attention in blocks: `window` queries, two such blocks of keys."""
    n_blocks = -(-length // window)
    query = torch.arange(n_blocks * window, device=device).unflatten(0, (n_blocks, window))
    key = torch.cat((query - window, query), 1)
    age = query[:, :, None] - key[:, None, :]
    visible = (age >= 0) & (age < window) & (key >= 0)[:, None, :]  # [n_blocks, W, 2 * W]

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (F.pad(x, (0, 0, 0, 0, 0, n_blocks * window - length)).unflatten(
            1, (n_blocks, window)) for x in (q, k, v))
        k, v = (torch.cat((x.roll(1, 1), x), 2) for x in (k, v))
        out = grouped_query_attention(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1),
                                      visible.repeat(len(q), 1, 1))
        return out.unflatten(0, (-1, n_blocks)).flatten(1, 2)[:, :length]

    return attend


def windowed_attention(length: int, window: int, device: torch.device) -> Attend:
    """Return sliding_window_attention as FlexAttention on a GPU, in blocks on a CPU."""
    if device.type != 'cuda':
        return blocked_attention(length, window, device)
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def visible(_b: Tensor, _h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (q >= k) & (q - k < window)

    blocks = create_block_mask(visible, None, None, length, length, device=str(device))

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out: Any = flex_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2),
                                  block_mask=blocks, enable_gqa=q.shape[2] != k.shape[2])
        return out.transpose(1, 2)

    return attend


class FakeQuantizedLinear(nn.Linear):
    """
    A linear layer with fake quantization of its weights to INT4 (quantization-aware training).

    `fraction` interpolates from the weight (0) to its quantized value (1). The gradient is passed
    straight through to the weight. `convert` makes one of an nn.Linear, whose parameters keep
    their names.
    """

    scale: Tensor  # fp32 [N, K / 128]
    fraction: Tensor  # []

    @staticmethod
    def convert(linear: nn.Module) -> FakeQuantizedLinear:
        """Convert a linear layer in place."""
        assert isinstance(linear, nn.Linear)
        linear.__class__ = FakeQuantizedLinear
        assert isinstance(linear, FakeQuantizedLinear)
        weight = linear.weight
        linear.register_buffer('scale', weight.new_ones(
            weight.shape[0], weight.shape[1] // GROUP), persistent=False)
        linear.register_buffer('fraction', weight.new_zeros(()), persistent=False)
        return linear

    @torch.no_grad()
    def update_scale(self, fraction: float) -> None:
        """Compute the scales as the export does, and set the fraction."""
        self.scale.copy_(round_int4(self.weight, 'mse')[1])
        self.fraction.fill_(fraction)

    def fake_quantized_weight(self) -> Tensor:
        """Return the fake-quantized weights, [N, K]."""
        groups = self.weight.unflatten(1, (-1, GROUP))
        scale = torch.where(self.scale == 0, torch.inf, self.scale)[..., None]
        quantized = (groups / scale).round().clamp(-8, 7) * self.scale[..., None]
        return (groups + self.fraction * (quantized - groups).detach()).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., K] to [..., N]."""
        return F.linear(x, self.fake_quantized_weight(), self.bias)


class TrainingNetwork(nn.Module):
    """The network with a distillation head, dropout and fake quantization of the decoder."""

    def __init__(self, network: VoxtralRealtime, dropout: float = 0.0,
                 teacher_dim: int = 384) -> None:
        """
        Wrap a network.

        :param dropout: probability of dropping a frame of an attention or feed-forward output
        :param teacher_dim: of the states of the distillation teacher
        """
        super().__init__()
        self.network = network
        self.dropout = dropout
        for layer in (*network.encoder.layers, *network.decoder.layers):
            for branch in (layer.attention, layer.feed_forward):
                branch.register_forward_hook(self._drop)
        self.distillation_head = nn.Linear(network.config.encoder.dim, teacher_dim)
        nn.init.normal_(self.distillation_head.weight, std=0.02)
        nn.init.zeros_(self.distillation_head.bias)
        self.fake_quantized = [
            FakeQuantizedLinear.convert(linear) for layer in network.decoder.layers
            for part in (layer.attention, layer.feed_forward) for linear in part.children()]

    def _drop(self, _branch: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        # Whole frames: random numbers for all elements would take a CPU a tenth of a step.
        return output * F.dropout(torch.ones_like(output[..., :1]), self.dropout, self.training)

    def forward(self, mel: Tensor, tokens: Tensor, delay: Tensor,
                attention: SequenceAttention) -> tuple[Tensor, Tensor]:
        """
        Run VoxtralRealtime.forward, and predict the states of the distillation teacher.

        :return: logits [B, N, vocab_size] and states [B, 4N, teacher_dim]
        """
        network = self.network
        config = network.config.encoder
        position = torch.arange(mel.shape[-1] // 2, device=mel.device)[None]
        groups, _ = network.encoder(
            mel, network.encoder.new_conv_state(len(mel), mel),
            rope_cos_sin(position, config.head_dim, config.rope_theta),
            [attention(position.shape[1], config.sliding_window, mel.device)] * config.n_layers)
        states = self.distillation_head(groups.unflatten(-1, (-1, config.dim)).flatten(1, 2))
        config = network.config.decoder
        position = torch.arange(tokens.shape[1], device=tokens.device)[None]
        hidden = network.decoder(
            network.adapter(groups), tokens, network.decoder.delay_scales(delay),
            rope_cos_sin(position, config.head_dim, config.rope_theta),
            [attention(position.shape[1], config.sliding_window, tokens.device)] * config.n_layers)
        return network.decoder.logits(hidden), states
