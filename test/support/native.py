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

"""Helpers of the tests of the compiled passes: networks of any size, instruction sets, sound."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from support import checkpoints
import torch
from voxtral_ros.backends.cpu.backend import NativeStep
from voxtral_ros.backends.cpu.library import load
from voxtral_ros.backends.eager import EagerStep
from voxtral_ros.model.checkpoint import load_network
from voxtral_ros.model.network import StreamState, VoxtralRealtime

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


def random_network(folder: Path, seed: int = 0, **changes: Any) -> VoxtralRealtime:
    """Return a network of tiny sizes, or others."""
    params = checkpoints.tiny_params(**changes)
    tensors = checkpoints.random_tensors(params, seed)
    if not checkpoints.section(params, 'encoder')['use_biases']:
        tensors = {name: tensor for name, tensor in tensors.items()
                   if not name.endswith('.bias') or 'conv_layers' in name}
    checkpoints.write_checkpoint(folder, params, tensors, checkpoints.tiny_tekken())
    return load_network(folder)


def noise(n_streams: int, n_tokens: int, seed: int) -> np.ndarray:
    """Return windows of n tokens, float32 [n_streams, n * 1280 + 240]."""
    rng = np.random.default_rng(seed)
    loudness = rng.uniform(0.01, 0.3, (n_streams, 1))
    windows = loudness * rng.standard_normal((n_streams, n_tokens * 1280 + 240))
    return windows.astype(np.float32)


def open_streams(step: NativeStep | EagerStep, network: VoxtralRealtime, n: int) -> None:
    """Reset the first n slots for streams of different delays, clocks and penalties."""
    with torch.inference_mode():
        for slot in range(n):
            scales = network.decoder.delay_scales(torch.tensor([1 + 5 * slot]))[:, 0]
            step.state.reset(slot, scales, origin=1000 * slot)
            step.pad_penalty[slot] = 0.5 * slot
            step.last_token[slot] = PAD


def memory(state: StreamState, slot: int) -> list[torch.Tensor]:
    """Return all that is remembered of the stream in a slot."""
    rings = [ring[:, slot] for cache in (state.encoder_ring, state.decoder_ring)
             for ring in (cache.keys, cache.values)]
    return rings + [past[slot] for past in state.conv_past] + [state.encoded[slot],
                                                               state.decoded[slot]]
