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
How fast a model runs on this very machine, and how near that is to what its memory can do.

A pass reads every weight once, so bytes over bandwidth is the floor; both are measured here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
import math
import os
from time import perf_counter

import numpy as np

from voxtral_ros.backends.base import Backend, WeightBytes
from voxtral_ros.model.config import ModelConfig
from voxtral_ros.model.names import checkpoint_name, part_of_pass
from voxtral_ros.model.shapes import weight_shapes

TOKEN_S = 0.08
_SAMPLES, _CONTEXT = 1280, 240

_EFFICIENCY = 0.8  # of the peak: the best that decoders have shown on these boards
_PER_CALL_S = {'encoder': 2.5e-3, 'decoder': 2.0e-3}  # of some 400 graph nodes each
# What a multiprocessor takes in per clock in whole steps that no memory limits: the least of all
# rows in bench/results/step_8_sms.md.
BYTES_PER_CLOCK_AND_SM = 13.9


@dataclass(frozen=True)
class Board:
    """A board for which nobody has published a table."""

    name: str
    memory_rate: float  # peak, bytes per second
    n_sms: int
    clock: float  # Hz

    @property
    def sm_rate(self) -> float:
        """Return the bytes per second that its multiprocessors can take in."""
        return BYTES_PER_CLOCK_AND_SM * self.n_sms * self.clock


BOARDS = (
    Board('Orin Nano 8 GB, 68 GB/s', 68.3e9, 8, 0.625e9),
    # The Super has 1.02 GHz; this is the slowest that they are sold with, an NX 8 GB.
    Board('Orin Nano Super / NX, 102 GB/s', 102.4e9, 8, 0.765e9),
    Board('AGX Orin, 205 GB/s', 204.8e9, 16, 1.3e9),
)


@dataclass(frozen=True)
class Timing:
    """Passes of n tokens over some streams."""

    n_streams: int
    n_tokens: int
    p50_s: float
    p99_s: float

    @property
    def per_token_s(self) -> float:
        """Return seconds per 80 ms of audio of each stream."""
        return self.p50_s / self.n_tokens

    @property
    def real_time_factor(self) -> float:
        return self.per_token_s / TOKEN_S


def measure(backend: Backend, slots: Sequence[int], n_tokens: int, repeats: int = 50,
            warm_up: int = 3) -> Timing:
    """Time passes over noise; the streams go on from wherever they are."""
    rng = np.random.default_rng(0)
    shape = (len(slots), n_tokens * _SAMPLES + _CONTEXT)
    windows = (0.05 * rng.standard_normal(shape)).astype(np.float32)
    times = []
    for count in range(repeats + warm_up):
        begin = perf_counter()
        backend.decode(slots, windows)
        if count >= warm_up:
            times.append(perf_counter() - begin)
    p50, p99 = np.percentile(times, (50, 99))
    return Timing(len(slots), n_tokens, float(p50), float(p99))


def read_bandwidth(device: str, n_bytes: int = 1 << 30) -> float:
    """Return the bytes per second of a plain reduction: what reading can reach here."""
    times = _reduce_on_cpu(n_bytes) if device == 'cpu' else _reduce_on_gpu(device, n_bytes)
    return n_bytes / min(times)


def _reduce_on_cpu(n_bytes: int) -> list[float]:
    """Return how long it takes with a thread for each core."""
    n_threads = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') \
        else os.cpu_count() or 1
    parts = np.array_split(np.ones(n_bytes // 4, np.float32), 4 * n_threads)
    times = []
    with ThreadPoolExecutor(n_threads) as threads:
        for _ in range(8):
            begin = perf_counter()
            list(threads.map(np.max, parts))
            times.append(perf_counter() - begin)
    return times


def _reduce_on_gpu(device: str, n_bytes: int) -> list[float]:
    import torch
    data = torch.ones(n_bytes // 4, device=device)
    times = []
    for _ in range(8):
        torch.cuda.synchronize(device)
        begin = perf_counter()
        data.sum()
        torch.cuda.synchronize(device)
        times.append(perf_counter() - begin)
    return times


@dataclass(frozen=True)
class PassBytes:
    """What a pass over one stream must read."""

    weights: WeightBytes
    encoder_cache: int  # KV cache of a full window
    decoder_cache: int  # per position

    @classmethod
    def of(cls, config: ModelConfig, weights: WeightBytes, cache_bits: int = 16) -> PassBytes:
        """Add what is read of the KV caches to what is read of the weights."""
        encoder, decoder = config.encoder, config.decoder
        return cls(weights, encoder.kv_bytes(cache_bits) * encoder.sliding_window,
                   decoder.kv_bytes(cache_bits))

    def per_token(self, n_tokens: int, context: int, passes: float = 1.0) -> float:
        """
        Return bytes per 80 ms.

        :param n_tokens: per call of the encoder
        :param context: tokens that the decoder looks back
        :param passes: of the decoder per token: less than one with speculative decoding
        """
        weights = self.weights
        encoder = (weights.encoder + self.encoder_cache) / n_tokens
        return encoder + passes * (weights.decoder + weights.head + context * self.decoder_cache)

    def window_share(self, n_tokens: int, context: int, passes: float = 1.0) -> float:
        """Return how much of these bytes are keys and values of the decoder's window, 0 to 1."""
        return passes * context * self.decoder_cache / self.per_token(n_tokens, context, passes)

    def predicted_s(self, board: Board, n_tokens: int, context: int, passes: float = 1.0) -> float:
        """
        Return a prediction, not a measurement, of the seconds per token on a board.

        It is the larger of what its memory takes and what its multiprocessors take. Launches are
        added to the first only: whole steps were measured for the second.
        """
        n_bytes = self.per_token(n_tokens, context, passes)
        launches_s = _PER_CALL_S['encoder'] / n_tokens + passes * _PER_CALL_S['decoder']
        return max(n_bytes / (_EFFICIENCY * board.memory_rate) + launches_s,
                   n_bytes / board.sm_rate)


def planned_bytes(config: ModelConfig, bits: Callable[[str], int], head_bits: int) -> WeightBytes:
    """
    Count what a backend will hold of weights that nobody has loaded.

    :param bits: of a weight in memory by its checkpoint name
    :param head_bits: of the head as it is read for every token
    """
    counts = {'encoder': 0.0, 'decoder': 0.0, 'head': 0.0}
    for name, shape in weight_shapes(config).items():
        part = part_of_pass(name)
        if part is None:
            continue
        size = head_bits if part == 'head' else bits(checkpoint_name(name))
        # A scale of 16 bits per group of 128.
        counts[part] += math.prod(shape) * (size / 8 + (2 / 128 if size < 16 else 0))
    return WeightBytes(*(round(count) for count in counts.values()))
