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
The network on fused kernels: the same stream state as in PyTorch, far fewer launches.

Per layer: RMSNorm, merged QKV GEMM, attention (RoPE, KV cache write and all), output GEMM,
RMSNorm, merged gate and up GEMM with SwiGLU, down GEMM. The residual stream is fp32, and outputs
are added to it where the norm reads it. Nothing here waits for the device, so a step can be
captured in a CUDA graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
import torch.nn.functional as F

from voxtral_ros.backends.base import kv_cache_tokens, WeightBytes
from voxtral_ros.backends.cuda import attention as kv_attention
from voxtral_ros.backends.cuda.argmax import Head, MAX_VOCABULARY
from voxtral_ros.backends.cuda.attention import LayerCache, n_counters
from voxtral_ros.backends.cuda.conv_stem import ConvStem
from voxtral_ros.backends.cuda.gemm import gemm, gemm_split_k, gemm_swiglu
from voxtral_ros.backends.cuda.library import DTYPES
from voxtral_ros.backends.cuda.norm_rope import (
    add_rms_norm, advance, embed, MAX_WIDTH, rope_cos_sin)
from voxtral_ros.backends.cuda.phrases import choose, Phrases
from voxtral_ros.backends.cuda.weight_source import WeightSource
from voxtral_ros.backends.cuda.weights import (
    concatenate, fits, interleave_gate_up, pack_int4_codes, PackedWeight, scales_of, STRIP)
from voxtral_ros.model.config import ModelConfig, StackConfig
from voxtral_ros.model.decoder import delay_scale
from voxtral_ros.model.kv_cache import KVCache
from voxtral_ros.model.layers import rope_inv_freq
from voxtral_ros.model.mel import LogMel
from voxtral_ros.model.network import StreamState
from voxtral_ros.quantization import rounding
from voxtral_ros.quantization.marlin import GROUP, TILE_K

Linear = tuple[PackedWeight, Tensor | None]  # weight and bias
_ROWS = 1024  # of the embedding that are rounded at once: 13 MB of the real one in float32


def fits_kernels(config: ModelConfig, dtype: torch.dtype, max_chunk_tokens: int = 1) -> bool:
    """Return whether there are kernels for a network of these sizes, in passes so long."""
    encoder, decoder = config.encoder, config.decoder
    sizes = [(decoder.dim, config.vocab_size), (decoder.dim, decoder.dim),
             (config.downsample_factor * encoder.dim, decoder.dim)]
    for stack, per_token in ((encoder, config.downsample_factor), (decoder, 1)):
        queries = max_chunk_tokens * per_token * (stack.n_heads // stack.n_kv_heads)
        if stack.head_dim not in kv_attention.HEAD_DIMS or stack.dim > MAX_WIDTH \
                or stack.n_kv_heads * stack.head_dim % STRIP[4] \
                or queries > kv_attention.MAX_QUERIES:
            return False
        sizes += [(stack.dim, stack.hidden_dim), (stack.hidden_dim, stack.dim),
                  (stack.n_heads * stack.head_dim, stack.dim)]
    return dtype in DTYPES and config.vocab_size <= MAX_VOCABULARY \
        and all(fits(*size) for size in sizes) \
        and ConvStem.fits(config.audio.num_mel_bins, encoder.dim)


@dataclass(frozen=True)
class Layer:
    """Merged weights of one layer."""

    attention_norm: Tensor
    qkv: Linear
    out: Linear
    ffn_norm: Tensor
    gate_up: PackedWeight
    down: Linear
    half_split: bool  # the order of the rows of q and k, see attention

    @property
    def nbytes(self) -> int:
        return sum(weight.nbytes for weight in (
            self.qkv[0], self.out[0], self.gate_up, self.down[0]))


class Stack:
    """The layers of encoder or decoder."""

    def __init__(self, config: StackConfig, weights: WeightSource, path: str,
                 per_token: int) -> None:
        """
        Read and merge the weights, layer by layer.

        :param path: 'encoder' or 'decoder'
        :param per_token: positions per token
        """
        self.config = config
        self.per_token = per_token
        self.layers = [self._layer(weights, f'{path}.layers.{n}') for n in range(config.n_layers)]
        self.norm = _tensor(weights, f'{path}.norm.weight')
        self.inv_freq = rope_inv_freq(config.head_dim, config.rope_theta, weights.device)

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in self.layers)

    def __call__(self, h: Tensor, caches: list[LayerCache], slots: Tensor, position: Tensor,
                 scales: Tensor | None, counters: Tensor) -> Tensor:
        """
        Return the normed output of the last layer, [M, T, dim] in 16 bits.

        :param h: float32 [M, T, dim], changed in place
        :param position: int64 [slots], tokens
        :param scales: [n_layers, slots, dim] of the feed-forward inputs, or None
        """
        config, eps = self.config, self.config.norm_eps
        cos, sin = rope_cos_sin(slots, position, self.inv_freq, h.shape[1], self.per_token)
        partial, bias = None, None
        for index, layer in enumerate(self.layers):
            x = add_rms_norm(h, layer.attention_norm, eps, partial, bias)
            qkv = gemm(x, *layer.qkv)
            x = kv_attention.attention(qkv, caches[index], slots, position, cos, sin,
                                       config.n_heads, layer.half_split, counters)
            out, bias = layer.out
            x = add_rms_norm(h, layer.ffn_norm, eps, gemm_split_k(x, out), bias,
                             None if scales is None else scales[index], slots)
            down, bias = layer.down
            partial = gemm_split_k(gemm_swiglu(x, layer.gate_up), down)
        return add_rms_norm(h, self.norm, eps, partial, bias)

    def _layer(self, weights: WeightSource, path: str) -> Layer:
        qkv = [_linear(weights, f'{path}.attention.{name}') for name in ('wq', 'wk', 'wv')]
        gate, up = (weights.packed(f'{path}.feed_forward.{name}.weight') for name in ('w1', 'w3'))
        norm = _tensor(weights, f'{path}.attention_norm.weight')
        biases = [norm.new_zeros(weight.n) if bias is None else bias for weight, bias in qkv]
        no_bias = all(bias is None for _, bias in qkv)
        return Layer(
            norm, (concatenate([weight for weight, _ in qkv]),
                   None if no_bias else torch.cat(biases)),
            _linear(weights, f'{path}.attention.wo'), _tensor(weights, f'{path}.ffn_norm.weight'),
            interleave_gate_up(gate, up), _linear(weights, f'{path}.feed_forward.w2'),
            weights.half_split(f'{path}.attention.wq.weight'))


