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
import os
from pathlib import Path

import torch

from voxtral_ros.backends.base import Backend, kv_cache_tokens
from voxtral_ros.backends.cpu import library as cpu_library
from voxtral_ros.backends.cpu.backend import CpuBackend
from voxtral_ros.backends.eager import EagerBackend
from voxtral_ros.model.checkpoint import load_network, open_weights
from voxtral_ros.model.config import ModelConfig
from voxtral_ros.model.tokenizer import Tokenizer
from voxtral_ros.quantization.weights import WeightFile

_LOGGER = logging.getLogger(__name__)


def load_backend(folder: str | Path, tokenizer: Tokenizer, device: str = 'auto',
                 dtype: str | None = None, max_streams: int = 1, max_chunk_tokens: int = 8,
                 threads: int = 0, window: int = 0, verify: bool = True) -> Backend:
    """
    Load a checkpoint folder into the best backend that there is for it.

    :param device: 'auto' (CUDA where there is one), 'cpu', 'cuda' or 'cuda:1'
    :param dtype: 'float32', 'bfloat16' or 'float16'; None is float32 on the CPU, and on a GPU
        the type of the file
    :param threads: on the CPU; 0 is OMP_NUM_THREADS, or one per core
    :param window: tokens that the decoder looks back; 0 is the window of the checkpoint
    :param verify: compare the weights with their checksums, if they have any
    :raises ConfigError, CheckpointError: the folder is no usable model
    :raises ValueError: no such device or type, or it has too little memory
    """
    where = find_device(device)
    if dtype not in (None, 'float32', 'bfloat16', 'float16'):
        raise ValueError(f'dtype {dtype!r} is not float32, bfloat16 or float16')
    if dtype is None and where.type == 'cpu':
        dtype = 'float32'
    with open_weights(folder, window, verify) as (network, weights):
        config = network.config
        in_memory: torch.dtype = getattr(torch, dtype) if dtype else weights.main_dtype
        backend: Backend | None = None
        if where.type == 'cpu':
            _check_caches(config, in_memory, max_streams, max_chunk_tokens)
        if where.type == 'cuda':
            backend = _cuda(config, weights, where, in_memory, tokenizer, max_streams,
                            max_chunk_tokens)
        elif in_memory == torch.float32 and cpu_library.available():
            backend = CpuBackend(config, weights, tokenizer.pad, max_streams, max_chunk_tokens,
                                 threads)
    if backend is None:
        if threads:
            torch.set_num_threads(threads)
        eager = load_network(folder, where, in_memory, window, verify)
        backend = EagerBackend(eager, tokenizer.pad, max_streams, max_chunk_tokens)
    _LOGGER.info('backend: %s, on %s', backend.description, backend.device)
    return backend


def _cuda(config: ModelConfig, weights: WeightFile, device: torch.device, dtype: torch.dtype,
          tokenizer: Tokenizer, max_streams: int, max_chunk_tokens: int) -> Backend | None:
    """
    Return the backend with our kernels, None where they cannot run this network.

    :raises ValueError: the model does not fit into the memory of the GPU
    """
    from voxtral_ros.backends.cuda.library import available
    from voxtral_ros.backends.cuda.memory import check_memory, plan_memory
    from voxtral_ros.backends.cuda.network import fits_kernels
    from voxtral_ros.backends.cuda.weight_source import mergeable
    has_kernels = fits_kernels(config, dtype, max_chunk_tokens) and mergeable(config, weights) \
        and available(device)
    check_memory(plan_memory(config, weights, dtype, max_streams, max_chunk_tokens, has_kernels),
                 *torch.cuda.mem_get_info(device))
    if not has_kernels:
        return None
    from voxtral_ros.backends.cuda.backend import CudaBackend
    from voxtral_ros.backends.cuda.weight_source import CheckpointWeights
    return CudaBackend(config, CheckpointWeights(weights, device, dtype), tokenizer.pad,
                       special_tokens(tokenizer), max_streams, max_chunk_tokens)


def _check_caches(config: ModelConfig, dtype: torch.dtype, max_streams: int,
                  max_chunk_tokens: int) -> None:
    """
    Refuse caches that this machine has no memory for: they fill up only after hours.

    :raises ValueError: it has less
    """
    needed = dtype.itemsize * max_streams \
        * config.kv_cache_size(kv_cache_tokens(max_chunk_tokens))
    there = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    if needed > there:
        raise ValueError(f'the KV caches of {max_streams} streams take {needed / 1e9:.1f} GB, but '
                         f'this machine has {there / 1e9:.1f} GB: take a smaller window, or fewer '
                         'streams')


def find_device(name: str) -> torch.device:
    """
    Return the device of a name: 'auto' (CUDA where there is one), 'cpu', 'cuda' or 'cuda:1'.

    :raises ValueError: there is no such device
    """
    if name == 'auto':
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ('cpu', 'cuda'):
        raise ValueError(f'device {name!r} is not auto, cpu, cuda or cuda:N')
    if device.type == 'cuda' and not torch.cuda.is_available():
        raise ValueError('device is cuda, but this torch sees no CUDA GPU: take cpu, or install '
                         'a torch with CUDA (torch.version.cuda is '
                         f'{torch.version.cuda})')
    if device.type == 'cpu':
        return torch.device('cpu')
    index = torch.cuda.current_device() if device.index is None else device.index
    if index >= torch.cuda.device_count():
        raise ValueError(f'there is no cuda:{index}: this machine has '
                         f'{torch.cuda.device_count()} CUDA GPUs, counted from 0')
    return torch.device('cuda', index)


def special_tokens(tokenizer: Tokenizer) -> list[int]:
    """Return the tokens whose logits the head always computes exactly."""
    return [tokenizer.pad, tokenizer.word, tokenizer.eos]
