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
The network compiled for the CPU: one call of our library a pass, over weights that stay packed.

All state lies in numpy arrays, whose addresses the library gets once. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence
import ctypes
from ctypes import c_int64, c_void_p
from decimal import Decimal
import math
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from voxtral_ros.backends.base import (
    DEFAULT_CHUNK_TOKENS, kv_cache_tokens, MAX_ROLLBACK_TOKENS, Tokens, Unbiased, WeightBytes)
from voxtral_ros.backends.biasing import TokenTrie
from voxtral_ros.backends.cpu.library import (
    Choice, Layer, load, Matrix, Model, Phrases, Stack)
from voxtral_ros.backends.cpu.mel import LogMel
from voxtral_ros.backends.cpu.weights import (
    float_of, PANEL, read_weight, StoredWeights, WeightMemory)
from voxtral_ros.backends.rollback import SavedStreams
from voxtral_ros.model.config import ModelConfig, StackConfig
from voxtral_ros.model.names import checkpoint_name

Array = npt.NDArray[Any]
_TWO_PI = Decimal('6.283185307179586476925286767')


class CpuBackend:
    """Compiled passes over the streams of one network."""

    device = 'cpu'
    speculative = None
    max_rollback_tokens = MAX_ROLLBACK_TOKENS

    def __init__(self, config: ModelConfig, weights: StoredWeights, pad: int,
                 max_streams: int = 1, max_chunk_tokens: int = DEFAULT_CHUNK_TOKENS,
                 threads: int = 0, int8_cache: bool = False) -> None:
        """
        Read the weights and allocate the state of all streams.

        :param weights: an open checkpoint file whose names and shapes are those of `config`
        :param pad: id of the token whose logit pad penalties lower
        :param threads: of large GEMMs and long attention; 0 is OMP_NUM_THREADS, or one per core
        :param int8_cache: keys and values in INT8 instead of fp16
        :raises BuildError: there is no library
        """
        self._library = load()
        self._library.voxtral_cpu_threads(threads or default_threads())
        self.config = config
        self.max_streams, self.max_chunk_tokens = max_streams, max_chunk_tokens
        self._mel = LogMel(config.audio)
        self._weights, self._weight_memory = weights, WeightMemory()
        self._arrays: list[Any] = []  # what the library has the addresses of
        self._sizes = {'encoder': 0, 'decoder': 0, 'head': 0}
        self.state = CpuState(config, max_streams, kv_cache_tokens(max_chunk_tokens), int8_cache)
        self._saved = SavedStreams((
            *self.state.conv_state, self.state.encoder.position, self.state.decoder.position,
            self.state.last_token, self.state.phrase_state))
        self._phrases = (Phrases * max_streams)()
        self._tries: dict[int, TokenTrie] = {}  # whose addresses these have
        self._delay_weights = [tuple(
            self._array(f'decoder.layers.{n}.ada_rms_norm_t_cond.{part}.weight')
            for part in (0, 2)) for n in range(config.decoder.n_layers)]
        self._model = self._marshal(pad)
        del self._weights, self._weight_memory
        workspace = self._library.voxtral_cpu_workspace(
            self._model, max_streams, max_chunk_tokens)
        self._memory = np.empty(workspace, np.float32)

    # ---- the interface ----

    @property
    def description(self) -> str:
        instructions = self._library.voxtral_cpu_instructions().decode()
        return f'compiled for the CPU ({instructions})'

    @property
    def weight_bytes(self) -> WeightBytes:
        return WeightBytes(**self._sizes)

    @property
    def cache_bytes(self) -> int:
        return self.state.nbytes

    @property
    def cache_bits(self) -> int:
        return 8 * self.state.decoder.keys.itemsize

    def reset(self, slot: int, delay: int) -> None:
        self.state.reset(slot)
        for layer, (down, up) in enumerate(self._delay_weights):
            self.state.delay_scales[layer, slot] = delay_scale(delay, down, up)
        self.set_phrases(slot, None)

    def set_pad_penalty(self, slot: int, penalty: float) -> None:
        self.state.pad_penalty[slot] = penalty

    def set_phrases(self, slot: int, trie: TokenTrie | None) -> None:
        self._phrases[slot] = Phrases() if trie is None else Phrases(
            begin=_address(trie.begin), token=_address(trie.token), next=_address(trie.next),
            bias=_address(trie.bias), inside=_address(trie.inside), first_text=trie.first_text)
        self._tries.pop(slot, None)
        if trie is not None:
            self._tries[slot] = trie
        self.state.phrase_state[slot] = 0
        self._saved.forget(slot)

    def replace_token(self, slot: int, token: int, phrase_state: int) -> None:
        self.state.last_token[slot] = token
        self.state.phrase_state[slot] = phrase_state

    def save(self, slot: int) -> None:
        self._saved.save(slot)

    def rollback(self, slot: int) -> None:
        self._saved.rollback(slot)  # attention reads nothing outside of the window

    def set_position(self, position: int) -> None:
        self.state.encoder.position[:] = position
        self.state.decoder.position[:] = position
        self._saved.forget_all()

    def prefill(self, slots: Sequence[int], windows: np.ndarray,
                prompt_tokens: Sequence[Sequence[int]]) -> Tokens:
        index, mel, n = self._inputs(slots, windows)
        if [len(row) for row in prompt_tokens] != [n] * len(slots):
            raise ValueError(f'not every stream has {n} prompt tokens, as it has audio')
        tokens = [token for row in prompt_tokens for token in row]
        if not 0 <= min(tokens) <= max(tokens) < self.config.vocab_size:
            raise IndexError(f'prompt tokens {min(tokens)} to {max(tokens)}, but the vocabulary '
                             f'has {self.config.vocab_size}')
        choices = (Choice * len(slots))()
        self._saved.count(slots, n)
        self._library.voxtral_cpu_prefill(
            self._model, index, len(slots), _address(mel), n, (c_int64 * len(tokens))(*tokens),
            _address(self._memory), choices)
        return self._tokens(slots, choices, 1)

    def decode(self, slots: Sequence[int], windows: np.ndarray) -> Tokens:
        index, mel, n = self._inputs(slots, windows)
        choices = (Choice * (len(slots) * n))()
        self._saved.count(slots, n)
        self._library.voxtral_cpu_decode(
            self._model, index, len(slots), _address(mel), n, _address(self._memory), choices)
        return self._tokens(slots, choices, n)

    def warm_up(self) -> None:
        pass

    def close(self) -> None:
        del self._model, self.state, self._saved, self._memory, self._delay_weights
        self._arrays.clear()

    # ---- inside ----

    def _tokens(self, slots: Sequence[int], choices: ctypes.Array[Choice], n: int) -> Tokens:
        rows = [choices[i:i + n] for i in range(0, len(choices), n)]
        unbiased = None if self._tries.keys().isdisjoint(slots) else [[
            Unbiased(choice.unbiased, choice.unbiased_probability, choice.cost)
            for choice in row] for row in rows]
        return Tokens([[choice.token for choice in row] for row in rows],
                      [[choice.probability for choice in row] for row in rows], unbiased)

    def _inputs(self, slots: Sequence[int], windows: np.ndarray,
                ) -> tuple[ctypes.Array[c_int64], Array, int]:
        """Return slots, mel frames [M, 8n, 128] and n; the library itself checks nothing."""
        n_slots = self.max_streams
        if len(set(slots)) < len(slots) or not 0 <= min(slots) <= max(slots) < n_slots:
            raise IndexError(f'slots {list(slots)}: there are {n_slots}, and a pass takes each '
                             'once')
        n_tokens = self.config.audio.n_tokens(windows.shape[1])
        if not 0 < n_tokens <= self.max_chunk_tokens or len(windows) != len(slots):
            raise ValueError(f'a pass over {n_tokens} tokens of {len(windows)} streams, but it is '
                             f'for {len(slots)} streams, and the state was made for '
                             f'{self.max_chunk_tokens} tokens')
        return (c_int64 * len(slots))(*slots), self._mel(windows), n_tokens

    def _marshal(self, pad: int) -> Model:
        """Return the network as the library sees it."""
        config, state = self.config, self.state
        return Model(
            encoder=self._stack(
                'encoder', config.encoder, state.encoder, config.downsample_factor),
            decoder=self._stack('decoder', config.decoder, state.decoder, 1),
            conv=(Matrix * 2)(*(self._matrix(f'encoder.conv_layers.{n}.conv', 'encoder')
                                for n in (0, 1))),
            adapter=(Matrix * 2)(*(self._matrix(f'adapter.{n}', 'encoder') for n in (0, 2))),
            conv_state=(c_void_p * 2)(*map(self._keep, state.conv_state)),
            head=self._matrix('decoder.tok_embeddings', 'head'),
            delay_scales=self._keep(state.delay_scales),
            pad_penalty=self._keep(state.pad_penalty), last_token=self._keep(state.last_token),
            phrases=self._phrases, phrase_state=self._keep(state.phrase_state),
            n_slots=self.max_streams, n_mels=config.audio.num_mel_bins, pad=pad)

    def _stack(self, part: str, config: StackConfig, state: StackState, per_token: int) -> Stack:
        layers = (Layer * config.n_layers)(*(
            self._layer(f'{part}.layers.{n}', part) for n in range(config.n_layers)))
        self._arrays.append(layers)
        return Stack(
            dim=config.dim, n_layers=config.n_layers, n_heads=config.n_heads,
            n_kv_heads=config.n_kv_heads, head_dim=config.head_dim, hidden_dim=config.hidden_dim,
            sliding_window=config.sliding_window, per_token=per_token, eps=config.norm_eps,
            turns=self._keep(rope_turns(config)), layers=layers,
            norm=self._vector(f'{part}.norm.weight'), keys=self._keep(state.keys),
            values=self._keep(state.values),
            scales=None if state.scales is None else self._keep(state.scales),
            capacity=state.capacity, position=self._keep(state.position))

    def _layer(self, path: str, part: str) -> Layer:
        query, key, value, out, gate, up, down = (
            self._matrix(f'{path}.{name}', part) for name in (
                'attention.wq', 'attention.wk', 'attention.wv', 'attention.wo',
                'feed_forward.w1', 'feed_forward.w3', 'feed_forward.w2'))
        return Layer(
            attention_norm=self._vector(f'{path}.attention_norm.weight'), query=query, key=key,
            value=value, out=out, ffn_norm=self._vector(f'{path}.ffn_norm.weight'), gate=gate,
            up=up, down=down)

    def _matrix(self, path: str, part: str) -> Matrix:
        """Read weight and bias of a layer."""
        weight = read_weight(
            self._weights, checkpoint_name(f'{path}.weight'), self._weight_memory)
        self._sizes[part] += weight.nbytes
        n, k = weight.shape
        return Matrix(
            weight=self._keep(weight.codes), n=n, k=k, bits=weight.bits,
            scale=None if weight.scales is None else self._keep(weight.scales),
            bias=self._vector(f'{path}.bias'))

    def _vector(self, name: str) -> int | None:
        """Return the address of a weight in float32, None if there is none."""
        return self._keep(self._array(name)) \
            if self._weights.kind(checkpoint_name(name)) else None

    def _array(self, name: str) -> Array:
        array = self._weights.array(checkpoint_name(name))
        return float_of(array) if array.dtype == np.uint16 else array

    def _keep(self, array: Array) -> int:
        """Return the address of an array that stays where it is for as long as we do."""
        self._arrays.append(array)
        return _address(array)


