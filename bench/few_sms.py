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
A few multiprocessors (SMs) of a big GPU in place of a small one.

A green context is a part of a GPU's multiprocessors; whatever runs on a stream of it runs on them
alone, with the memory and the code of the whole GPU. A kernel in a CUDA graph belongs to the
context of the stream that it was captured on, so a graph is captured and replayed on such a
stream, and a kernel in a graph of the same backend says where it has run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import ctypes
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import Any

import torch
from torch import Tensor

from voxtral_ros.backends.benchmark import measure, PassBytes
from voxtral_ros.backends.cuda.backend import CudaBackend

SM_RESOURCE, DEFAULT_STREAM, NON_BLOCKING = 1, 1, 1  # as cuda.h has them
# Tokens processed before: after the first, 16 s, the window of the encoder is full, after the
# second that of the decoder, too.
BEGUN, FULL = 200, 8200
REPEATS = 30
CYCLES = 1 << 20  # that a block of the probe waits: half a millisecond
# Every block writes its multiprocessor, and for how many of its cycles and how many nanoseconds
# it has waited.
PROBE = b"""
.version 7.0
.target sm_80
.address_size 64
.visible .entry probe(.param .u64 results, .param .u64 cycles)
{
    .reg .pred %again;
    .reg .u32 %word<2>;
    .reg .u64 %result, %wait, %began_ns, %began, %waited, %ns, %sm, %at;
    ld.param.u64 %result, [results];
    ld.param.u64 %wait, [cycles];
    cvta.to.global.u64 %result, %result;
    mov.u64 %began_ns, %globaltimer;
    mov.u64 %began, %clock64;
WAIT:
    mov.u64 %waited, %clock64;
    sub.u64 %waited, %waited, %began;
    setp.lt.u64 %again, %waited, %wait;
    @%again bra WAIT;
    mov.u64 %ns, %globaltimer;
    sub.u64 %ns, %ns, %began_ns;
    mov.u32 %word0, %smid;
    cvt.u64.u32 %sm, %word0;
    mov.u32 %word1, %ctaid.x;
    mul.wide.u32 %at, %word1, 24;
    add.u64 %result, %result, %at;
    st.global.u64 [%result], %sm;
    st.global.u64 [%result+8], %waited;
    st.global.u64 [%result+16], %ns;
    ret;
}
"""


