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

"""Backends of one small checkpoint, to be compared with each other: three slots, short passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import checkpoints, cpu
from support.cuda import backend_without_graphs, on_gpu
import torch

from voxtral_ros.backends.base import Backend
from voxtral_ros.backends.cuda.backend import CudaBackend
from voxtral_ros.backends.cuda.weight_source import CheckpointWeights
from voxtral_ros.model.checkpoint import open_weights
from voxtral_ros.model.loading import load_network

N_SLOTS, CHUNK = 3, 8
SIZES = {  # that every backend can have
    'n_layers': 2, 'dim': 256, 'head_dim': 64, 'hidden_dim': 256, 'n_heads': 4, 'n_kv_heads': 2,
    'vocab_size': 1088, 'encoder.n_layers': 2, 'encoder.dim': 128, 'encoder.head_dim': 64,
    'encoder.hidden_dim': 128, 'encoder.n_heads': 2, 'encoder.n_kv_heads': 2}


def compiled(folder: Path, speculative: bool = False) -> Backend:
    return cpu.cpu_backend(folder, N_SLOTS, CHUNK)


def eager(folder: Path, speculative: bool = False) -> Backend:
    return cpu.eager_backend(folder, N_SLOTS, CHUNK)


def eager_on_gpu(folder: Path, speculative: bool = False) -> Backend:
    network = load_network(folder, 'cuda', torch.float32)
    return cpu.EagerBackend(network, cpu.PAD, N_SLOTS, CHUNK)


def launched(folder: Path, speculative: bool = True) -> Backend:
    return backend_without_graphs(folder, max_streams=N_SLOTS, max_chunk_tokens=CHUNK,
                                  speculative=speculative)


def graphs(folder: Path, speculative: bool = True) -> Backend:
    with open_weights(folder) as (config, weights):
        source = CheckpointWeights(weights, torch.device('cuda', 0), torch.bfloat16)
        return CudaBackend(config, source, cpu.PAD, [cpu.PAD, checkpoints.STREAMING_WORD],
                           N_SLOTS, CHUNK, speculative)


def marks_of(make: Callable[..., Backend]) -> Any:
    """Return the marks of a test with a backend: some need a GPU."""
    return on_gpu if make in (graphs, eager_on_gpu) else ()


def all_of(*makes: Callable[..., Backend]) -> list[Any]:
    """Return parameters of a test with each of some backends."""
    return [pytest.param(make, marks=marks_of(make), id=make.__name__) for make in makes]
