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
One function for many things, in several processes.

The processes are started anew and end by themselves. A copy of a process that has threads may
wait for a lock that nobody holds any more; and multiprocessing.Pool ends its processes by SIGTERM,
which a copy of a program with a handler of its own does not obey: both wait for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
from typing import TypeVar

T = TypeVar('T')
R = TypeVar('R')


def map_in_processes(function: Callable[[T], R], items: Iterable[T], processes: int,
                     chunk: int = 1) -> Iterator[R]:
    """
    Yield function(item) of all items, in their order.

    :param function: of a module, so that other processes find it
    :param chunk: items that a process is given at a time
    """
    with ProcessPoolExecutor(processes, multiprocessing.get_context('spawn')) as pool:
        yield from pool.map(function, items, chunksize=chunk)
