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
The network compiled for the CPU: whole passes in one call, over the same weights and StreamState.

The addresses of all tensors are handed over once. The mel spectrogram stays PyTorch's: its FFT is
as good as it gets.
"""

from __future__ import annotations

from collections.abc import Sequence
import ctypes
from ctypes import c_float, c_int64
from typing import Any

import torch
from torch import Tensor
from voxtral_ros.backends.cpu.library import Layer, load, Matrix, Model, Stack
from voxtral_ros.backends.cpu.weights import NativeEmbedding, NativeLinear, NativeWeight
from voxtral_ros.model.config import StackConfig
from voxtral_ros.model.kv_cache import RingCache
from voxtral_ros.model.layers import frequencies
from voxtral_ros.model.network import StreamState, VoxtralRealtime


class NativePasses:
    """Passes of one network over one StreamState."""

    def __init__(self, network: VoxtralRealtime, state: StreamState, pad: int,
                 pad_penalty: Tensor, last_token: Tensor, max_tokens: int) -> None:
        """
        Take the addresses of all tensors; nothing of them may be replaced from now on.

        :param pad_penalty: float32 [slots], subtracted from the logit of `pad`
        :param last_token: int64 [slots], changed by every pass
        :param max_tokens: of a stream in one pass
        :raises BuildError: there is no library
        """
        self._library = load()
        self._library.voxtral_cpu_threads(torch.get_num_threads())
        self._network, self._state = network, state
        self._kept: list[Any] = []  # what the library has the addresses of
        self._max_tokens = max_tokens
        self._vocab_size = network.config.vocab_size
        encoder, decoder = network.encoder, network.decoder
        config = network.config
        convolutions = [self._matrix(layer.conv) for layer in encoder.conv_layers]
        adapter = [self._matrix(network.adapter[index]) for index in (0, 2)]
        self._model = Model(
            encoder=self._stack(config.encoder, encoder, state.encoder_ring, state.encoded,
                                config.downsample_factor),
            decoder=self._stack(config.decoder, decoder, state.decoder_ring, state.decoded, 1),
            conv=(Matrix * 2)(*convolutions), adapter=(Matrix * 2)(*adapter),
            conv_past=(ctypes.c_void_p * 2)(*map(self._address, state.conv_past)),
            head=self._matrix(decoder.tok_embeddings),
            delay_scales=self._address(state.delay_scales), origin=self._address(state.origin),
            pad_penalty=self._address(pad_penalty), last_token=self._address(last_token),
            n_slots=len(last_token), n_mels=config.audio.num_mel_bins, pad=pad)
        self._memory = torch.empty(self._library.voxtral_cpu_workspace(
            self._model, len(last_token), max_tokens))

    def prompt(self, slots: Sequence[int], samples: Tensor, given: Sequence[Sequence[int]],
               ) -> tuple[list[int], list[float]]:
        """
        Pass positions whose tokens are given; return what the last one of each stream predicts.

        :param slots: [M], different ones
        :param samples: float32 [M, n * 1280 + 240], windows overlapping by 240 samples
        :param given: [M][n]
        :return: ids and probabilities, [M]
        :raises IndexError: there is no such slot or token
        :raises ValueError: shapes do not fit
        """
        index, mel, n = self._inputs(slots, samples)
        if [len(row) for row in given] != [n] * len(slots):
            raise ValueError(f'not every stream has {n} tokens given, as it has sound')
        tokens = [token for row in given for token in row]
        if not 0 <= min(tokens) <= max(tokens) < self._vocab_size:
            raise IndexError(f'tokens {min(tokens)} to {max(tokens)} are given, but the '
                             f'vocabulary has {self._vocab_size}')
        ids, chances = (c_int64 * len(slots))(), (c_float * len(slots))()
        self._library.voxtral_cpu_prompt(
            self._model, index, len(slots), mel.data_ptr(), n, (c_int64 * len(tokens))(*tokens),
            self._memory.data_ptr(), ids, chances)
        return list(ids), list(chances)

    def generate(self, slots: Sequence[int], samples: Tensor,
                 ) -> tuple[list[list[int]], list[list[float]]]:
        """
        Pass positions, each with the token that the one before has predicted.

        :return: ids and probabilities, [M][n]
        """
        index, mel, n = self._inputs(slots, samples)
        ids, chances = (c_int64 * (len(slots) * n))(), (c_float * (len(slots) * n))()
        self._library.voxtral_cpu_generate(
            self._model, index, len(slots), mel.data_ptr(), n, self._memory.data_ptr(), ids,
            chances)
        starts = range(0, len(ids), n)
        return [ids[i:i + n] for i in starts], [chances[i:i + n] for i in starts]

    def _inputs(self, slots: Sequence[int], samples: Tensor,
                ) -> tuple[ctypes.Array[c_int64], Tensor, int]:
        """Return slots, mel frames [M, 8n, 128] and n; the library itself checks nothing."""
        n_slots = self._model.n_slots
        if len(set(slots)) < len(slots) or not 0 <= min(slots) <= max(slots) < n_slots:
            raise IndexError(f'slots {list(slots)}: there are {n_slots}, and a pass takes each '
                             'once')
        mel = self._network.mel(samples).transpose(1, 2).contiguous()
        n_tokens = mel.shape[1] // (2 * self._network.config.downsample_factor)
        if not 0 < n_tokens <= self._max_tokens or len(mel) != len(slots):
            raise ValueError(f'a pass over {n_tokens} tokens of {len(mel)} streams, but it is for '
                             f'{len(slots)} streams, and the state was made for '
                             f'{self._max_tokens} tokens')
        return (c_int64 * len(slots))(*slots), mel, n_tokens

    def _stack(self, config: StackConfig, modules: Any, ring: RingCache, clock: Tensor,
               per_token: int) -> Stack:
        layers = (Layer * config.n_layers)(*(self._layer(layer) for layer in modules.layers))
        self._kept.append(layers)
        return Stack(
            dim=config.dim, n_layers=config.n_layers, n_heads=config.n_heads,
            n_kv_heads=config.n_kv_heads, head_dim=config.head_dim, hidden_dim=config.hidden_dim,
            window=config.sliding_window, per_token=per_token, eps=config.norm_eps,
            turns=self._address(frequencies(config.head_dim, config.rope_theta, clock.device)),
            layers=layers, norm=self._address(modules.norm.weight), keys=self._address(ring.keys),
            values=self._address(ring.values), capacity=ring.capacity, clock=self._address(clock))

    def _layer(self, layer: Any) -> Layer:
        attention, feed_forward = layer.attention, layer.feed_forward
        query, key, value, out, gate, up, down = map(self._matrix, (
            attention.wq, attention.wk, attention.wv, attention.wo,
            feed_forward.w1, feed_forward.w3, feed_forward.w2))
        return Layer(
            attention_norm=self._address(layer.attention_norm.weight), query=query, key=key,
            value=value, out=out, ffn_norm=self._address(layer.ffn_norm.weight), gate=gate, up=up,
            down=down)

    def _matrix(self, module: Any) -> Matrix:
        if isinstance(module, (NativeLinear, NativeEmbedding)):
            weight = module.native
        else:
            weight = NativeWeight(32, module.weight.data.flatten(1))
        bias = getattr(module, 'bias', None)
        per_byte = 2 if weight.storage == 4 else 1
        return Matrix(
            weight=self._address(weight.codes), n=weight.codes.shape[0],
            k=weight.codes.shape[1] * per_byte, storage=weight.storage,
            scale=None if weight.scales is None else self._address(weight.scales),
            bias=None if bias is None else self._address(bias))

    def _address(self, tensor: Tensor) -> int:
        if not tensor.is_contiguous() or tensor.device.type != 'cpu':
            raise ValueError(f'a tensor of {list(tensor.shape)} does not lie in memory as it is')
        self._kept.append(tensor)
        return tensor.data_ptr()
