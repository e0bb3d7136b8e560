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
Sizes, and memory of quantizing and loading, of a checkpoint with the sizes of the real model.

    python bench/quantization_memory.py --folder DIR [--rounding mse]

Writes 16 GB of random checkpoints below DIR and deletes them at the end. One thread.
"""

import argparse
from pathlib import Path
import platform
import shutil
import sys

TEST = Path(__file__).parents[1] / 'test'
sys.path[:0] = [str(TEST), str(TEST / 'quantization')]

from measured import measure  # noqa: E402
from support import checkpoints  # noqa: E402
import torch  # noqa: E402

from voxtral_ros.quantization.tensorfile import Spec, TensorWriter  # noqa: E402

WEIGHTS = 'consolidated.safetensors'


def write_native(folder):
    """Write a checkpoint with random weights and the sizes of Voxtral-Mini-4B-Realtime-2602."""
    params = checkpoints.real_params()
    checkpoints.write_checkpoint(folder, params, {}, checkpoints.tiny_tekken())
    specs = {name: Spec(torch.bfloat16, shape)
             for name, shape in checkpoints.tensor_shapes(params).items()}
    noise = (0.02 * torch.randn(1 << 24)).bfloat16()
    with TensorWriter(folder / WEIGHTS, specs) as writer:
        for name, spec in specs.items():
            row = torch.Size(spec.shape[1:]).numel()
            step = len(noise) // row
            for start in range(0, spec.shape[0], step):
                n_rows = min(step, spec.shape[0] - start)
                writer.write(name, noise[:n_rows * row].view(n_rows, *spec.shape[1:]), start)


def processor():
    """Return the name of the processor of this machine."""
    with open('/proc/cpuinfo', encoding='utf-8') as info:
        return next((line.split(':')[1].strip() for line in info if line.startswith('model name')),
                    platform.machine())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--folder', required=True, type=Path, help='where to write 16 GB')
    parser.add_argument('--rounding', choices=('seed', 'mse'), default='seed',
                        help='of the smallest checkpoint; mse takes minutes [seed]')
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True)
    recipes = {'original': ('seed', 16, 16), 'smallest': (arguments.rounding, 8, 4)}
    try:
        print(f'{processor()}, one thread, torch {torch.__version__}\n')
        print('| checkpoint | file | quantizing: time | peak memory | loading as bfloat16: time '
              '| in memory | peak - that |')
        print('|---|---|---|---|---|---|---|')
        native = arguments.folder / 'native'
        write_native(native)
        show('native', native, None)
        for name, recipe in recipes.items():
            target = arguments.folder / name
            show(f'{name} ({recipe[0]}, encoder {recipe[1]}, head {recipe[2]})', target,
                 measure('quantize', native, target, *recipe))
    finally:
        shutil.rmtree(arguments.folder)


def show(name, folder, quantized):
    """Print a row of the table."""
    size = (folder / WEIGHTS).stat().st_size
    made = f'{quantized["seconds"]:.0f} s | {quantized["peak"] / 1e6:.0f} MB' if quantized \
        else '- | -'
    loaded = measure('load', folder, 'bfloat16')
    over = loaded['peak'] - loaded['result']
    print(f'| {name} | {size / 1e9:.3f} GB | {made} | {loaded["seconds"]:.0f} s '
          f'| {loaded["result"] / 1e9:.3f} GB | {over / 1e6:.0f} MB |', flush=True)


if __name__ == '__main__':
    main()
