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

"""Look for damage in the files of a model, as bad cards, disks and downloads leave it."""

from __future__ import annotations

import argparse
from pathlib import Path
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxtral_ros.quantization.inspection import Inspection


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `voxtral verify`."""
    parser.add_argument('model', type=Path, metavar='DIR',
                        help='folder with params.json, tekken.json, consolidated.safetensors')
    parser.add_argument('--write', action='store_true',
                        help='write the checksums of weights that have none into a file beside '
                             'them: later damage is then noticed here, and whenever the model is '
                             'loaded')


def run(arguments: argparse.Namespace) -> int:
    """Print what was found; return 1 when something is damaged, 2 when it is no usable model."""
    # Not at the top: `voxtral --help` needs none of it.
    from voxtral_ros.model.checkpoint import check_folder
    from voxtral_ros.model.layout import find_layout
    try:
        check_folder(arguments.model)
    except ValueError as error:
        return _complain(str(error), 2)
    try:
        # One after the other, to the end: there may be damage in more than one shard.
        return max(_verify(path, arguments.write) for path in find_layout(arguments.model).weights)
    except (ValueError, OSError) as error:
        return _complain(str(error), 1)


def _verify(path: Path, write: bool) -> int:
    """Print what was found in one file; return 1 when it is damaged."""
    found = _inspect(path, compare=not write)
    for problem in found.problems:
        print(problem)
    if found.problems:
        return _complain(f'{path} is damaged: download, copy or quantize it again', 1)
    _summarise(path, found, write)
    return 0


def _inspect(path: Path, compare: bool) -> Inspection:
    from tqdm import tqdm

    from voxtral_ros.quantization.inspection import inspect
    with tqdm(total=path.stat().st_size, unit='B', unit_scale=True,
              disable=not sys.stderr.isatty()) as bar:
        return inspect(path, compare, bar.update)


def _summarise(path: Path, found: Inspection, write: bool) -> None:
    """Say what a file is in which nothing is wrong; write its checksums if asked for."""
    from voxtral_ros.quantization.checksums import write_side_file
    size = f'{path}: {found.n_tensors} tensors, {found.n_bytes / 1e6:.1f} MB'
    if write:
        print(f'{size}; their checksums are in {write_side_file(path, found.checksums)}')
    elif found.compared:
        print(f'{size}, as their checksums say')
    else:
        print(f'{size}. Names, shapes and ranges are right; there are no checksums, without which '
              'a weight that has changed a little is not noticed. If you trust the file, write '
              f'them: voxtral verify --write {path.parent}')


def _complain(message: str, code: int) -> int:
    print(f'voxtral verify: {message}', file=sys.stderr)
    return code
