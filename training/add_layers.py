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
Deepen a trained network with layers that do nothing yet.

    python -m training.add_layers --init DIR --params training/params.json --out W/deep

The new network computes the same function: each new layer is a copy of the one before it, of
which the last matrices of attention and feed-forward are zero (stacking as in Gong et al. 2019,
"Efficient training of BERT by progressively stacking"; identity layers as in Net2Net). Training
goes on from there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor
from training.export import save

from voxtral_ros.model.config import ModelConfig
from voxtral_ros.model.loading import load_network
from voxtral_ros.model.network import VoxtralRealtime

_ZERO = ('attention.wo.weight', 'attention.wo.bias', 'feed_forward.w2.weight',
         'feed_forward.w2.bias')


def spread(n_old: int, n_new: int) -> list[tuple[int, bool]]:
    """
    Return which old layer each of the new layers is, and whether it is a copy that does nothing.

    The copies are spread evenly, from the last layer down.
    """
    layers = []
    for old in range(n_old):
        first, stop = old * n_new // n_old, (old + 1) * n_new // n_old
        layers += [(old, copy > 0) for copy in range(stop - first)]
    return layers


def deepen(state: dict[str, Tensor], old: ModelConfig, new: ModelConfig) -> dict[str, Tensor]:
    """
    Return the parameters of a deeper network that computes the same as the old one.

    :raises ValueError: the new network has fewer layers
    """
    deep = {name: tensor for name, tensor in state.items() if '.layers.' not in name}
    for part in ('encoder', 'decoder'):
        n_old, n_new = (getattr(config, part).n_layers for config in (old, new))
        if n_new < n_old:
            raise ValueError(f'the {part} has {n_old} layers, more than the {n_new} asked for')
        for number, (layer, copied) in enumerate(spread(n_old, n_new)):
            prefix = f'{part}.layers.{layer}.'
            for name, tensor in state.items():
                if name.startswith(prefix):
                    rest = name.removeprefix(prefix)
                    zero = copied and rest.endswith(_ZERO)
                    deep[f'{part}.layers.{number}.{rest}'] = tensor.mul(0) if zero else tensor
    return deep


def main(command_line: list[str] | None = None) -> None:
    """Write the checkpoint of the deeper network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--init', type=Path, required=True, help='checkpoint folder')
    parser.add_argument('--params', type=Path, required=True, help='of the deeper network')
    parser.add_argument('--out', type=Path, required=True)
    arguments = parser.parse_args(command_line)
    network = load_network(arguments.init, 'cpu', torch.float32)
    params = json.loads(arguments.params.read_text(encoding='utf-8'))
    deep = VoxtralRealtime(ModelConfig.from_params(params))
    deep.load_state_dict(deepen(network.state_dict(), network.config, deep.config))
    save(deep, params, arguments.init / 'tekken.json', arguments.out)


if __name__ == '__main__':
    main()