class Driver:
    """Functions of the CUDA driver that fail with their name."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL('libcuda.so.1')

    def __getattr__(self, name: str) -> Callable[..., None]:
        function = getattr(self._library, name)

        def call(*arguments: Any) -> None:
            error = function(*arguments)
            if error:
                raise RuntimeError(f'{name}: CUDA error {error}')
        return call


def few_sms(count: int) -> torch.cuda.Stream:
    """Return a stream that runs on `count` multiprocessors (a green context)."""
    cuda = Driver()
    torch.cuda.synchronize()  # so there is a context
    device, whole, part, rest = ctypes.c_int(), *(ctypes.create_string_buffer(1024)
                                                  for _ in range(3))
    cuda.cuCtxGetDevice(ctypes.byref(device))
    cuda.cuDeviceGetDevResource(device, whole, SM_RESOURCE)
    groups = ctypes.c_uint(1)
    cuda.cuDevSmResourceSplitByCount(part, ctypes.byref(groups), whole, rest, 0, count)
    description, context, stream = (ctypes.c_void_p() for _ in range(3))
    cuda.cuDevResourceGenerateDesc(ctypes.byref(description), part, 1)
    cuda.cuGreenCtxCreate(ctypes.byref(context), description, device, DEFAULT_STREAM)
    cuda.cuGreenCtxStreamCreate(ctypes.byref(stream), context, NON_BLOCKING, 0)
    return torch.cuda.ExternalStream(stream.value)


@lru_cache(maxsize=1)
def load_probe() -> tuple[Driver, ctypes.c_void_p]:
    """Return the driver and the kernel, which belongs to no context before it is launched."""
    cuda, library, kernel = Driver(), ctypes.c_void_p(), ctypes.c_void_p()
    cuda.cuLibraryLoadData(ctypes.byref(library), PROBE, None, None, 0, None, None, 0)
    cuda.cuLibraryGetKernel(ctypes.byref(kernel), library, b'probe')
    return cuda, kernel


def probe(device: torch.device) -> Tensor:
    """Launch blocks for the whole GPU on the current stream; return int64 [blocks, 3] of PROBE."""
    cuda, kernel = load_probe()
    blocks = 4 * torch.cuda.get_device_properties(device).multi_processor_count
    results = torch.empty(blocks, 3, dtype=torch.int64, device=device)
    values = ctypes.c_void_p(results.data_ptr()), ctypes.c_uint64(CYCLES)
    arguments = (ctypes.c_void_p * 2)(*(ctypes.addressof(value) for value in values))
    stream = ctypes.c_void_p(torch.cuda.current_stream(device).cuda_stream)
    cuda.cuLaunchKernel(kernel, blocks, 1, 1, 32, 1, 1, 0, stream, arguments, None)
    return results


@dataclass(frozen=True)
class Where:
    """What a probe found out."""

    sms: frozenset[int]
    clock_hz: float

    @classmethod
    def of(cls, results: Tensor) -> Where:
        """Read what the blocks of a probe have written."""
        sms, cycles, ns = results.T.tolist()
        return cls(frozenset(sms), 1e9 * sum(cycles) / sum(ns))


class ConfinedBackend(CudaBackend):
    """A backend whose graphs are captured and replayed on a stream of a green context."""

    def __init__(self, stream: torch.cuda.Stream, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._stream = stream

    def where(self) -> Where:
        """Return on which multiprocessors a graph of this backend runs, and how fast they are."""
        with torch.inference_mode():
            return Where.of(self._replay(self._captured('probe', 1, 1), [0])[0])

    def check(self, count: int) -> Where:
        """
        Return what a graph of this backend says about its multiprocessors.

        :raises RuntimeError: they are not `count`, or even a plain launch does not find them all
        """
        whole = torch.cuda.get_device_properties(self._device).multi_processor_count
        everywhere = len(Where.of(probe(self._device)).sms)
        if everywhere != whole:
            raise RuntimeError(f'a plain launch was seen on {everywhere} multiprocessors of '
                               f'{whole}: what the probe says is worth nothing')
        where = self.where()
        if len(where.sms) != count:
            raise RuntimeError(f'a graph of the backend ran on {len(where.sms)} multiprocessors, '
                               f'not on {count}: {sorted(where.sms)}')
        return where

    @property
    def _bodies(self) -> dict[str, Callable[[dict[str, Tensor], int], list[Tensor]]]:
        return {**super()._bodies, 'probe': lambda *_: [probe(self._device)]}


@dataclass(frozen=True)
class Rate:
    """What was measured of passes on some multiprocessors."""

    token_s: float  # seconds per 80 ms of audio
    token_bytes: float  # that had to be read for it
    where: Where

    @property
    def bytes_per_s(self) -> float:
        return self.token_bytes / self.token_s

    @property
    def bytes_per_clock_and_sm(self) -> float:
        return self.bytes_per_s / self.where.clock_hz / len(self.where.sms)


def print_confined(backend: ConfinedBackend, n_sms: int, counted: PassBytes, window: int,
                   chunks: Sequence[int], what: str) -> None:
    """
    Print what passes of one stream take: window begun, and full.

    :param counted: what a pass reads
    :param window: tokens
    :param chunks: tokens of a pass
    :param what: layout and KV caches, for the rows
    """
    where = backend.check(n_sms)
    print(f'  a graph of it runs on multiprocessors {sorted(where.sms)} at '
          f'{where.clock_hz / 1e9:.3f} GHz, by clock64 and globaltimer; both again after every '
          'measurement\n', flush=True)
    print('| checkpoint, KV caches | chunks | ms, window begun | full | its share | GB/s | full '
          '| bytes per clock and SM | full |\n' + '|---' * 9 + '|')
    least = inf
    for n_tokens in chunks:
        begun, full = (confined_rate(backend, n_sms, counted, window, n_tokens, processed)
                       for processed in (BEGUN, FULL))
        cells = (what, f'{80 * n_tokens} ms', f'{1e3 * begun.token_s:.2f}',
                 f'{1e3 * full.token_s:.2f}', f'{100 * (1 - begun.token_s / full.token_s):.0f} %',
                 *(f'{rate.bytes_per_s / 1e9:.0f}' for rate in (begun, full)),
                 *(f'{rate.bytes_per_clock_and_sm:.1f}' for rate in (begun, full)))
        print(f'| {" | ".join(cells)} |', flush=True)
        least = min(least, *(rate.bytes_per_clock_and_sm for rate in (begun, full)))
    print(f'\n  the least bytes per clock and SM: {least:.2f}', flush=True)


def confined_rate(backend: ConfinedBackend, n_sms: int, counted: PassBytes, window: int,
                  n_tokens: int, processed: int) -> Rate:
    """Measure passes of n tokens after so many."""
    backend.set_position(processed)
    timing = measure(backend, [0], n_tokens, REPEATS)
    context = min(processed + n_tokens * REPEATS // 2, window)  # half way
    return Rate(timing.per_token_s, counted.per_token(n_tokens, context), backend.check(n_sms))
