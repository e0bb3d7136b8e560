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
What a model will take of a device's memory, known before the first weight is read.

A board whose GPU shares the memory of the CPU does not run out of memory politely: the kernel ends
some process. So the sum is made from the header of the file, and logged.
"""

from __future__ import annotations

from dataclasses import dataclass
import logging
import math

import torch

from voxtral_ros.backends.base import kv_cache_tokens
from voxtral_ros.backends.kv_cache import is_int8_cache
from voxtral_ros.model.config import ModelConfig
from voxtral_ros.quantization.format import HEAD
from voxtral_ros.quantization.weights import Stored, WeightFile

_LOGGER = logging.getLogger(__name__)
# CUDA context, libraries and graphs. Of an H200's memory they take 1.2 to 1.3 GB, see
# bench/results/memory.md; on a Jetson 0.5 to 1.5 GB, by report of others.
_OVERHEAD = 1.3e9
_SCALE = 2 / 128  # bytes per weight: a scale of 16 bits per group


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on the device."""

    weights: int
    caches: int  # keys and values of all streams, full windows
    overhead: int
    cache_bits: int = 16  # of a number in them

    @property
    def total(self) -> int:
        return self.weights + self.caches + self.overhead

    def __str__(self) -> str:
        parts = (('weights', self.weights), ('caches', self.caches),
                 ('CUDA, about', self.overhead))
        return f'{self.total / 1e9:.2f} GB: ' + ', '.join(
            f'{name} {size / 1e9:.2f}' for name, size in parts)


def plan_memory(config: ModelConfig, weights: WeightFile, dtype: torch.dtype, max_streams: int,
                max_chunk_tokens: int, packed: bool, int8_cache: bool = False) -> MemoryPlan:
    """
    Add up what a backend on this GPU will allocate.

    :param config: with the window that the decoder will have
    :param dtype: of what is not packed
    :param packed: weights in INT4 and INT8 stay as they are, for the kernels; else all are dense
    :param int8_cache: keys and values in INT8
    """
    size = dtype.itemsize
    total = sum(_weight(name, stored, size, packed) for name, stored in weights.stored.items())
    cache_bits = 8 if int8_cache else 8 * size
    caches = max_streams * config.kv_cache_bytes(kv_cache_tokens(max_chunk_tokens), cache_bits)
    return MemoryPlan(round(total), caches, round(_OVERHEAD), cache_bits)


def choose_plan(config: ModelConfig, weights: WeightFile, dtype: torch.dtype, max_streams: int,
                max_chunk_tokens: int, packed: bool, kv_cache: str, memory: int) -> MemoryPlan:
    """
    Return the plan with KV caches in as many bits as `kv_cache` means on this GPU.

    :param kv_cache: see is_int8_cache
    :param memory: bytes that the GPU has
    """
    sizes = (config, weights, dtype, max_streams, max_chunk_tokens, packed)
    plan = plan_memory(*sizes)
    return plan_memory(*sizes, int8_cache=True) \
        if is_int8_cache(kv_cache, plan.total, memory) else plan


def check_memory(plan: MemoryPlan, free: int, total: int) -> None:
    """
    Log the plan, and warn when it is more than what is free.

    What is free changes, and page caches count as taken on some boards; more than there is at all
    cannot work.

    :raises ValueError: the device is too small
    """
    advice = ('quantize with --encoder-bits 8 --head-bits 4, take a smaller window, open fewer '
              'streams, or end other programs')
    _LOGGER.info('memory: %s; %.2f GB are free', plan, free / 1e9)
    if plan.total > total:
        raise ValueError(f'the model needs {plan}, but the device has {total / 1e9:.2f} GB in '
                         f'all: {advice}')
    if plan.total > free:
        _LOGGER.warning('the model needs %s, but only %.2f GB are free: %s', plan, free / 1e9,
                        advice)


def _weight(name: str, stored: Stored, size: int, packed: bool) -> float:
    n = math.prod(stored.shape)
    if name == HEAD and stored.kind != 'int4':
        # In 16 bits for embeddings and exact logits, and in INT4 to screen tokens with.
        return n * (size + (0.5 + _SCALE if packed else 0))
    if packed and stored.kind != 'dense':
        return n * ({'int4': 0.5, 'int8': 1}[stored.kind] + _SCALE)
    return n * size
