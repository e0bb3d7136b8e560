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

"""Make a checkpoint smaller: INT4 decoder, byte-compatible with the original INT4 checkpoint."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxtral_ros.quantization.quantizer import Record


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `voxtral quantize`; the defaults are the original recipe."""
    parser.add_argument('--model-dir', required=True, type=Path, metavar='DIR',
                        help='folder with params.json, tekken.json, consolidated.safetensors')
    parser.add_argument('--output-dir', required=True, type=Path, metavar='DIR',
                        help='folder for the result; must not hold weights yet')
    parser.add_argument('--rounding', choices=('seed', 'mse'), default='seed',
                        help='rule for INT4: as in the original, or least squared error [seed]')
    parser.add_argument('--encoder-bits', type=int, choices=(16, 8), default=16,
                        help='bits of the weights of encoder layers [16]')
    parser.add_argument('--head-bits', type=int, choices=(16, 8, 4), default=16,
                        help='bits of the token embedding, which is also the output head [16]')
    parser.add_argument('--skip', action='append', default=[], metavar='PATTERN',
                        help='leave tensors with such native names alone, e.g. "layers.0.*"; '
                             'may be given several times')
    parser.add_argument('--report', type=Path, metavar='FILE.csv',
                        help='list every tensor with its bits, bytes and relative error')
    parser.add_argument('--verify', action='store_true',
                        help='read the result back and compare it with the source')


def run(arguments: argparse.Namespace) -> int:
    """Quantize; return 2 when the model or the arguments cannot be used, 1 on disk errors."""
    # Not at the top: torch takes a second to load, and `voxtral --help` must not.
    from tqdm import tqdm

    from voxtral_ros.model.checkpoint import open_weights
    from voxtral_ros.model.tokenizer import Tokenizer
    from voxtral_ros.quantization.format import Recipe
    from voxtral_ros.quantization.quantizer import quantize
    recipe = Recipe(arguments.rounding, arguments.encoder_bits, arguments.head_bits,
                    tuple(arguments.skip))
    try:
        with open_weights(arguments.model_dir) as (network, _):
            Tokenizer.load(arguments.model_dir, network.config.vocab_size)
            total = sum(parameter.numel() for parameter in network.parameters())
        total *= 2 if arguments.verify else 1
        # Mistakes are told at once, and without a bar at 0 %.
        with tqdm(total=total, unit=' weights', unit_scale=True, delay=0.1) as bar:
            records = quantize(arguments.model_dir, arguments.output_dir, recipe,
                               arguments.verify, bar.update)
        if arguments.report:
            _report(arguments.report, records)
    except ValueError as error:
        print(f'voxtral quantize: {error}', file=sys.stderr)
        return 2
    except OSError as error:
        print(f'voxtral quantize: {error}', file=sys.stderr)
        return 1
    print(_summary(records), file=sys.stderr)
    return 0


def _report(path: Path, records: list[Record]) -> None:
    with path.open('w', newline='', encoding='utf-8') as file:
        table = csv.writer(file)
        table.writerow(('tensor', 'bits', 'shape', 'bytes', 'relative_error'))
        for record in records:
            table.writerow((record.name, record.bits, 'x'.join(map(str, record.shape)),
                            record.nbytes, f'{record.relative_error:.6f}'))


def _summary(records: list[Record]) -> str:
    nbytes = sum(record.nbytes for record in records)
    worst = max(records, key=lambda record: record.relative_error)
    return (f'{nbytes / 1e6:.1f} MB; largest relative error {worst.relative_error:.4f} '
            f'({worst.name})')
