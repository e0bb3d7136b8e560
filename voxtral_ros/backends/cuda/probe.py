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
Try out the GPU: `python -m voxtral_ros.backends.cuda.probe [MODEL WINDOW KV_CACHE]`.

It prints a JSON object a line as it goes, so that what is known is known when a driver hangs or a
library crashes. That a wheel of torch shows a GPU proves nothing: without code for it, the first
computation is what fails.
"""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
import sys
from typing import Any

from voxtral_ros.backends.gpu import has_torch

# CUdevice_attribute of cuda.h
_CLOCK_KHZ, _N_SMS, _INTEGRATED, _MAJOR, _MINOR = 13, 16, 18, 75, 76


def main(arguments: list[str]) -> None:
    """Print what the driver, torch and our kernels make of the first GPU."""
    driver = _driver()
    _print(**driver)
    if not driver['gpus']:
        return
    _print(has_torch=has_torch())
    if not has_torch():
        return
    try:
        import torch
    except Exception as error:  # a missing library of CUDA is an OSError or ImportError
        _print(torch_error=_sentence(error))
        return
    _print(torch=torch.__version__, torch_cuda=torch.version.cuda,
           torch_architectures=torch.cuda.get_arch_list(), visible=torch.cuda.is_available())
    if not torch.cuda.is_available():
        return
    try:
        _compute()
        _print(computes=True)
    except Exception as error:
        _print(computes=False, compute_error=_sentence(error))
        return
    has_kernels = _try_kernels()
    if arguments:
        try:
            _plan(Path(arguments[0]), int(arguments[1]), arguments[2], has_kernels)
        except Exception as error:
            _print(plan_error=_sentence(error))


def _driver() -> dict[str, Any]:
    """Return the GPUs and the CUDA version of the driver, without torch."""
    version, count = ctypes.c_int(), ctypes.c_int()
    try:
        cuda = ctypes.CDLL('libcuda.so.1')
    except OSError:
        return {'gpus': []}
    try:
        cuda.cuDriverGetVersion(ctypes.byref(version))
        failed = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
        if failed:
            return {'gpus': [], 'driver_error': f'CUDA error {failed}'}
        return {'driver_cuda': f'{version.value // 1000}.{version.value % 1000 // 10}',
                'gpus': [_device(cuda, number) for number in range(count.value)]}
    except AttributeError as error:
        return {'gpus': [], 'driver_error': str(error)}


def _device(cuda: ctypes.CDLL, number: int) -> dict[str, Any]:
    name, value = ctypes.create_string_buffer(100), ctypes.c_int()
    device = ctypes.c_int()
    cuda.cuDeviceGet(ctypes.byref(device), number)
    cuda.cuDeviceGetName(name, len(name), device)

    def attribute(which: int) -> int:
        cuda.cuDeviceGetAttribute(ctypes.byref(value), which, device)
        return value.value

    return {'name': name.value.decode(errors='replace'),
            'architecture': 10 * attribute(_MAJOR) + attribute(_MINOR),
            'integrated': bool(attribute(_INTEGRATED)), 'n_sms': attribute(_N_SMS),
            'clock': 1000 * attribute(_CLOCK_KHZ)}


def _compute() -> None:
    """Compute something of torch's own and something of cuBLAS; raise where that fails."""
    import torch
    numbers = torch.arange(64, device='cuda')
    if int((2 * numbers).sum()) != 4032:
        raise ArithmeticError('twice the numbers below 64 do not add up to 4032')
    matrix = torch.ones(64, 64, device='cuda', dtype=torch.float16)
    if float((matrix @ matrix)[0, 0]) != 64:
        raise ArithmeticError('a product of ones is not their number')


def _try_kernels() -> bool:
    """Find our library, do not build it, and run its smallest kernel; return whether it ran."""
    try:
        import torch

        from voxtral_ros.backends.cuda import library
        from voxtral_ros.backends.cuda.norm_rope import advance
        path = library.find()
        _print(library=str(path) if path else '')
        if path is None:
            return False
        _print(library_architectures=library.architectures())
        slots, position = torch.arange(2, device='cuda'), torch.zeros(2, device='cuda').long()
        advance(slots, position, 3)
        if position.tolist() != [3, 3]:
            raise ArithmeticError('a kernel has computed nothing')
        _print(kernels=True)
    except Exception as error:
        _print(kernels=False, kernels_error=_sentence(error))
        return False
    return True


def _plan(model: Path, window: int, kv_cache: str, has_kernels: bool) -> None:
    """Add up what one stream of a model needs here, and what is free."""
    import torch

    from voxtral_ros.backends.base import DEFAULT_CHUNK_TOKENS
    from voxtral_ros.backends.cuda.memory import choose_plan
    from voxtral_ros.backends.cuda.network import fits_kernels
    from voxtral_ros.backends.cuda.weight_source import mergeable
    from voxtral_ros.model.checkpoint import open_weights
    from voxtral_ros.quantization.tensors import TORCH_DTYPES
    with open_weights(model, window) as (config, weights):
        dtype = TORCH_DTYPES[weights.main_dtype]
        packed = has_kernels and fits_kernels(config, dtype, DEFAULT_CHUNK_TOKENS) \
            and mergeable(config, weights)
        free, total = torch.cuda.mem_get_info()
        plan = choose_plan(config, weights, dtype, 1, DEFAULT_CHUNK_TOKENS, packed, kv_cache,
                           total)
    _print(plan=str(plan), plan_bytes=plan.total, packed=packed, free=free, total=total,
           cache_bits=plan.cache_bits)


def _print(**found: Any) -> None:
    print(json.dumps(found), flush=True)


def _sentence(error: BaseException) -> str:
    """Return the first line of a message: CUDA adds several of general advice."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


if __name__ == '__main__':
    main(sys.argv[1:])
