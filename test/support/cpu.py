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

"""Helpers of the tests of the CPU backend: networks of any size, instruction sets, audio."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from support import checkpoints
import torch

from voxtral_ros.backends import selection
from voxtral_ros.backends.base import Backend
from voxtral_ros.backends.biasing import Expected, TokenTrie
from voxtral_ros.backends.cpu.backend import CpuBackend, StackState
from voxtral_ros.backends.cpu.library import load
from voxtral_ros.backends.cpu.weights import float_of
from voxtral_ros.backends.eager import EagerBackend
from voxtral_ros.model.checkpoint import open_weights
from voxtral_ros.model.kv_cache import contents
from voxtral_ros.model.layers import Attend
from voxtral_ros.model.loading import load_network
from voxtral_ros.model.names import checkpoint_name
from voxtral_ros.recognizer.engine import Engine

__all__ = [
    'BEST', 'ODD', 'PAD', 'Stored', 'checkpoint_name', 'cpu_backend', 'eager_backend',
    'eager_engine', 'float_of', 'half_cached', 'instruction_sets', 'instructions', 'last_tokens',
    'load', 'memory', 'noise', 'open_streams', 'positions', 'random_checkpoint', 'rounded_inputs',
    'with_half_caches']

SETS = ('avx512', 'avxvnni', 'avx2', 'dotprod', 'baseline')
BEST = load().voxtral_cpu_instructions()
PAD = checkpoints.STREAMING_PAD
# Sizes that no register divides, groups of 3 and of 1 query heads, windows that wrap soon.
ODD = {'dim': 50, 'hidden_dim': 37, 'head_dim': 6, 'n_heads': 6, 'n_kv_heads': 2,
       'sliding_window': 7, 'vocab_size': 1101, 'n_layers': 2,
       'encoder': {'dim': 23, 'hidden_dim': 29, 'head_dim': 10, 'n_heads': 3, 'n_kv_heads': 3,
                   'sliding_window': 11, 'n_layers': 2},
       'audio': {'num_mel_bins': 80}}


def instruction_sets() -> list[str]:
    """Return the names of those that this processor has."""
    names = [name for name in SETS if load().voxtral_cpu_use(name.encode())]
    load().voxtral_cpu_use(BEST)
    return names


@contextmanager
def instructions(name: str) -> Iterator[None]:
    """Compute with an instruction set."""
    assert load().voxtral_cpu_use(name.encode())
    try:
        yield
    finally:
        load().voxtral_cpu_use(BEST)


def random_checkpoint(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """Write a checkpoint of tiny sizes, or others; return its folder."""
    params = checkpoints.tiny_params(**changes)
    tensors = checkpoints.random_tensors(params, seed)
    if not checkpoints.section(params, 'encoder')['use_biases']:
        tensors = {name: tensor for name, tensor in tensors.items()
                   if not name.endswith('.bias') or 'conv_layers' in name}
    return checkpoints.write_checkpoint(folder, params, tensors, checkpoints.tiny_tekken())


def cpu_backend(folder: Path, max_streams: int = 1, max_chunk_tokens: int = 8,
                int8_cache: bool = False) -> CpuBackend:
    """Return the CPU backend of a checkpoint, on one thread."""
    with open_weights(folder) as (config, weights):
        return CpuBackend(config, weights, PAD, max_streams, max_chunk_tokens, 1, int8_cache)


def eager_backend(folder: Path, max_streams: int = 1, max_chunk_tokens: int = 8,
                  exact: bool = False, int8_cache: bool = False) -> EagerBackend:
    """Return the reference for a checkpoint, in float32 or exact in float64."""
    network = load_network(folder, dtype=torch.float32)
    return EagerBackend(network.double() if exact else network, PAD, max_streams,
                        max_chunk_tokens, int8_cache)


def eager_engine(folder: Path, **options: Any) -> Engine:
    """Return an engine over the network in PyTorch, float32 with dequantized weights."""
    with mock.patch.object(selection.cpu_library, 'available', lambda: False):
        return Engine.load(folder, 'cpu', 'float32', **options)


def half_cached(attend: Attend) -> Attend:
    """Round keys and values to fp16 first, as the KV caches of ours do."""
    return lambda q, k, v: attend(q, k.half().to(q), v.half().to(q))


def with_half_caches(backend: EagerBackend) -> EagerBackend:
    """Let a reference have KV caches of fp16, as ours has."""
    for cache in (backend.state.encoder_cache, backend.state.decoder_cache):
        exact = cache.attention
        cache.attention = lambda *args, exact=exact: [  # type: ignore[method-assign]
            half_cached(attend) for attend in exact(*args)]
    return backend


def rounded_inputs(backend: EagerBackend, folder: Path) -> EagerBackend:
    """Let the layers of a reference whose weights are quantized round their inputs as ours do."""
    network = backend.network
    with open_weights(folder) as (_, weights):
        for name, _ in network.named_parameters():
            if weights.kind(checkpoint_name(name)) not in ('int8', 'int4'):
                continue
            module = network.get_submodule(name.removesuffix('.weight'))
            if isinstance(module, torch.nn.Linear):
                module.register_forward_pre_hook(lambda _, inputs: (round_to_int8(inputs[0]),))
            else:  # the token embedding, which is the head as well
                network.decoder.norm.register_forward_hook(
                    lambda _, inputs, output: round_to_int8(output))
    return backend


def round_to_int8(x: torch.Tensor) -> torch.Tensor:
    """Round groups of 128 inputs to multiples of a 127th of the largest of them."""
    groups = x.unflatten(-1, (-1, 128))
    scale = groups.abs().amax(-1, keepdim=True) / 127
    return torch.where(scale > 0, (groups / scale).round() * scale, 0).flatten(-2)


class Stored:
    """One weight as a checkpoint file has it, in blocks of a size that divides nothing."""

    def __init__(self, codes, scales=None, kind='dense', block=5):
        self.codes, self.scales, self._kind, self._block = codes, scales, kind, block

    def kind(self, name):
        return self._kind

    def shape(self, name):
        return self.codes.shape

    def array(self, name):
        return self.codes

    def code_arrays(self, name):
        for start in range(0, len(self.codes), self._block):
            rows = slice(start, start + self._block)
            yield start, self.codes[rows], self.scales[rows]


def noise(n_streams: int, n_tokens: int, seed: int, per_token: int = 1280) -> np.ndarray:
    """Return windows of n tokens, float32 [n_streams, n * per_token + 240]."""
    rng = np.random.default_rng(seed)
    loudness = rng.uniform(0.01, 0.3, (n_streams, 1))
    windows = loudness * rng.standard_normal((n_streams, n_tokens * per_token + 240))
    return windows.astype(np.float32)


def open_streams(backend: Backend, n: int) -> None:
    """Begin streams of different delays and penalties in the first n slots."""
    for slot in range(n):
        backend.reset(slot, 1 + 5 * slot)
        backend.set_pad_penalty(slot, 0.5 * slot)
        last_tokens(backend)[slot] = PAD


def random_trie(seed: int, vocab_size: int, first_text: int = 1000,
                max_bias: float = 4.0) -> TokenTrie:
    """Return a trie of many sequences of few tokens, and of biases that decide."""
    rng = np.random.default_rng(seed)
    tokens = rng.choice(np.arange(first_text, vocab_size), 40, replace=False)
    sequences = []
    for _ in range(60):
        sequence = rng.choice(tokens, rng.integers(1, 5)).tolist()
        inside = rng.integers(0, 2, len(sequence)).tolist()
        sequences.append([
            Expected(token, rng.uniform(0, max_bias), bool(inside[n]), n == len(sequence) - 1)
            for n, token in enumerate(sequence)])
    trie = TokenTrie.build(sequences, first_text, [int(tokens[0])])
    assert trie
    return trie


def last_tokens(backend: Any) -> Any:
    """Return the last token of every slot, as array or tensor."""
    return backend.state.last_token if isinstance(backend, CpuBackend) else backend.last_token


def positions(stack: StackState) -> tuple[np.ndarray, np.ndarray]:
    """
    Return copies of keys and values of a stack, [n_layers, slots, entries, heads, dim].

    Of a cache in INT8 it is what they stand for.
    """
    dim = stack.keys.shape[-2]
    keys = stack.keys.transpose(0, 1, 3, 5, 2, 4)  # [n_layers, slots, panels, 16, heads, dim]
    values = stack.values.transpose(0, 1, 4, 2, 3, 5)  # [.., entries, heads, panels, 16]
    parts = (keys.reshape(*keys.shape[:2], -1, *keys.shape[4:]),
             values.reshape(*values.shape[:4], -1)[..., :dim])
    if stack.scales is None:
        return parts
    scales = float_of(stack.scales).transpose(3, 0, 1, 4, 2)  # [2, .., entries, heads]
    return parts[0] * scales[0, ..., None], parts[1] * scales[1, ..., None]


def memory(backend: Any, slot: int) -> list[torch.Tensor]:
    """Return all that is remembered of the stream in a slot, of KV caches what is in windows."""
    state = backend.state
    if isinstance(backend, CpuBackend):
        config = backend.config
        caches = [*positions(state.encoder), *positions(state.decoder)]
        ages = [state.encoder.position[slot], state.decoder.position[slot]]
    else:
        config = backend.network.config
        caches = [cache for stack in (state.encoder_cache, state.decoder_cache)
                  for cache in contents(stack.keys, stack.values, stack.scales)]
        ages = [state.encoder_position[slot], state.decoder_position[slot]]
    kept = []
    stacks = ((config.encoder, config.downsample_factor), (config.decoder, 1))
    for n, cache in enumerate(caches):
        stack, per_token = stacks[n // 2]
        end = int(ages[n // 2]) * per_token
        seen = np.arange(max(0, end - stack.sliding_window), end)
        kept.append(torch.as_tensor(cache[:, slot, seen % cache.shape[2]]))
    return [*kept, *(torch.as_tensor(part[slot]).clone() for part in state.conv_state),
            *(torch.tensor(int(age)) for age in ages)]
