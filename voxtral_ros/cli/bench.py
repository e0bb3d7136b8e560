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

"""Measure how fast a model runs here, beside what the memory of this machine allows."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import platform
import sys
from typing import Any, TYPE_CHECKING

from voxtral_ros.cli.options import add_kv_cache, add_no_verify

if TYPE_CHECKING:
    from voxtral_ros.backends.base import Backend
    from voxtral_ros.backends.benchmark import PassBytes
    from voxtral_ros.model.config import ModelConfig

# Options of `voxtral quantize` for the layouts that a random model can have.
LAYOUTS: dict[str, dict[str, Any]] = {
    'original': {},
    'compact': {'rounding': 'mse', 'encoder_bits': 8, 'head_bits': 4},
    'small': {'rounding': 'mse', 'encoder_bits': 4, 'head_bits': 4},
}
_CHUNKS = (1, 2, 3, 6)  # tokens of 80 ms


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `voxtral bench`."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument('--model', type=Path, metavar='DIR',
                       help='a checkpoint folder [the demo model]')
    which.add_argument('--random', choices=LAYOUTS,
                       help='random weights of the sizes of Voxtral Mini 4B Realtime, packed as '
                            'in the original INT4 checkpoint, or with an INT4 head and an encoder '
                            'in INT8 (compact) or INT4 (small); needs a GPU with some gigabytes '
                            'free; its KV cache has 16 bits, unless --kv-cache is 8')
    parser.add_argument('--params', type=Path, metavar='FILE',
                        help='with --random: params.json with other sizes')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N [auto]')
    parser.add_argument('--dtype', choices=('float32', 'bfloat16', 'float16'))
    add_kv_cache(parser)
    add_no_verify(parser)
    parser.add_argument('--streams', type=int, default=1, metavar='N',
                        help='also measure N streams at once [1]')
    parser.add_argument('--context', type=int, default=500, metavar='TOKENS',
                        help='tokens of 80 ms processed before the measurement [500]')
    parser.add_argument('--threads', type=int, default=0, metavar='N',
                        help='on the CPU; 0: OMP_NUM_THREADS, or one per core [0]')
    parser.add_argument('--repeats', type=int, default=50, metavar='N')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the numbers as well')


def run(arguments: argparse.Namespace) -> int:
    """Print the table; return 2 when the model or the device cannot be used."""
    from voxtral_ros.model.checkpoint import CheckpointError
    from voxtral_ros.model.config import ConfigError
    try:
        result = _measure(arguments)
    except (CheckpointError, ConfigError, ValueError, OSError) as error:
        print(f'voxtral bench: {error}', file=sys.stderr)
        return 2
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    return 0


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    # Not at the top: `voxtral --help` needs none of it.
    from voxtral_ros.backends import benchmark
    from voxtral_ros.backends.selection import find_device
    device = find_device(arguments.device)
    backend, config = _open(arguments, device)
    bandwidth = benchmark.read_bandwidth(device)
    weights = backend.weight_bytes
    counted = benchmark.PassBytes.of(config, weights, backend.cache_bits)
    machine = _gpu(device) if device != 'cpu' \
        else f'{platform.processor() or platform.machine()}, threads: {arguments.threads or "all"}'
    print(f'{machine}; {backend.description}, KV cache in {backend.cache_bits} bits')
    print(f'memory reads {bandwidth / 1e9:.1f} GB/s here; weights in memory as read per pass: '
          f'encoder {weights.encoder / 1e9:.4f}, decoder {weights.decoder / 1e9:.4f}, head '
          f'{weights.head / 1e9:.4f} GB; KV caches {backend.cache_bytes / 1e9:.3f} GB')
    header = ('streams', 'chunk', 'p50', 'p99', 'per 80 ms', 'real-time factor', 'floor', 'of it')
    print('\n' + '  '.join(f'{title:>10}' for title in header))
    rows = []
    context = min(arguments.context, config.decoder.sliding_window)
    for count in sorted({1, arguments.streams}):
        for chunk in _CHUNKS if count == 1 else (1,):
            backend.set_position(arguments.context)
            timing = benchmark.measure(backend, range(count), chunk, arguments.repeats)
            once = counted.per_token(chunk, 0)
            floor = (once + count * context * counted.decoder_cache) / bandwidth
            print('  '.join(f'{cell:>10}' for cell in (
                count, f'{chunk * 80} ms', f'{timing.p50_s * 1e3:.2f} ms',
                f'{timing.p99_s * 1e3:.2f} ms', f'{timing.per_token_s * 1e3:.2f} ms',
                f'{timing.real_time_factor:.4f}', f'{floor * 1e3:.2f} ms',
                f'{floor / timing.per_token_s:.0%}')))
            rows.append({'streams': count, 'chunk_ms': chunk * 80, 'p50_s': timing.p50_s,
                         'p99_s': timing.p99_s, 'floor_s': floor})
    result = {'machine': machine, 'backend': backend.description, 'read_bytes_per_s': bandwidth,
              'rows': rows, 'context_tokens': arguments.context, 'bytes': {
                  **vars(weights), 'encoder_cache': counted.encoder_cache,
                  'decoder_cache': counted.decoder_cache}}
    if device != 'cpu':
        import torch
        peak = torch.cuda.max_memory_allocated(device)
        print(f'\npeak memory {peak / 1e9:.2f} GB, without the CUDA context')
        result['peak_bytes'] = peak
        _print_prediction(counted, context, config.decoder.sliding_window)
    return result


def _print_prediction(counted: PassBytes, context: int, window: int) -> None:
    from voxtral_ros.backends.benchmark import BOARDS, TOKEN_S
    shares = [f'{counted.window_share(chunk, window):.0%}' for chunk in (1, 3)]
    print('\nprediction, not measured: the larger of what the memory takes (bytes over 80 % of '
          'its bandwidth, and launches)\nand what the multiprocessors take; real-time factor in '
          f'chunks of 80 and 240 ms, {context} tokens processed and window full\n({window} '
          f'tokens, then {" and ".join(shares)} of the bytes):')
    for board in BOARDS:
        young, full = (' and '.join(
            f'{counted.predicted_s(board, chunk, tokens) / TOKEN_S:.2f}' for chunk in (1, 3))
            for tokens in (context, window))
        print(f'  {board.name}: {young}, window full {full}')


def _gpu(device: str) -> str:
    import torch
    return f'{torch.cuda.get_device_name(device)}, torch {torch.__version__}'


def _open(arguments: argparse.Namespace, device: str) -> tuple[Backend, ModelConfig]:
    """Return the backend of a model, and its sizes."""
    from voxtral_ros.model.config import ModelConfig
    from voxtral_ros.resources import demo_model, share_folder
    chunk = max(_CHUNKS)
    if arguments.random is None:
        from voxtral_ros.recognizer.engine import Engine
        folder = arguments.model or demo_model()
        engine = Engine.load(folder, device, arguments.dtype, arguments.streams, chunk,
                             arguments.threads, verify=arguments.verify,
                             kv_cache=arguments.kv_cache)
        return engine.backend, ModelConfig.load(folder)
    if device == 'cpu':
        raise ValueError('--random needs a GPU: on the CPU take --model')
    if arguments.dtype == 'float32':
        raise ValueError('--random is packed for kernels in 16 bits: --dtype float16 or bfloat16')
    import torch

    from voxtral_ros.backends.cuda.backend import CudaBackend
    from voxtral_ros.backends.cuda.random_weights import RandomWeights
    from voxtral_ros.quantization.format import Recipe
    path = arguments.params or share_folder() / 'config' / 'voxtral-mini-4b-realtime.json'
    config = ModelConfig.from_params(json.loads(path.read_text(encoding='utf-8')))
    weights = RandomWeights(config, Recipe(**LAYOUTS[arguments.random]), torch.device(device),
                            getattr(torch, arguments.dtype or 'float16'))
    return CudaBackend(config, weights, 32, [2, 32, 33], arguments.streams, chunk,
                       speculative=False, int8_cache=arguments.kv_cache == '8'), config
