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
The whole 80 ms step of a random model of full size on one GPU, as the engine runs it.

    python bench/step.py [--layouts original compact] [--streams 128]

    python bench/step.py --predict

Host to host: sound in, tokens out, one stream unless said otherwise, medians of 60 passes.
--predict needs no GPU: it prints the table of docs/jetson.md.
"""

from __future__ import annotations

import argparse
import gc
from pathlib import Path
import sys

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / 'test')]

from support.checkpoints import real_params  # noqa: E402
import torch  # noqa: E402

from voxtral_ros.cli.bench import LAYOUTS  # noqa: E402
from voxtral_ros.model.config import ModelConfig  # noqa: E402
from voxtral_ros.model.random_weights import random_network  # noqa: E402
from voxtral_ros.quantization.format import Recipe  # noqa: E402
from voxtral_ros.recognizer.benchmark import (  # noqa: E402
    BOARDS, count_bytes, measure, read_bandwidth, TOKEN_S)
from voxtral_ros.recognizer.fused_step import FusedStep  # noqa: E402


def predict(config: ModelConfig) -> None:
    """Print the real-time factors that bytes over bandwidth let expect, 40 s into a stream."""
    print('| checkpoint, chunks | ' + ' | '.join(BOARDS) + ' |')
    print('|---|' + '---|' * len(BOARDS))
    for layout, options in LAYOUTS.items():
        counted = count_bytes(config, Recipe(**options).bits, head_bits=4)
        for chunk in (1, 2, 3):
            factors = (counted.predicted_s(rate, chunk, 500) / TOKEN_S for rate in BOARDS.values())
            print(f'| {layout}, {chunk * 80} ms | '
                  + ' | '.join(f'{factor:.2f}' for factor in factors) + ' |')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--layouts', nargs='+', choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument('--streams', type=int, default=128)
    parser.add_argument('--repeats', type=int, default=60)
    parser.add_argument('--predict', action='store_true', help='predict for Orin, measure nothing')
    arguments = parser.parse_args()
    config = ModelConfig.from_params(real_params())
    if arguments.predict:
        predict(config)
        return
    device = torch.device('cuda')
    bandwidth = read_bandwidth(device, 4 << 30)
    print(f'{torch.cuda.get_device_name()}, read bandwidth {bandwidth / 1e9:.0f} GB/s', flush=True)
    for layout in arguments.layouts:
        recipe = Recipe(**LAYOUTS[layout])
        counted = count_bytes(config, recipe.bits, head_bits=4)
        for streams in (1, arguments.streams):
            network = random_network(config, device, torch.float16, recipe)
            torch.cuda.synchronize()
            weights = torch.cuda.memory_allocated()
            step = FusedStep(network, 32, [2, 32, 33], streams, 6, drafting=False)
            print(f'{layout}, {streams} slots: weights {weights / 1e9:.2f} GB, with caches '
                  f'{torch.cuda.memory_allocated() / 1e9:.2f} GB', flush=True)
            for context in (500, 450_000):
                step.state.decoded.fill_(context)
                step.state.encoded.fill_(context)
                for n_tokens in (1, 2, 3, 6) if streams == 1 else (1,):
                    timing = measure(step, range(streams), n_tokens, arguments.repeats)
                    floor = counted.per_token(n_tokens, min(context, 8192)) / bandwidth
                    print(f'  {streams} streams, after {context * 0.08 / 3600:.2f} h, chunks of '
                          f'{n_tokens * 80} ms: {timing.per_token_s * 1e3:.3f} ms per 80 ms p50, '
                          f'{timing.p99_s / n_tokens * 1e3:.3f} p99, floor {floor * 1e3:.3f}',
                          flush=True)
            print(f'  peak {torch.cuda.max_memory_allocated() / 1e9:.2f} GB')
            del step, network
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


if __name__ == '__main__':
    main()
