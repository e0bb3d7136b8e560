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

"""Compile the network for the CPU, and the CUDA kernels for Orin (SM87) and the GPU here."""

from __future__ import annotations

import argparse
from pathlib import Path
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `voxtral build-kernels`."""
    parser.add_argument('--output', type=Path, metavar='FILE.so',
                        help='where to put the CUDA library, and make no other [the cache, where '
                             'libraries are found by themselves]')
    parser.add_argument('--jobs', type=int, metavar='N',
                        help='compilers at once; each wants up to a gigabyte [by free memory]')
    parser.add_argument('--arch', type=int, action='append', metavar='NN',
                        help='add machine code, e.g. 90 for compute capability 9.0; may be given '
                             'several times [that of the GPU here]')
    parser.add_argument('--verbose', action='store_true', help='show what the compiler says')


def run(arguments: argparse.Namespace) -> int:
    """Build; return 1 when a compiler fails, or when the one that is needed is not there."""
    from voxtral_ros.backends.cpu import build as cpu_build
    from voxtral_ros.backends.cuda import build
    failures = 0
    if arguments.output is None:
        try:
            print(cpu_build.build())
        except build.BuildError as error:
            failures += _complain(error)
    try:
        build.find_nvcc()
    except build.BuildError as error:
        # Not needed where there is no GPU.
        if arguments.output or arguments.arch or build.native_architecture() is not None:
            return _complain(error)
        print(f'No CUDA kernels, and no GPU to run them on: {error}')
        return min(failures, 1)
    try:
        print(build.build(arguments.output, arguments.jobs, arguments.arch, arguments.verbose))
    except build.BuildError as error:
        failures += _complain(error)
    return min(failures, 1)


def _complain(error: Exception) -> int:
    print(f'voxtral build-kernels: {error}', file=sys.stderr)
    return 1
