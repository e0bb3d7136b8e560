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
Checkpoint averaging: the weighted mean of checkpoints that were fine-tuned from one another.

    python -m training.average_checkpoints --out W/average W/B:0.6 W/A:0.2 INIT:0.2

Fine-tuning on new speakers costs a little accuracy on the old ones. The mean of the weights from
before and after is often as accurate on both (model soup, WiSE-FT: Wortsman et al. 2022, "Robust
fine-tuning of zero-shot models").
"""

from __future__ import annotations

import argparse
from pathlib import Path
import shutil

from safetensors.torch import load_file, save_file
import torch
from torch import Tensor

from voxtral_ros.quantization.weights import WEIGHTS


def average_checkpoints(parts: list[tuple[Path, float]]) -> dict[str, Tensor]:
    """
    Return the mean of checkpoints in BF16, computed in fp32.

    :param parts: folders and weights, which add up to 1
    :raises ValueError: they do not, or the checkpoints differ in names or shapes of tensors
    """
    if abs(sum(weight for _, weight in parts) - 1) > 1e-6:
        raise ValueError(f'the weights add up to {sum(weight for _, weight in parts):g}, not to 1')
    total: dict[str, Tensor] = {}
    for folder, weight in parts:
        tensors = load_file(folder / WEIGHTS)
        total = total or {name: torch.zeros_like(x, dtype=torch.float) for name, x in
                          tensors.items()}
        if {name: x.shape for name, x in tensors.items()} \
                != {name: x.shape for name, x in total.items()}:
            raise ValueError(f'{folder} has other tensors than {parts[0][0]}')
        for name, tensor in tensors.items():
            total[name] += weight * tensor.float()
    return {name: tensor.to(torch.bfloat16) for name, tensor in total.items()}


def _part(text: str) -> tuple[Path, float]:
    folder, _, weight = text.rpartition(':')
    return Path(folder), float(weight)


def main(command_line: list[str] | None = None) -> None:
    """Write the averaged checkpoint folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('parts', nargs='+', type=_part, metavar='FOLDER:WEIGHT')
    arguments = parser.parse_args(command_line)
    tensors = average_checkpoints(arguments.parts)
    arguments.out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, str(arguments.out / WEIGHTS))
    for name in ('params.json', 'tekken.json'):
        shutil.copyfile(arguments.parts[0][0] / name, arguments.out / name)


if __name__ == '__main__':
    main()
