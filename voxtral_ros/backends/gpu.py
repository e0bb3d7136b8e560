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
Whether there is a GPU, and PyTorch to run it with: found out without importing PyTorch.

Importing it takes seconds of a small CPU and 200 MB, and a CPU needs it for nothing.
"""

from __future__ import annotations

import ctypes
from importlib.util import find_spec

NEEDS_TORCH = 'needs PyTorch, which is not installed: pip install voxtral_ros[torch]'


def has_torch() -> bool:
    """Return whether PyTorch is installed."""
    try:
        return find_spec('torch') is not None
    except (ImportError, ValueError):
        return False


def n_gpus() -> int:
    """Return how many CUDA GPUs the driver shows, which heeds CUDA_VISIBLE_DEVICES itself."""
    count = ctypes.c_int()
    try:
        driver = ctypes.CDLL('libcuda.so.1')
        failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    except (OSError, AttributeError):  # no driver, or what calls itself one
        return 0
    return 0 if failed else count.value
