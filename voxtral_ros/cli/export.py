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

"""Make a dense checkpoint for other programs, as vLLM, from any that voxtral reads."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `voxtral export`."""
    parser.add_argument('--model', required=True, type=Path, metavar='DIR',
                        help='folder of a model, quantized or not')
    parser.add_argument('--output', required=True, type=Path, metavar='DIR',
                        help='folder for the result; must not hold weights yet')
    parser.add_argument('--dtype', choices=('bfloat16', 'float16', 'float32'), default='bfloat16',
                        help='of all weights in the result; weights in INT4 and INT8 are exact '
                             'in float32, and rounded in the others [bfloat16]')


def run(arguments: argparse.Namespace) -> int:
    """Export; return 2 when the model or the arguments cannot be used, 1 on disk errors."""
    # Not at the top: torch takes a second to load, and `voxtral --help` must not.
    import torch
    from tqdm import tqdm

    from voxtral_ros.model.checkpoint import open_weights
    from voxtral_ros.model.export import export
    try:
        with open_weights(arguments.model) as (_, weights):
            total = sum(math.prod(stored.shape) for stored in weights.stored.values())
        # Mistakes are reported at once, and without a bar at 0 %.
        with tqdm(total=total, unit=' weights', unit_scale=True, delay=0.1) as bar:
            nbytes = export(arguments.model, arguments.output, getattr(torch, arguments.dtype),
                            bar.update)
    except ValueError as error:
        print(f'voxtral export: {error}', file=sys.stderr)
        return 2
    except OSError as error:
        print(f'voxtral export: {error}', file=sys.stderr)
        return 1
    print(f'{nbytes / 1e6:.1f} MB of weights in {arguments.dtype}: {arguments.output}',
          file=sys.stderr)
    return 0
