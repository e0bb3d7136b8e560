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
"""

from __future__ import annotations

import torch
from torch import Tensor

from voxtral_ros.model.config import StackConfig
from voxtral_ros.model.layers import Attend, grouped_query_attention

# Attention reads the used part of the ring, rounded up to this many entries: short streams pay
# for little, and there are few different shapes.
_BLOCK = 128


class KVCache:
    """Keys and values of all layers of one stack, for a fixed number of streams (slots)."""

    def __init__(self, config: StackConfig, n_slots: int, max_positions: int,
                 dtype: torch.dtype, device: torch.device) -> None:
        """Allocate for passes over, or ways back by, at most `max_positions` positions at once."""
        self.window = config.sliding_window
        self.n_slots = n_slots
        self.capacity = config.cache_capacity(max_positions)
        shape = (config.n_layers, n_slots, self.capacity, config.n_kv_heads, config.head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self._entries = torch.arange(self.capacity, device=device)

    def clear(self, slot: int) -> None:
        """
        Forget what a slot holds.

        Entries of an earlier stream are masked anyway, but a masked NaN is still a NaN.
        """
        self.keys[:, slot] = 0
        self.values[:, slot] = 0

    def clear_ahead(self, slot: int, position: Tensor, n: int) -> None:
        """
        Forget n positions of a stream from `position` on, int64 []: it has gone back to there.

        They are masked until they are written again, but a masked NaN is still a NaN.
        """
        entries = (position + self._entries[:n]) % self.capacity
        for cache in (self.keys, self.values):
            cache[:, slot].index_fill_(1, entries, 0)

    @property
    def nbytes(self) -> int:
        return 2 * self.keys.numel() * self.keys.element_size()

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

        def layer(keys: Tensor, values: Tensor) -> Attend:
            def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                keys[slots[:, None], entries] = k
                values[slots[:, None], entries] = v
                if whole:
                    out = grouped_query_attention(
                        q[order], keys[:, :length], values[:, :length], mask)
                    return out[slots]
                seen_k, seen_v = keys[:, :length][slots], values[:, :length][slots]
                return grouped_query_attention(q, seen_k, seen_v, mask)
            return attend

        return [layer(k, v) for k, v in zip(self.keys, self.values, strict=True)]
