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
Where streams were saved, to be taken back there after they have looked ahead.

The KV cache is not copied: it has places for as many tokens as a look ahead may take, so nothing
is overwritten that a stream still sees when it is back (see base.kv_cache_tokens).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from voxtral_ros.backends.base import MAX_ROLLBACK_TOKENS


class SavedStreams:
    """
    One saved state per slot, in memory that is allocated once, and how old it is.

    The state is in numpy arrays or in torch tensors; all of this happens where they are, and in
    the order of the other work there: the host waits for nothing.
    """

    def __init__(self, live: Sequence[Any]) -> None:
        """
        Allocate a copy of what passes change, all but KV caches.

        :param live: arrays or tensors [slots, ...]
        """
        self._live = live
        self._saved = deepcopy(live)
        self._n_since: dict[int, int] = {}  # slots that were saved -> tokens since then
        self._ahead: set[int] = set()  # slots that were not taken back since they were saved

    def save(self, slot: int) -> None:
        """Remember the state of a stream."""
        for saved, live in zip(self._saved, self._live, strict=True):
            saved[slot] = live[slot]
        self._n_since[slot] = 0
        self._ahead.add(slot)

    def count(self, slots: Sequence[int], n_tokens: int) -> None:
        """Record that streams go so many tokens on; to be called before they do."""
        for slot in slots:
            if slot in self._n_since:
                self._n_since[slot] += n_tokens

    def looks_ahead(self, slot: int) -> bool:
        """Return whether a stream is between save and rollback, and can still be taken back."""
        return slot in self._ahead and self._n_since[slot] < MAX_ROLLBACK_TOKENS

    def rollback(self, slot: int) -> int:
        """
        Restore the state of a stream and return how many tokens that is back.

        :raises RuntimeError: nothing is saved, or more than MAX_ROLLBACK_TOKENS ago
        """
        if slot not in self._n_since:
            raise RuntimeError(f'slot {slot} cannot be rolled back: nothing was saved since it '
                               'was opened, save it first')
        n_tokens = self._n_since[slot]
        if n_tokens > MAX_ROLLBACK_TOKENS:
            raise RuntimeError(f'slot {slot} cannot be rolled back: it was saved {n_tokens} '
                               f'tokens ago, roll back or save again within {MAX_ROLLBACK_TOKENS}')
        for saved, live in zip(self._saved, self._live, strict=True):
            live[slot] = saved[slot]
        self._n_since[slot] = 0
        self._ahead.discard(slot)
        return n_tokens

    def forget(self, slot: int) -> None:
        """Make what was saved of a slot void."""
        self._n_since.pop(slot, None)
        self._ahead.discard(slot)

    def forget_all(self) -> None:
        self._n_since.clear()
        self._ahead.clear()
