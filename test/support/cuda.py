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

"""Helpers of the tests of the CUDA backend: devices, random weights, comparisons."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from support import checkpoints
import torch
from torch import Tensor

from voxtral_ros.backends.cuda import gemm
from voxtral_ros.backends.cuda.argmax import Head
from voxtral_ros.backends.cuda.backend import CudaBackend
from voxtral_ros.backends.cuda.library import available
from voxtral_ros.backends.cuda.weight_source import CheckpointWeights
from voxtral_ros.backends.cuda.weights import (
    dequantize, pack_dense, pack_int4_codes, pack_int8, PackedWeight)
from voxtral_ros.model.checkpoint import open_weights
from voxtral_ros.quantization import rounding

on_gpu = pytest.mark.skipif(
    not available(), reason='no GPU: needs one of SM87 or newer, and the CUDA toolkit')
DEVICES = ['cpu', pytest.param('cuda', marks=on_gpu)]
DTYPES = [torch.float16, torch.bfloat16]
# (K, N) of every weight of the real model: decoder, then encoder.
DECODER = {'qkv': (3072, 6144), 'o': (4096, 3072), 'gate_up': (3072, 18432), 'down': (9216, 3072)}
ENCODER = {'qkv': (1280, 6144), 'o': (2048, 1280), 'gate_up': (1280, 10240), 'down': (5120, 1280)}


def make_head(table: Tensor, special: tuple[int, ...] = (2, 32, 33)) -> Head:
    """Return the head of a 16-bit table [vocabulary, dim]; its pad is 32."""
    codes, scales = rounding.round_int4(table.float())
    return Head(pack_int4_codes(codes, scales), table,
                torch.tensor(special, dtype=torch.int32), pad=32)


def head_on(device: str, head: Head) -> Head:
    """Return a copy of a head on a device."""
    table = None if head.table is None else head.table.to(device)
    return Head(head.screen.to(device), table, head.special.to(device), head.pad)


def random_weight(bits: int, k: int, n: int, seed: int = 0,
                  dtype: torch.dtype = torch.bfloat16) -> PackedWeight:
    """Return a weight with scales of both signs and a group of zeros in every other column."""
    generator = torch.Generator().manual_seed(seed)
    if bits == 16:
        weight = torch.randn(n, k, generator=generator) / k ** 0.5
        return pack_dense(weight.to(dtype))
    scales = torch.randn(k // 128, n, generator=generator).half() / (bits * k ** 0.5)
    scales[0, ::2] = 0
    if bits == 4:
        codes = torch.randint(0, 16, (k, n), generator=generator, dtype=torch.uint8)
        return pack_int4_codes(codes.T.to(torch.int8) - 8, scales.T)
    codes = torch.randint(-127, 128, (n, k), generator=generator, dtype=torch.int8)
    return pack_int8(codes, scales.T.contiguous())


def relative_error(out: Tensor, reference: Tensor) -> float:
    """Return |out - reference| / |reference|; NaN stays NaN."""
    out, reference = out.double().cpu(), reference.double().cpu()
    return float((out - reference).norm() / reference.norm())


def unit_roundoff(dtype: torch.dtype) -> float:
    """Return half the distance from 1 to the next number."""
    return torch.finfo(dtype).eps / 2


def poison(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> None:
    """Leave NaN in the memory that the next tensors of this size will probably be given."""
    del_me = [torch.full(shape, float('nan'), dtype=dtype, device=device) for _ in range(4)]
    del del_me


class WithoutGraphs(CudaBackend):
    """Runs what would be captured, also on the CPU, with no more rows than there are streams."""

    def _captured(self, kind: str, n_streams: int, n_tokens: int) -> Any:
        audio = self._audio_config
        n_samples = n_tokens * audio.samples_per_token + audio.context
        inputs = {'slots': torch.zeros(n_streams, dtype=torch.int64),
                  'samples': torch.zeros(n_streams, n_samples),
                  'tokens': torch.zeros(n_streams, n_tokens, dtype=torch.int64)}
        return mock.Mock(staging=inputs, replay=lambda: self._bodies[kind](inputs, n_tokens))

    def _replay(self, captured: Any, slots: Any, windows: Any = None) -> Any:
        captured.staging['slots'][:] = torch.tensor(slots)
        if windows is not None:
            captured.staging['samples'][:] = torch.from_numpy(windows)
        return captured.replay()


def backend_without_graphs(folder: Path, **options: Any) -> WithoutGraphs:
    """Return the CUDA backend of a checkpoint, whose launches are run one by one on the CPU."""
    with open_weights(folder) as (config, weights), \
            mock.patch('torch.cuda.graph_pool_handle'), mock.patch('torch.cuda.Stream'):
        source = CheckpointWeights(weights, torch.device('cpu'), torch.float32)
        pad, word = checkpoints.STREAMING_PAD, checkpoints.STREAMING_WORD
        return WithoutGraphs(config, source, pad, [pad, word], **options)


def dequantize_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let plain products dequantize every weight once: faster, and the same."""
    kept = {}

    def once(weight: PackedWeight) -> Tensor:
        if id(weight) not in kept:
            kept[id(weight)] = weight, dequantize(weight)
        return kept[id(weight)][1]
    monkeypatch.setattr(gemm, 'dequantize', once)