class StackState:
    """
    KV cache in fp16 or INT8, and position of one stack; it wraps as in voxtral_ros.model.kv_cache.

    Keys of 16 positions lie side by side, and values of 16 dimensions; see kernels/cpu/network.h.
    """

    def __init__(self, config: StackConfig, n_slots: int, max_positions: int,
                 int8: bool) -> None:
        self.capacity = -(-config.cache_capacity(max_positions) // PANEL) * PANEL
        n_layers, heads, dim = config.n_layers, config.n_kv_heads, config.head_dim
        dtype = np.int8 if int8 else np.float16
        self.keys: Array = np.zeros(
            (n_layers, n_slots, heads, self.capacity // PANEL, dim, PANEL), dtype)
        self.values: Array = np.zeros(
            (n_layers, n_slots, heads, -(-dim // PANEL), self.capacity, PANEL), dtype)
        # Of keys and values, bfloat16.
        self.scales = np.zeros((n_layers, n_slots, heads, 2, self.capacity), np.uint16) \
            if int8 else None
        self.position = np.zeros(n_slots, np.int64)  # tokens since the stream was opened

    def reset(self, slot: int) -> None:
        """Forget what a slot holds: entries are masked, but a masked NaN is still a NaN."""
        for part in self.cache:
            part[:, slot] = 0
        self.position[slot] = 0

    @property
    def cache(self) -> tuple[Array, ...]:
        """Return the arrays of the KV cache, [n_layers, slots, ...]."""
        scales = () if self.scales is None else (self.scales,)
        return self.keys, self.values, *scales


class CpuState:
    """All that is remembered of `n_slots` streams; its memory is fixed at construction."""

    def __init__(self, config: ModelConfig, n_slots: int, max_tokens: int,
                 int8_cache: bool = False) -> None:
        """Allocate for passes over, or ways back by, at most `max_tokens` tokens per stream."""
        self.encoder = StackState(
            config.encoder, n_slots, max_tokens * config.downsample_factor, int8_cache)
        self.decoder = StackState(config.decoder, n_slots, max_tokens, int8_cache)
        # What the two convolutions remember, [slots, channels, frames]: as in model.encoder.
        self.conv_state = (np.zeros((n_slots, config.audio.num_mel_bins, 2), np.float32),
                           np.zeros((n_slots, config.encoder.dim, 1), np.float32))
        self.delay_scales = np.ones(
            (config.decoder.n_layers, n_slots, config.decoder.dim), np.float32)
        self.pad_penalty = np.zeros(n_slots, np.float32)
        self.last_token = np.zeros(n_slots, np.int64)
        self.phrase_state = np.zeros(n_slots, np.int64)

    def reset(self, slot: int) -> None:
        """Forget the stream in a slot."""
        for state in self.conv_state:
            state[slot] = 0
        self.encoder.reset(slot)
        self.decoder.reset(slot)
        self.pad_penalty[slot] = 0

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for stack in (self.encoder, self.decoder) for part in stack.cache)


def rope_turns(config: StackConfig) -> Array:
    """
    Return by how many turns RoPE rotates each pair of a head per position, float64 [head_dim / 2].

    Computed in decimal, and so the same wherever it is done.
    """
    theta = Decimal(config.rope_theta)
    return np.array([float(theta ** (Decimal(-2 * pair) / config.head_dim) / _TWO_PI)
                     for pair in range(config.head_dim // 2)])


def delay_scale(delay: int, down: Array, up: Array) -> Array:
    """
    Return what the feed-forward input of a layer is scaled by, [dim]; see model.decoder.

    :param delay: tokens
    :param down, up: float32 [ada_dim, dim] and [dim, ada_dim]
    """
    dim = len(up)
    angles = delay * np.exp(-math.log(10000.0) * 2 / dim * np.arange(dim // 2))
    embedding = np.concatenate((np.cos(angles), np.sin(angles)))
    hidden = (down * embedding).sum(axis=1)
    gelu = np.array([0.5 * x * (1 + math.erf(x / math.sqrt(2))) for x in hidden.tolist()])
    return (1 + (up * gelu).sum(axis=1)).astype(np.float32)


def default_threads() -> int:
    """Return OMP_NUM_THREADS, or one per core that we may use."""
    asked = os.environ.get('OMP_NUM_THREADS', '')
    return int(asked) if asked.isdecimal() and int(asked) else len(os.sched_getaffinity(0))


def _address(array: Array) -> int:
    if not array.flags.c_contiguous:
        raise ValueError(f'an array of {array.shape} does not lie in memory as it is')
    return array.ctypes.data
