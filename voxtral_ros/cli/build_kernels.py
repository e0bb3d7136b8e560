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

"""Compile the CUDA kernels: machine code for Orin (SM87) and for the GPU of this machine."""

from __future__ import annotations

import argparse
from pathlib import Path
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `voxtral build-kernels`."""
    parser.add_argument('--output', type=Path, metavar='FILE.so',
                        help='where to put the library [the cache, where it is found by itself]')
    parser.add_argument('--jobs', type=int, metavar='N',
                        help='compilers at once; each wants up to a gigabyte [by free memory]')
    parser.add_argument('--arch', type=int, action='append', metavar='NN',
                        help='add machine code, e.g. 90 for compute capability 9.0; may be given '
                             'several times [that of the GPU here]')
    parser.add_argument('--verbose', action='store_true', help='show what the compiler says')


def run(arguments: argparse.Namespace) -> int:
    """Build; return 1 when there is no compiler or it fails."""
    from voxtral_ros.ops.build import build, BuildError
    try:
        library = build(arguments.output, arguments.jobs, arguments.arch, arguments.verbose)
    except BuildError as error:
        print(f'voxtral build-kernels: {error}', file=sys.stderr)
        return 1
    print(library)
    return 0
