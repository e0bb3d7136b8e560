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
The network compiled for the CPU: its library, and the structures that it takes.

The library has a C interface and no trace of torch, so it does not care which torch there is.
"""

from __future__ import annotations

import ctypes
from ctypes import c_char_p, c_double, c_float, c_int32, c_int64, c_void_p, POINTER
from functools import lru_cache
import logging
import os
from pathlib import Path
from subprocess import SubprocessError

from voxtral_ros.backends.build import BuildError, installed, named
from voxtral_ros.backends.cpu.build import build, cached, LIBRARY

__all__ = ['BuildError', 'Choice', 'Layer', 'LogMel', 'Matrix', 'Model', 'Phrases', 'Stack',
           'available', 'find', 'load']

_LOGGER = logging.getLogger(__name__)
_VARIABLE = 'VOXTRAL_CPU_KERNELS'


# These are the structures of kernels/cpu/network.h, where their fields are explained.


class Matrix(ctypes.Structure):
    _fields_ = [('weight', c_void_p), ('scale', c_void_p), ('bias', c_void_p),
                ('n', c_int64), ('k', c_int64), ('bits', c_int64)]


class Layer(ctypes.Structure):
    _fields_ = [('attention_norm', c_void_p), ('query', Matrix), ('key', Matrix),
                ('value', Matrix), ('out', Matrix), ('ffn_norm', c_void_p), ('gate', Matrix),
                ('up', Matrix), ('down', Matrix)]


class Stack(ctypes.Structure):
    _fields_ = [('dim', c_int64), ('n_layers', c_int64), ('n_heads', c_int64),
                ('n_kv_heads', c_int64), ('head_dim', c_int64), ('hidden_dim', c_int64),
                ('sliding_window', c_int64), ('per_token', c_int64), ('eps', c_double),
                ('turns', c_void_p), ('layers', POINTER(Layer)), ('norm', c_void_p),
                ('keys', c_void_p), ('values', c_void_p), ('scales', c_void_p),
                ('capacity', c_int64),
                ('position', c_void_p)]


class Phrases(ctypes.Structure):
    _fields_ = [('begin', c_void_p), ('token', c_void_p), ('next', c_void_p), ('bias', c_void_p),
                ('inside', c_void_p), ('first_text', c_int64)]


class Choice(ctypes.Structure):
    _fields_ = [('token', c_int32), ('probability', c_float), ('unbiased', c_int32),
                ('unbiased_probability', c_float), ('cost', c_float)]


class Model(ctypes.Structure):
    _fields_ = [('encoder', Stack), ('decoder', Stack), ('conv', Matrix * 2),
                ('conv_state', c_void_p * 2), ('adapter', Matrix * 2), ('head', Matrix),
                ('delay_scales', c_void_p), ('pad_penalty', c_void_p), ('last_token', c_void_p),
                ('phrases', POINTER(Phrases)), ('phrase_state', c_void_p),
                ('n_slots', c_int64), ('n_mels', c_int64), ('pad', c_int64)]


class LogMel(ctypes.Structure):
    _fields_ = [('window_size', c_int64), ('hop_length', c_int64), ('n_mels', c_int64),
                ('roots', c_void_p), ('window', c_void_p), ('bins', c_void_p),
                ('weights', c_void_p), ('floor', c_double)]


_SIZES = sum(factor * ctypes.sizeof(structure) for factor, structure in
             ((1, Model), (1000, Layer), (1000000, LogMel)))


def find() -> Path | None:
    """
    Return the library: that of VOXTRAL_CPU_KERNELS, of the cache, or the installed one.

    :raises BuildError: VOXTRAL_CPU_KERNELS is off, or names a file that is not there
    """
    if os.environ.get(_VARIABLE) == 'off':
        raise BuildError(f'{_VARIABLE} is off')
    return named(_VARIABLE) or cached() or installed(LIBRARY)


@lru_cache(maxsize=1)
def load() -> ctypes.CDLL:
    """
    Return the library that `find` finds, or a new one.

    :raises BuildError: there is none, and it cannot be built here, or VOXTRAL_CPU_KERNELS is off
    """
    path = find() or _build()
    again = 'build it on this machine with `voxtral build-kernels`'
    try:
        library = ctypes.CDLL(str(path))
        library.voxtral_cpu_sizes.restype = c_int64
    except (OSError, AttributeError) as error:
        raise BuildError(f'{path} cannot be used ({error}): {again}') from None
    if library.voxtral_cpu_sizes() != _SIZES:
        raise BuildError(f'{path} belongs to another version: {again}')
    try:
        return _declared(library)
    except AttributeError:
        raise BuildError(f'{path} belongs to another version: {again}') from None


def _build() -> Path:
    _LOGGER.info('compiling the network for this processor, once: up to a minute')
    try:
        return build()
    except (OSError, SubprocessError) as error:
        raise BuildError(f'the network cannot be compiled: {error}') from None


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    model = POINTER(Model)
    library.voxtral_cpu_instructions.restype = c_char_p
    library.voxtral_cpu_use.argtypes = [c_char_p]
    library.voxtral_cpu_use.restype = c_int64
    library.voxtral_cpu_threads.argtypes = [c_int64]
    library.voxtral_cpu_threads.restype = None
    library.voxtral_cpu_roots.argtypes = [c_int64, c_void_p]
    library.voxtral_cpu_roots.restype = None
    library.voxtral_cpu_log_mel.argtypes = [  # samples, streams, samples of each, memory, out
        POINTER(LogMel), c_void_p, c_int64, c_int64, c_void_p, c_void_p]
    library.voxtral_cpu_log_mel.restype = None
    library.voxtral_cpu_gemm.argtypes = [  # x, rows, memory, out
        POINTER(Matrix), c_void_p, c_int64, c_void_p, c_void_p]
    library.voxtral_cpu_gemm.restype = None
    library.voxtral_cpu_workspace.argtypes = [model, c_int64, c_int64]
    library.voxtral_cpu_workspace.restype = c_int64
    library.voxtral_cpu_decode.argtypes = [  # slots, mel, memory, choices
        model, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_void_p]
    library.voxtral_cpu_decode.restype = None
    library.voxtral_cpu_prefill.argtypes = [  # slots, mel, tokens, memory, choices
        model, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_void_p, c_void_p]
    library.voxtral_cpu_prefill.restype = None
    return library


@lru_cache(maxsize=1)
def available() -> bool:
    """Return whether there is a library; say once in the log why not."""
    try:
        load()
    except BuildError as error:
        if os.environ.get(_VARIABLE) == 'off':
            _LOGGER.info('the network runs in PyTorch: %s', error)
        else:
            _LOGGER.warning('the network runs in PyTorch, several times slower: %s', error)
        return False
    return True
