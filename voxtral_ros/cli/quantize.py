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
from collections.abc import Callable
import csv
import math
from pathlib import Path
import sys
from typing import Any, TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm

    from voxtral_ros.model.protocol import StreamingProtocol
    from voxtral_ros.quantization.format import Recipe
    from voxtral_ros.quantization.quantizer import Codes, Record


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `voxtral quantize`; the defaults are the original recipe."""
    parser.add_argument('--model-dir', required=True, type=Path, metavar='DIR',
                        help='folder with params.json, tekken.json, consolidated.safetensors')
    parser.add_argument('--output-dir', required=True, type=Path, metavar='DIR',
                        help='folder for the result; must not hold weights yet')
    parser.add_argument('--method', choices=('rtn', 'gptq'), default='rtn',
                        help='how INT4 layers get their codes: rtn rounds every weight to the '
                             'nearest one and needs little memory; gptq chooses them so that the '
                             'outputs stay near on recordings (--calibration), and has the whole '
                             'network in memory in float32, 18 GB for the 4B model, and 3 GB of '
                             'codes [rtn]')
    parser.add_argument('--rounding', choices=('seed', 'mse'),
                        help='rule for the scales of INT4: as in the original, or least squared '
                             'error [seed for rtn, mse for gptq]')
    parser.add_argument('--calibration', type=Path, metavar='MANIFEST',
                        help='for gptq: table with a header and the column file; paths are '
                             'relative to it. Not the recordings that will measure the result')
    parser.add_argument('--calibration-count', type=_count, default=60, metavar='N',
                        help='recordings to take, from all over the table [60]')
    parser.add_argument('--calibration-delays-ms', type=float, nargs='+', metavar='MS',
                        default=[480, 240, 480, 960, 80],
                        help='delays that the recordings are transcribed with, in turns '
                             '[480 240 480 960 80]')
    parser.add_argument('--encoder-bits', type=int, choices=(16, 8, 4), default=16,
                        help='bits of the weights of encoder layers; 4 with --method gptq [16]')
    parser.add_argument('--head-bits', type=int, choices=(16, 8, 4), default=16,
                        help='bits of the token embedding, which is also the output head [16]')
    parser.add_argument('--skip', action='append', default=[], metavar='PATTERN',
                        help='leave tensors with such checkpoint names alone, e.g. "layers.0.*"; '
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
    from voxtral_ros.model.protocol import StreamingProtocol
    from voxtral_ros.model.tokenizer import Tokenizer
    from voxtral_ros.quantization.format import Recipe
    from voxtral_ros.quantization.quantizer import quantize
    rounding = arguments.rounding or ('mse' if arguments.method == 'gptq' else 'seed')
    recipe = Recipe(rounding, arguments.encoder_bits, arguments.head_bits,
                    tuple(arguments.skip), arguments.method)
    try:
        _check(arguments)
        with open_weights(arguments.model_dir) as (config, weights):
            tokenizer = Tokenizer.load(arguments.model_dir, config.vocab_size)
            sizes = {name: math.prod(stored.shape) for name, stored in weights.stored.items()}
        total = sum(sizes.values()) * (2 if arguments.verify else 1)
        total += sum(size for name, size in sizes.items() if recipe.is_calibrated(name))
        # Mistakes are reported at once, and without a bar at 0 %.
        with tqdm(total=total, unit=' weights', unit_scale=True, delay=0.1) as bar:
            calibrated = None
            if arguments.method == 'gptq':
                protocol = StreamingProtocol(tokenizer, config.audio)
                calibrated = _calibration(arguments, recipe, protocol, bar)
            records = quantize(arguments.model_dir, arguments.output_dir, recipe,
                               arguments.verify, bar.update, calibrated)
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


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f'{count} is less than 1')
    return count


def _check(arguments: argparse.Namespace) -> None:
    if arguments.method == 'gptq' and not arguments.calibration:
        raise ValueError('--method gptq chooses codes on recordings: name a table of them with '
                         '--calibration MANIFEST')
    if arguments.method != 'gptq' and arguments.encoder_bits == 4:
        raise ValueError('--encoder-bits 4 needs --method gptq: rounded to nearest, such an '
                         'encoder gets a point more of the words wrong; or take 8')
    if arguments.method != 'gptq' and arguments.calibration:
        raise ValueError(f'--calibration is for --method gptq; {arguments.method} needs none')


def _calibration(arguments: argparse.Namespace, recipe: Recipe, protocol: StreamingProtocol,
                 bar: tqdm[Any]) -> Callable[[], Codes]:
    """Read the recordings, and return what chooses codes on them; `bar` counts weights."""
    import torch
    from tqdm import tqdm

    from voxtral_ros.evaluation.manifest import ManifestError, read_manifest, sample
    from voxtral_ros.model.loading import load_network
    from voxtral_ros.quantization.calibration import calibration_inputs, encoder_inputs
    from voxtral_ros.quantization.gptq import quantize_decoder, quantize_encoder
    delays = [protocol.delay_tokens(delay) for delay in arguments.calibration_delays_ms]
    try:
        table = read_manifest(arguments.calibration, ['file'])
    except OSError as error:
        raise ManifestError(f'{arguments.calibration} cannot be read: {error.strerror}') from None
    recordings = sample(table, arguments.calibration_count)
    if not recordings:
        raise ManifestError(f'{arguments.calibration} names no recording')
    samples = [recording.samples() for recording in recordings]

    def codes() -> Codes:
        network = load_network(arguments.model_dir, dtype=torch.float32)
        encoder: Codes = {}
        if recipe.encoder_bits == 4:  # first: the decoder is calibrated on what comes out of it
            frames = encoder_inputs(network, protocol, samples, delays)
            encoder = quantize_encoder(network, frames, recipe, bar.update)
        with tqdm(total=len(samples), desc='transcribing', unit=' recordings', position=0,
                  leave=False, delay=0.1) as transcribed:
            inputs = calibration_inputs(network, protocol, samples, delays, transcribed.update)
        bar.unpause()  # the transcribing was not its time
        return {**encoder, **quantize_decoder(network, inputs, recipe, bar.update)}

    return codes


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
