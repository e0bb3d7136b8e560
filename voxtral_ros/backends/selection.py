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
The one place that chooses a backend: by device, by type, by sizes, and by what is installed.

    CUDA, 16 bits, SM87 or newer, sizes that the kernels have -> cuda: fused kernels, CUDA graphs
    CPU, float32, with our library                            -> cpu: compiled, packed weights
    anything else                                             -> eager: PyTorch as it is
"""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path
import re
from typing import TYPE_CHECKING

from voxtral_ros.backends.base import Backend, DEFAULT_CHUNK_TOKENS, kv_cache_tokens
from voxtral_ros.backends.build import BuildError
from voxtral_ros.backends.cpu import library as cpu_library
from voxtral_ros.backends.cpu.backend import CpuBackend
from voxtral_ros.backends.cpu.memory import weight_bytes
from voxtral_ros.backends.gpu import has_torch, n_gpus, NEEDS_TORCH
from voxtral_ros.backends.kv_cache import is_int8_cache, KV_CACHES
from voxtral_ros.model.checkpoint import open_weights
from voxtral_ros.model.config import ModelConfig
from voxtral_ros.model.tokenizer import Tokenizer
from voxtral_ros.quantization.weights import WeightFile

if TYPE_CHECKING:
    import torch

_LOGGER = logging.getLogger(__name__)
_BYTES = {'float32': 4, 'bfloat16': 2, 'float16': 2}


def load_backend(folder: str | Path, tokenizer: Tokenizer, device: str = 'auto',
                 dtype: str | None = None, max_streams: int = 1,
                 max_chunk_tokens: int = DEFAULT_CHUNK_TOKENS, threads: int = 0, window: int = 0,
                 verify: bool = True, kv_cache: str = 'auto') -> Backend:
    """
    Load a checkpoint folder into the best backend that there is for it.

    :param device: 'auto' (CUDA where there is one), 'cpu', 'cuda' or 'cuda:1'
    :param dtype: 'float32', 'bfloat16' or 'float16'; None is float32 on the CPU, and on a GPU
        the type of the file
    :param threads: on the CPU; 0 is OMP_NUM_THREADS, or one per core
    :param window: tokens that the decoder looks back; 0 is the window of the checkpoint
    :param verify: compare the weights with their checksums, if they have any
    :param kv_cache: '16' (as `dtype` where PyTorch runs the network), '8' for half the memory, or
        'auto': 8 where the model would otherwise take more than half of the memory
    :raises ConfigError, CheckpointError: the folder is no usable model
    :raises ValueError: no such device, type or KV cache, or it has too little memory, or it needs
        PyTorch, which is not installed
    """
    where = find_device(device)
    if dtype not in (None, *_BYTES):
        raise ValueError(f'dtype {dtype!r} is not float32, bfloat16 or float16')
    if kv_cache not in KV_CACHES:
        raise ValueError(f'kv_cache {kv_cache!r} is not {", ".join(KV_CACHES[:-1])} or '
                         f'{KV_CACHES[-1]}')
    with open_weights(folder, window, verify) as (config, weights):
        if where == 'cpu':
            backend = _on_cpu(config, weights, dtype or 'float32', tokenizer, max_streams,
                              max_chunk_tokens, threads, kv_cache)
        else:
            backend = _on_gpu(config, weights, where, dtype, tokenizer, max_streams,
                              max_chunk_tokens, kv_cache)
    _LOGGER.info('backend: %s, KV cache in %d bits, on %s', backend.description,
                 backend.cache_bits, backend.device)
    return backend


def _on_cpu(config: ModelConfig, weights: WeightFile, dtype: str, tokenizer: Tokenizer,
            max_streams: int, max_chunk_tokens: int, threads: int, kv_cache: str) -> Backend:
    """Return the compiled backend, or that of PyTorch where that is impossible."""
    compiled = dtype == 'float32' and _is_compiled()
    if not compiled and not has_torch():
        raise ValueError(f'dtype {dtype} on a CPU {NEEDS_TORCH}; or take float32')
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    cache_bits = 16 if compiled else 8 * _BYTES[dtype]
    caches = {bits: max_streams * config.kv_cache_bytes(kv_cache_tokens(max_chunk_tokens), bits)
              for bits in (cache_bits, 8)}
    in_memory = weight_bytes(weights) if compiled else _BYTES[dtype] * sum(
        math.prod(stored.shape) for stored in weights.stored.values())
    int8_cache = is_int8_cache(kv_cache, in_memory + caches[cache_bits], memory)
    _check_caches(caches[8 if int8_cache else cache_bits], memory, max_streams)
    if compiled:
        return CpuBackend(config, weights, tokenizer.pad, max_streams, max_chunk_tokens, threads,
                          int8_cache)
    import torch
    if threads:
        torch.set_num_threads(threads)
    return _eager(config, weights, torch.device('cpu'), getattr(torch, dtype), tokenizer,
                  max_streams, max_chunk_tokens, int8_cache)


def _is_compiled() -> bool:
    """
    Return whether the network is compiled for this CPU; say once in the log why not.

    :raises ValueError: it is not, and PyTorch is not there either
    """
    if has_torch():
        return cpu_library.available()
    try:
        cpu_library.load()
    except BuildError as error:
        raise ValueError(f'the network is not compiled for this CPU ({error}), and running it '
                         f'uncompiled {NEEDS_TORCH}') from None
    return True


def _on_gpu(config: ModelConfig, weights: WeightFile, device: str, dtype: str | None,
            tokenizer: Tokenizer, max_streams: int, max_chunk_tokens: int,
            kv_cache: str) -> Backend:
    """
    Return the backend with our kernels, or that of PyTorch where they cannot run this.

    :raises ValueError: the model does not fit into the memory of the GPU
    """
    import torch

    from voxtral_ros.backends.cuda.library import available
    from voxtral_ros.backends.cuda.memory import check_memory, choose_plan
    from voxtral_ros.backends.cuda.network import fits_kernels
    from voxtral_ros.backends.cuda.weight_source import CheckpointWeights, mergeable
    from voxtral_ros.quantization.tensors import TORCH_DTYPES
    where = torch.device(device)
    in_memory = getattr(torch, dtype) if dtype else TORCH_DTYPES[weights.main_dtype]
    has_kernels = fits_kernels(config, in_memory, max_chunk_tokens) \
        and mergeable(config, weights) and available(where)
    free, total = torch.cuda.mem_get_info(where)
    plan = choose_plan(config, weights, in_memory, max_streams, max_chunk_tokens, has_kernels,
                       kv_cache, total)
    check_memory(plan, free, total)
    int8_cache = plan.cache_bits == 8
    if not has_kernels:
        return _eager(config, weights, where, in_memory, tokenizer, max_streams, max_chunk_tokens,
                      int8_cache)
    from voxtral_ros.backends.cuda.backend import CudaBackend
    return CudaBackend(config, CheckpointWeights(weights, where, in_memory), tokenizer.pad,
                       special_tokens(tokenizer), max_streams, max_chunk_tokens,
                       int8_cache=int8_cache)


def _eager(config: ModelConfig, weights: WeightFile, device: torch.device, dtype: torch.dtype,
           tokenizer: Tokenizer, max_streams: int, max_chunk_tokens: int,
           int8_cache: bool) -> Backend:
    from voxtral_ros.backends.eager import EagerBackend
    from voxtral_ros.model.loading import read_network
    network = read_network(config, weights, device, dtype)
    return EagerBackend(network, tokenizer.pad, max_streams, max_chunk_tokens, int8_cache)


def _check_caches(needed: int, there: int, max_streams: int) -> None:
    """
    Refuse caches that this machine has no memory for: they fill up only after hours.

    :param needed, there: bytes
    :raises ValueError: it has less
    """
    if needed > there:
        raise ValueError(f'the KV caches of {max_streams} streams take {needed / 1e9:.1f} GB, but '
                         f'this machine has {there / 1e9:.1f} GB: take a smaller window, or fewer '
                         'streams')


def find_device(name: str) -> str:
    """
    Return 'cpu' or 'cuda:N' for a name: 'auto' (CUDA where there is one), 'cpu', 'cuda', 'cuda:1'.

    :raises ValueError: there is no such device
    """
    if name == 'auto':
        name = 'cuda' if _sees_gpu() else 'cpu'
    match = re.fullmatch(r'cpu|cuda(?::(\d+))?', name)
    if match is None:
        raise ValueError(f'device {name!r} is not auto, cpu, cuda or cuda:N')
    if name == 'cpu':
        return name
    if not has_torch():
        raise ValueError(f'device {name} {NEEDS_TORCH}; or take cpu')
    import torch
    if not torch.cuda.is_available():
        raise ValueError('device is cuda, but this torch sees no CUDA GPU: take cpu, or install '
                         'a torch with CUDA (torch.version.cuda is '
                         f'{torch.version.cuda})')
    index = int(match[1]) if match[1] else torch.cuda.current_device()
    if index >= torch.cuda.device_count():
        raise ValueError(f'there is no cuda:{index}: this machine has '
                         f'{torch.cuda.device_count()} CUDA GPUs, counted from 0')
    return f'cuda:{index}'


def find_devices(names: str) -> list[str]:
    """
    Return 'cpu' or 'cuda:N' for each of some names with commas between them; 'all' is every GPU.

    The CPU may be named several times.

    :raises ValueError: one of them is not there, or a GPU is named twice
    """
    if names == 'all':
        find_device('cuda')
        import torch
        return [f'cuda:{index}' for index in range(torch.cuda.device_count())]
    devices = [find_device(name.strip()) for name in names.split(',')]
    for device in devices:
        if device != 'cpu' and devices.count(device) > 1:
            raise ValueError(f'{device} is named twice in {names!r}: one engine has all of a GPU, '
                             'and room for more streams')
    return devices


def _sees_gpu() -> bool:
    """Return whether there is a GPU that PyTorch can use; say in the log if it cannot."""
    if not n_gpus():
        return False
    if not has_torch():
        _LOGGER.warning('there is a GPU, but the CPU is used: a GPU %s', NEEDS_TORCH)
        return False
    import torch
    if not torch.cuda.is_available():
        _LOGGER.warning('there is a GPU, but the CPU is used: this torch does not see it '
                        '(torch.version.cuda is %s)', torch.version.cuda)
        return False
    return True


def special_tokens(tokenizer: Tokenizer) -> list[int]:
    """Return the tokens whose logits the head always computes exactly."""
    return [tokenizer.pad, tokenizer.word, tokenizer.eos]
