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
The compiled kernels as functions: loaded once, called with tensors, on the current stream.

The library has a C interface, so it does not care which torch there is. Nothing here allocates or
waits; all of it can be captured in a CUDA graph.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from voxtral_ros.backends.build import BuildError, installed, named
from voxtral_ros.backends.cuda.build import build, cached, LIBRARY

__all__ = [
    'DTYPES', 'BuildError', 'KernelError', 'architectures', 'available', 'call', 'find', 'load']

DTYPES = {torch.float16: 0, torch.bfloat16: 1}


class KernelError(RuntimeError):
    """A kernel could not be launched: CUDA refused it, or its arguments do not fit."""


def find() -> Path | None:
    """
    Return the library: that of VOXTRAL_KERNELS, of the cache, or the installed one.

    :raises BuildError: VOXTRAL_KERNELS names a file that is not there
    """
    return named('VOXTRAL_KERNELS') or cached() or installed(LIBRARY)


@lru_cache(maxsize=1)
def load() -> ctypes.CDLL:
    """
    Return the library that `find` finds, or a new one.

    :raises BuildError: there is none, and it cannot be built here
    """
    path = find() or build()
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildError(f'{path} cannot be loaded ({error}): build it on this machine with '
                         '`voxtral build-kernels`') from None


def architectures() -> list[int]:
    """Return what the library has code for, as 87; [] if it is too old to know."""
    try:
        architectures = load().voxtral_architectures
    except AttributeError:
        return []
    architectures.restype = ctypes.c_char_p
    return [int(number) // 10 for number in architectures().decode().split(',')]


def available(device: torch.device | None = None) -> bool:
    """
    Return whether a GPU can run the kernels, and there is a library or a compiler.

    :param device: None is the current one
    """
    return torch.cuda.is_available() and torch.cuda.get_device_capability(device) >= (8, 7) \
        and _loads()


@lru_cache(maxsize=1)
def _loads() -> bool:
    try:
        load()
    except BuildError:
        return False
    return True


def call(name: str, *arguments: Tensor | int | float | None, device: torch.device) -> None:
    """
    Launch a kernel on the current stream of a device.

    :param arguments: of the C function without the stream: tensors, whose addresses are passed
        (None is a null pointer), int and float
    :raises KernelError: it could not be launched
    """
    library = load()
    converted = [_convert(argument) for argument in arguments]
    with torch.cuda.device(device):
        stream = ctypes.c_void_p(torch.cuda.current_stream(device).cuda_stream)
        error = getattr(library, name)(*converted, stream)
    if error:
        text = library.voxtral_error
        text.restype = ctypes.c_char_p
        raise KernelError(f'{name}: {text(error).decode()}')


def _convert(argument: Tensor | int | float | None) -> object:
    if argument is None:
        return ctypes.c_void_p(None)
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    return ctypes.c_float(argument) if isinstance(argument, float) else ctypes.c_int(argument)
