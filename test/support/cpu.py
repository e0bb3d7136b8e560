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

import numpy as np
from support import checkpoints
import torch

from voxtral_ros.backends.base import Backend
from voxtral_ros.backends.cpu.backend import CpuBackend
from voxtral_ros.backends.cpu.library import load
from voxtral_ros.backends.cpu.weights import float_of
from voxtral_ros.backends.eager import EagerBackend
from voxtral_ros.model.checkpoint import open_weights
from voxtral_ros.model.loading import load_network
from voxtral_ros.model.names import checkpoint_name

__all__ = [
    'BEST', 'ODD', 'PAD', 'checkpoint_name', 'cpu_backend', 'eager_backend', 'float_of',
    'instruction_sets', 'instructions', 'last_tokens', 'load', 'memory', 'noise', 'open_streams',
    'random_checkpoint']

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
    names = [name for name in ('avx512', 'avx2', 'baseline') if load().voxtral_cpu_use(
        name.encode())]
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


def cpu_backend(folder: Path, max_streams: int = 1, max_chunk_tokens: int = 8) -> CpuBackend:
    """Return the CPU backend of a checkpoint, on one thread."""
    with open_weights(folder) as (config, weights):
        return CpuBackend(config, weights, PAD, max_streams, max_chunk_tokens, threads=1)


def eager_backend(folder: Path, max_streams: int = 1, max_chunk_tokens: int = 8,
                  exact: bool = False) -> EagerBackend:
    """Return the reference for a checkpoint, in float32 or exact in float64."""
    network = load_network(folder, dtype=torch.float32)
    return EagerBackend(network.double() if exact else network, PAD, max_streams,
                        max_chunk_tokens)


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


def last_tokens(backend: Any) -> Any:
    """Return the last token of every slot, as array or tensor."""
    return backend.state.last_token if isinstance(backend, CpuBackend) else backend.last_token


def memory(backend: Any, slot: int) -> list[torch.Tensor]:
    """Return all that is remembered of the stream in a slot."""
    state = backend.state
    if isinstance(backend, CpuBackend):
        parts = [state.encoder.keys[:, slot], state.encoder.values[:, slot],
                 state.decoder.keys[:, slot], state.decoder.values[:, slot],
                 *(part[slot] for part in state.conv_state),
                 state.encoder.position[slot], state.decoder.position[slot]]
        return [torch.from_numpy(np.array(part)) for part in parts]
    caches = [cache[:, slot] for stack in (state.encoder_cache, state.decoder_cache)
              for cache in (stack.keys, stack.values)]
    return [*caches, *(part[slot] for part in state.conv_state),
            state.encoder_position[slot], state.decoder_position[slot]]
