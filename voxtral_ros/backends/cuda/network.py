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
The network on fused kernels: the same weights and stream state, far fewer launches.

Per layer: norm, merged QKV, attention (rotary embedding, ring write and all), output product,
norm, merged gate and up, down product. Residuals are fp32 and are added where the norm reads them.
Nothing here waits for the device, so that a step can be captured in a CUDA graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn, Tensor
import torch.nn.functional as F
from voxtral_ros.backends.cuda import attention as ring_attention
from voxtral_ros.backends.cuda.argmax import choose, Head
from voxtral_ros.backends.cuda.attention import n_counters, Ring
from voxtral_ros.backends.cuda.conv_stem import PackedStem
from voxtral_ros.backends.cuda.gemm import matmul, matmul_gated, matmul_partial
from voxtral_ros.backends.cuda.library import DTYPES
from voxtral_ros.backends.cuda.modules import KernelLinear, PackedEmbedding
from voxtral_ros.backends.cuda.norm_rope import add_norm, advance, embed, rotation_angles
from voxtral_ros.backends.cuda.weights import (
    fits,
    interleave,
    merge,
    pack_dense,
    pack_int4,
    PackedWeight,
    STRIP,
)
from voxtral_ros.model.config import ModelConfig, StackConfig
from voxtral_ros.model.layers import frequencies
from voxtral_ros.model.network import StreamState, VoxtralRealtime
from voxtral_ros.quantization import marlin, rounding


def can_fuse(config: ModelConfig, dtype: torch.dtype) -> bool:
    """Return whether there are kernels for a network of these sizes."""
    encoder, decoder = config.encoder, config.decoder
    sizes = [(decoder.dim, config.vocab_size), (decoder.dim, decoder.dim),
             (config.downsample_factor * encoder.dim, decoder.dim)]
    for stack in (encoder, decoder):
        if stack.head_dim not in ring_attention.HEAD_DIMS \
                or stack.n_kv_heads * stack.head_dim % STRIP[4]:
            return False
        sizes += [(stack.dim, stack.hidden_dim), (stack.hidden_dim, stack.dim),
                  (stack.n_heads * stack.head_dim, stack.dim)]
    return dtype in DTYPES and all(fits(*size) for size in sizes) \
        and PackedStem.fits(config.audio.num_mel_bins, encoder.dim)


@dataclass(frozen=True)
class Layer:
    """Merged weights of one layer."""

    attention_norm: Tensor
    qkv: PackedWeight
    qkv_bias: Tensor | None
    out: PackedWeight
    out_bias: Tensor | None
    ffn_norm: Tensor
    gate_up: PackedWeight
    down: PackedWeight
    down_bias: Tensor | None


class Stack:
    """The layers of encoder or decoder."""

    def __init__(self, config: StackConfig, layers: Any, norm: Tensor, per_token: int) -> None:
        """
        Merge the weights of `layers` and take them out of the modules.

        :param per_token: positions per token
        """
        self.config = config
        self.norm = norm
        self.per_token = per_token
        self.half_split = getattr(layers[0].attention.wq, 'half_split', False)
        self.layers = [_fuse(layer, self.half_split) for layer in layers]
        self.frequency = frequencies(config.head_dim, config.rope_theta, norm.device)

    def __call__(self, h: Tensor, rings: list[Ring], slots: Tensor, clock: Tensor,
                 origin: Tensor, scales: Tensor | None, counters: Tensor) -> Tensor:
        """
        Return the normed output of the last layer, [M, T, dim] in 16 bits.

        :param h: float32 [M, T, dim], changed in place
        :param scales: [n_layers, slots, dim] of the feed-forward inputs, or None
        """
        config, eps = self.config, self.config.norm_eps
        cosine, sine = rotation_angles(slots, clock, origin, self.frequency, h.shape[1],
                                       self.per_token)
        partial, bias = None, None
        for index, layer in enumerate(self.layers):
            x = add_norm(h, layer.attention_norm, eps, partial, bias)
            qkv = matmul(x, layer.qkv, layer.qkv_bias)
            x = ring_attention.attention(qkv, rings[index], slots, clock, cosine, sine,
                                         config.n_heads, self.half_split, counters)
            x = add_norm(h, layer.ffn_norm, eps, matmul_partial(x, layer.out), layer.out_bias,
                         None if scales is None else scales[index], slots)
            partial = matmul_partial(matmul_gated(x, layer.gate_up), layer.down)
            bias = layer.down_bias
        return add_norm(h, self.norm, eps, partial, bias)


