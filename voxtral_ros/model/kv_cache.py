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
KV cache of a sliding-window stack: a ring buffer of keys and values, fixed at construction.

The key of position p of a stream lies in entry p % capacity: this is where the cache wraps. A pass
over T positions writes first and attends afterwards, so the ring holds window - 1 + T positions or
more. For the same reason a stream can go back by as many positions as a pass may have. Which
position an entry holds follows from the stream's newest position alone: nothing has to be cleared
for the sake of the mask.

In INT8 a key or value of one head is D bytes, and a scale: half the memory, and half the reading.
"""

from __future__ import annotations

import torch
from torch import Tensor

from voxtral_ros.model.config import StackConfig
from voxtral_ros.model.layers import Attend, grouped_query_attention

# Attention reads the used part of the ring, rounded up to this many entries: short streams pay
# for little, and there are few different shapes.
_BLOCK = 128
_ZERO_CODE = 128
_SMALLEST = 1e-30  # magnitude whose scale still has an inverse; less is 0


def quantize(x: Tensor) -> tuple[Tensor, Tensor]:
    """
    Round keys or values [..., D] to INT8, symmetrically.

    :return: codes, bytes with 128 added, [..., D]; scales [...], the largest magnitude / 127 as
        bfloat16, rounded up
    """
    largest = x.abs().amax(dim=-1).float()
    exact = torch.where(largest < _SMALLEST, 0, largest) / 127
    # The upper half of the bits is a bfloat16.
    scales = (exact.view(torch.int32) + 0xffff & -0x10000).view(torch.float32)
    scales = scales.where(exact.isfinite(), torch.nan)  # some bits of NaN would overflow
    codes = (x.float() * scales.reciprocal()[..., None]).nan_to_num(0).round().clamp(-127, 127)
    return (codes + _ZERO_CODE).to(torch.uint8), scales.bfloat16()


def dequantize(codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what codes [..., D] and scales [...] stand for."""
    return ((codes.float() - _ZERO_CODE) * scales.float()[..., None]).to(dtype)


def contents(keys: Tensor, values: Tensor, scales: Tensor | None) -> tuple[Tensor, Tensor]:
    """
    Return what the keys and values of a cache stand for, in INT8 as float32.

    :param keys, values: [..., capacity, heads, D]
    :param scales: [..., heads, capacity, 2]; None: not in INT8
    """
    if scales is None:
        return keys, values
    of_keys, of_values = scales.transpose(-3, -2).unbind(-1)
    return (dequantize(keys, of_keys, torch.float32),
            dequantize(values, of_values, torch.float32))


class KVCache:
    """Keys and values of all layers of one stack, for a fixed number of streams (slots)."""

    def __init__(self, config: StackConfig, n_slots: int, max_positions: int,
                 dtype: torch.dtype, device: torch.device, int8: bool = False) -> None:
        """
        Allocate for passes over, or ways back by, at most `max_positions` positions at once.

        :param dtype: of keys and values, unless they are in INT8
        """
        self.window = config.sliding_window
        self.n_slots = n_slots
        self.capacity = config.cache_capacity(max_positions)
        shape = (config.n_layers, n_slots, self.capacity, config.n_kv_heads, config.head_dim)
        self.keys, self.values = (
            torch.zeros(shape, dtype=torch.uint8 if int8 else dtype, device=device)
            for _ in range(2))
        # Of keys, and of values. Of a head they lie side by side: a kernel reads one head.
        self.scales = torch.zeros(
            config.n_layers, n_slots, config.n_kv_heads, self.capacity, 2, dtype=torch.bfloat16,
            device=device) if int8 else None
        self._entries = torch.arange(self.capacity, device=device)

    def clear(self, slot: int) -> None:
        """
        Forget what a slot holds.

        Entries of an earlier stream are masked anyway, but a masked NaN is still a NaN.
        """
        for part in self._clearable:
            part[:, slot] = 0

    def clear_ahead(self, slot: int, position: Tensor, n: int) -> None:
        """
        Forget n positions of a stream from `position` on, int64 []: it has gone back to there.

        They are masked until they are written again, but a masked NaN is still a NaN.
        """
        entries = (position + self._entries[:n]) % self.capacity
        for part in self._clearable:
            part[:, slot].index_fill_(1 if self.scales is None else 2, entries, 0)

    @property
    def _clearable(self) -> tuple[Tensor, ...]:
        """Return what makes entries 0, and what can be NaN."""
        return (self.keys, self.values) if self.scales is None else (self.scales,)

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in (self.keys, self.values, self.scales)
                   if part is not None)

    def attention(self, slots: Tensor, positions: Tensor, max_kv_len: int) -> list[Attend]:
        """
        Return the attention of each layer for one pass over T new positions of M streams.

        :param slots: int64 [M], different ones
        :param positions: int64 [M, T], consecutive, counted from the opening of the stream
        :param max_kv_len: host-side bound: no stream of the pass will have more positions
        :raises ValueError: the pass is longer than the cache was made for
        """
        if positions.shape[1] > self.capacity - self.window + 1:
            raise ValueError(f'a pass over {positions.shape[1]} positions, but the KV cache was '
                             f'made for {self.capacity - self.window + 1}')
        length = min(self.capacity, -(-max_kv_len // _BLOCK) * _BLOCK)
        entries = positions % self.capacity  # [M, T]
        newest = positions[:, -1:]  # [M, 1]
        held = newest - (newest - self._entries[:length]) % self.capacity  # [M, S] positions
        age = positions[:, :, None] - held[:, None, :]  # [M, T, S]
        mask = (age >= 0) & (age < self.window) & (held >= 0)[:, None, :]
        # A pass over all slots reads the cache where it is and reorders the queries instead.
        whole = len(slots) == self.n_slots
        order = slots.argsort() if whole else slots
        mask = mask[order] if whole else mask

        def layer(keys: Tensor, values: Tensor, scales: Tensor | None) -> Attend:
            def write(cache: Tensor, new: Tensor, which: int) -> None:
                if scales is not None:
                    new, scales[slots[:, None], :, entries, which] = quantize(new)
                cache[slots[:, None], entries] = new

            def read(cache: Tensor, which: int, dtype: torch.dtype) -> Tensor:
                seen = cache[:, :length] if whole else cache[:, :length][slots]
                if scales is None:
                    return seen
                factors = scales[..., :length, which] if whole \
                    else scales[slots, :, :length, which]
                return dequantize(seen, factors.transpose(1, 2), dtype)

            def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                write(keys, k, 0)
                write(values, v, 1)
                seen = read(keys, 0, k.dtype), read(values, 1, v.dtype)
                if whole:
                    return grouped_query_attention(q[order], *seen, mask)[slots]
                return grouped_query_attention(q, *seen, mask)
            return attend

        scales = [None] * len(self.keys) if self.scales is None else self.scales
        return [layer(*parts) for parts in zip(self.keys, self.values, scales, strict=True)]