class CudaNetwork:
    """VoxtralRealtime with its weights merged and packed for the kernels, over one StreamState."""

    def __init__(self, config: ModelConfig, weights: WeightSource, max_streams: int,
                 max_chunk_tokens: int, pad: int, special: list[int],
                 int8_cache: bool = False) -> None:
        """
        Read the weights, one by one, and allocate the state of all streams and a spare one.

        :param special: tokens whose logits are always computed exactly
        :param int8_cache: keys and values in INT8
        """
        self.config = config
        self.mel = LogMel(config.audio)
        self.mel.place(weights.device)
        self.stem = ConvStem([(_tensor(weights, f'encoder.conv_layers.{n}.conv.weight'),
                               _tensor(weights, f'encoder.conv_layers.{n}.conv.bias'))
                              for n in (0, 1)])
        self.adapter = [_linear(weights, f'adapter.{n}') for n in (0, 2)]
        self.encoder = Stack(config.encoder, weights, 'encoder', config.downsample_factor)
        self.decoder = Stack(config.decoder, weights, 'decoder', 1)
        self._delay_weights = [tuple(
            _tensor(weights, f'decoder.layers.{n}.ada_rms_norm_t_cond.{part}.weight')
            for part in (0, 2)) for n in range(config.decoder.n_layers)]
        self.head = _head(weights, pad, special)
        torch.cuda.empty_cache()  # what merging and packing have left, before gigabytes of caches
        # The spare slot is for the rows of a batch that are not needed.
        self.state = StreamState(config, max_streams, kv_cache_tokens(max_chunk_tokens),
                                 weights.dtype, weights.device, n_spare=1, int8_cache=int8_cache)
        self.encoder_caches = _layer_caches(self.state.encoder_cache, config.downsample_factor)
        self.decoder_caches = _layer_caches(self.state.decoder_cache, 1)
        n_rows = 1 << max_streams.bit_length()  # at least as many as in the largest batch
        needed = max(
            n_counters(n_rows, max_chunk_tokens * stack.per_token, stack.config.n_heads,
                       stack.config.n_kv_heads) for stack in (self.encoder, self.decoder))
        self.counters = torch.zeros(needed, dtype=torch.int32, device=weights.device)

    @property
    def weight_bytes(self) -> WeightBytes:
        encoder = self.encoder.nbytes + self.stem.nbytes
        return WeightBytes(encoder + sum(weight.nbytes for weight, _ in self.adapter),
                           self.decoder.nbytes, self.head.screen.nbytes)

    def reset(self, slot: int, delay: int) -> None:
        """Begin a new stream in a slot, with a delay in tokens."""
        tokens = torch.tensor([delay], device=self.decoder.norm.device)
        scales = [delay_scale(tokens, down, up)[0] for down, up in self._delay_weights]
        self.state.reset(slot, torch.stack(scales).to(self.decoder.norm.dtype))

    def encode(self, samples: Tensor, slots: Tensor) -> Tensor:
        """
        Encode the next n tokens of audio.

        :param samples: float32 [M, n * 1280 + 240]
        :param slots: int64 [M]
        :return: [M, n, dim] of the decoder
        """
        state = self.state
        mel = self.mel(samples).to(self.encoder.norm.dtype)  # [M, 128, 8n]
        frames, conv_state = self.stem(mel, tuple(part[slots] for part in state.conv_state))
        for part, new in zip(state.conv_state, conv_state, strict=True):
            part[slots] = new
        h = frames.float().contiguous()  # [M, 4n, dim]
        x = self.encoder(h, self.encoder_caches, slots, state.encoder_position, None,
                         self.counters)
        advance(slots, state.encoder_position, mel.shape[-1] // self.config.audio.frames_per_token)
        x = x.unflatten(1, (-1, self.config.downsample_factor)).flatten(2)
        first, second = self.adapter
        return gemm(F.gelu(gemm(x, *first)), *second)

    def decode(self, audio: Tensor, tokens: Tensor, slots: Tensor, n_accepted: int | None = None,
               ) -> Tensor:
        """
        Return the hidden states of the next T positions, [M, T, dim], ready for the head.

        :param audio: [M, T, dim]
        :param tokens: int64 [M, T]
        :param n_accepted: how far to move the positions; None is T
        """
        h = embed(audio, self.head.embedding, tokens)
        x = self.decoder(h, self.decoder_caches, slots, self.state.decoder_position,
                         self.state.delay_scales, self.counters)
        advance(slots, self.state.decoder_position,
                tokens.shape[1] if n_accepted is None else n_accepted)
        return x

    def choose(self, hidden: Tensor, slots: Tensor, pad_penalty: Tensor, phrases: Phrases,
               last_token: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return tokens and probabilities, see phrases.py."""
        return choose(hidden, self.head, slots, pad_penalty, phrases, last_token)


def _tensor(weights: WeightSource, name: str) -> Tensor:
    tensor = weights.tensor(name)
    assert tensor is not None, name
    return tensor


def _linear(weights: WeightSource, path: str) -> Linear:
    return weights.packed(f'{path}.weight'), weights.tensor(f'{path}.bias')


def _layer_caches(cache: KVCache, per_token: int) -> list[LayerCache]:
    return [LayerCache(keys, values, None if cache.scales is None else cache.scales[n],
                       cache.window, per_token)
            for n, (keys, values) in enumerate(zip(cache.keys, cache.values, strict=True))]


def _head(weights: WeightSource, pad: int, special: list[int]) -> Head:
    embedding = weights.embedding()
    tokens = torch.tensor(special, dtype=torch.int32, device=weights.device)
    if isinstance(embedding, PackedWeight):
        return Head(embedding, None, tokens, pad)
    return Head(rounded_rows(embedding), embedding, tokens, pad)


def rounded_rows(weight: Tensor) -> PackedWeight:
    """Return a weight [N, K] in INT4, having taken little more memory than the result has."""
    n, k = weight.shape
    codes = torch.empty(k // TILE_K, n // STRIP[4], 2 * STRIP[4], dtype=torch.int32,
                        device=weight.device)
    scales = torch.empty(k // GROUP, n, dtype=torch.float16, device=weight.device)
    for start in range(0, n, _ROWS):
        block = pack_int4_codes(*rounding.round_int4(weight[start:start + _ROWS]))
        codes[:, start // STRIP[4]:(start + block.n) // STRIP[4]] = block.codes
        scales[:, start:start + block.n] = scales_of(block)
    return PackedWeight(4, k, n, codes, scales)