class FusedNetwork:
    """VoxtralRealtime with its weights merged and packed for the kernels, over one StreamState."""

    def __init__(self, network: VoxtralRealtime, state: StreamState, pad: int,
                 special: list[int]) -> None:
        """
        Take the weights out of `network`, layer by layer, so that there is never a second copy.

        :param special: tokens whose logits are always computed exactly
        """
        config = network.config
        self.network, self.state = network, state
        self.stem = PackedStem(network.encoder.conv_layers)
        self.adapter = [_take(network.adapter, name) for name in ('0', '2')]
        self.encoder = Stack(config.encoder, network.encoder.layers,
                             network.encoder.norm.weight, config.downsample_factor)
        self.decoder = Stack(config.decoder, network.decoder.layers,
                             network.decoder.norm.weight, 1)
        embedding = network.decoder.tok_embeddings
        self.table = embedding.packed if isinstance(embedding, PackedEmbedding) \
            else embedding.weight
        self.head = _head(network, pad, special)
        n_rows = 1 << (len(state.encoded) - 1).bit_length()  # of the largest batch
        self.encoder_rings, self.decoder_rings = (
            [Ring(keys, values, ring.window, per_token)
             for keys, values in zip(ring.keys, ring.values, strict=True)]
            for ring, per_token in ((state.encoder_ring, config.downsample_factor),
                                    (state.decoder_ring, 1)))
        needed = max(
            n_counters(n_rows, ring.capacity - ring.window + 1, stack.n_heads, stack.n_kv_heads)
            for ring, stack in ((state.encoder_ring, config.encoder),
                                (state.decoder_ring, config.decoder)))
        self.counters = torch.zeros(needed, dtype=torch.int32, device=self.decoder.norm.device)

    def encode(self, samples: Tensor, slots: Tensor) -> Tensor:
        """Encode the next n tokens of sound; as VoxtralRealtime.encode."""
        network, state = self.network, self.state
        mel = network.mel(samples).to(self.encoder.norm.dtype)  # [M, 128, 8n]
        past = (state.conv_past[0][slots], state.conv_past[1][slots])
        frames, past = self.stem(mel, past)
        for kept, new in zip(state.conv_past, past, strict=True):
            kept[slots] = new
        h = frames.float().contiguous()  # [M, 4n, dim]
        x = self.encoder(h, self.encoder_rings, slots, state.encoded, state.origin, None,
                         self.counters)
        advance(slots, state.encoded, mel.shape[-1] // (2 * network.config.downsample_factor))
        x = x.unflatten(1, (-1, network.encoder.group)).flatten(2)
        (first, bias), (second, last_bias) = self.adapter
        return matmul(F.gelu(matmul(x, first, bias)), second, last_bias)

    def decode(self, audio: Tensor, tokens: Tensor, slots: Tensor, n_kept: int | None = None,
               ) -> Tensor:
        """
        Return the hidden states of the next T positions, [M, T, dim], ready for the head.

        :param audio: [M, T, dim]
        :param tokens: int64 [M, T]
        :param n_kept: how far to move the clocks; None is T
        """
        h = embed(audio, self.table, tokens)
        x = self.decoder(h, self.decoder_rings, slots, self.state.decoded, self.state.origin,
                         self.state.delay_scales, self.counters)
        advance(slots, self.state.decoded, tokens.shape[1] if n_kept is None else n_kept)
        return x

    def choose(self, hidden: Tensor, slots: Tensor, pad_penalty: Tensor,
               last_token: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return tokens and probabilities, see voxtral_ros.backends.cuda.argmax.choose."""
        return choose(hidden, self.head, slots, pad_penalty, last_token)


def _fuse(layer: Any, half_split: bool) -> Layer:
    attention, feed_forward = layer.attention, layer.feed_forward
    if getattr(attention.wk, 'half_split', False) != half_split:
        raise ValueError('rows of wq and wk are in different orders')
    qkv = [_take(attention, name) for name in ('wq', 'wk', 'wv')]
    gate, up = _take(feed_forward, 'w1'), _take(feed_forward, 'w3')
    out, out_bias = _take(attention, 'wo')
    down, down_bias = _take(feed_forward, 'w2')
    norm = layer.attention_norm.weight
    biases = [norm.new_zeros(weight.n) if bias is None else bias for weight, bias in qkv]
    return Layer(
        norm, merge([weight for weight, _ in qkv]),
        None if all(bias is None for _, bias in qkv) else torch.cat(biases), out, out_bias,
        layer.ffn_norm.weight, interleave(gate[0], up[0]), down, down_bias)


def _take(module: nn.Module, name: str) -> tuple[PackedWeight, Tensor | None]:
    """Return weight and bias of a linear layer and remove it from its module."""
    linear = getattr(module, name)
    setattr(module, name, None)
    packed = linear.packed if isinstance(linear, KernelLinear) else pack_dense(linear.weight.data)
    return packed, None if linear.bias is None else linear.bias.data


def _head(network: VoxtralRealtime, pad: int, special: list[int]) -> Head:
    embedding, device = network.decoder.tok_embeddings, network.decoder.norm.weight.device
    tokens = torch.tensor(special, dtype=torch.int32, device=device)
    if isinstance(embedding, PackedEmbedding):
        return Head(embedding.packed, None, tokens, pad)
    blocks = []
    for rows in embedding.weight.split(8192):
        codes, scales = rounding.round_int4(rows)
        words = marlin.pack((codes + marlin.ZERO).to(torch.uint8).T)
        blocks.append(pack_int4(words, marlin.permute_scales(scales.T)))
    return Head(merge(blocks), embedding.weight, tokens, pad)
