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
Work on blocks of a weight, one core each.

PyTorch's own threads share every single operation, and all of them wait for the last: on small
blocks that is slower than one thread, and where other programs want the cores, very much so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

_Item = TypeVar('_Item')
_Result = TypeVar('_Result')
_MOST_THREADS = 8  # reading and writing, which one thread does, keep no more of them busy


class Workers:
    """Threads in which PyTorch computes on one core; a context manager."""

    def __init__(self) -> None:
        """Take as many as PyTorch would, up to a limit."""
        self._before = torch.get_num_threads()
        self._count = min(self._before, _MOST_THREADS)
        self._pool = ThreadPoolExecutor(self._count, 'quantizer', torch.set_num_threads, (1,))

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        # The number is that of the thread that sets it, and of those that begin afterwards.
        torch.set_num_threads(self._before)

    def map(self, function: Callable[[_Item], _Result],  # noqa: A003
            items: Iterable[_Item]) -> Iterator[_Result]:
        """Yield what a function returns for items, in their order; few are taken ahead."""
        waiting: deque[Future[_Result]] = deque()
        for item in items:
            waiting.append(self._pool.submit(function, item))
            if len(waiting) > self._count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
