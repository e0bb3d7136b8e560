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
A checkpoint folder to the network: Mistral's BF16, the original INT4 file, and our extensions.

How a weight is stored is the business of voxtral_ros.quantization; weights go one by one from the
file into their final place, through a small buffer. Here every weight becomes dense; backends that
keep weights packed read them from the same file under the same names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from voxtral_ros.model.config import ConfigError, ModelConfig
from voxtral_ros.model.folder import read_json, why_missing
from voxtral_ros.model.names import checkpoint_name
from voxtral_ros.model.network import VoxtralRealtime
from voxtral_ros.model.protocol import load_protocol
from voxtral_ros.quantization.format import check_config
from voxtral_ros.quantization.tensorfile import CheckpointError
from voxtral_ros.quantization.weights import WeightFile, WEIGHTS

__all__ = [
    'WEIGHTS', 'CheckpointError', 'check_folder', 'checkpoint_name', 'checkpoint_parameters',
    'load_network', 'open_weights']

_FEW_LAYERS = 100  # are built at once, for a better message


def checkpoint_parameters(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield every parameter of a VoxtralRealtime with its name in the file."""
    for name, parameter in network.named_parameters():
        yield checkpoint_name(name), parameter


def load_network(folder: str | Path, device: torch.device | str = 'cpu',
                 dtype: torch.dtype | None = None, window: int = 0,
                 verify: bool = True) -> VoxtralRealtime:
    """
    Load the network of a checkpoint folder, ready for inference; weights are dequantized.

    :param dtype: of the weights in memory; None is the type that most of the file has
    :param window: tokens that the decoder looks back, see ModelConfig.with_window
    :param verify: compare the weights with their checksums, if they have any
    :raises ConfigError: params.json is missing or wrong
    :raises CheckpointError: the weights are missing, cut off, damaged, or not those of
        params.json
    """
    device = torch.device(device)
    with open_weights(folder, window, verify) as (network, weights):
        network.mel.place(device)
        _fill(network, weights, device, dtype or weights.main_dtype)
    return network.eval().requires_grad_(False)


@contextmanager
def open_weights(folder: str | Path, window: int = 0,
                 verify: bool = False) -> Iterator[tuple[VoxtralRealtime, WeightFile]]:
    """
    Open the weights of a checkpoint folder for a network without memory, on the meta device.

    All names and shapes have been found to fit. Errors as of load_network.

    :param verify: compare weights that are read with their checksums; what is damaged is an error
        on leaving, if not before
    """
    folder = Path(folder)
    config = ModelConfig.load(folder).with_window(window)
    params = read_json(folder / 'params.json', ConfigError)
    try:
        check_config(params)
    except ValueError as error:
        raise CheckpointError(f'{folder / "params.json"}: {error}') from None
    if not (folder / WEIGHTS).exists():
        raise CheckpointError(why_missing(folder / WEIGHTS))
    with WeightFile(folder / WEIGHTS, config.decoder.head_dim, verify) as weights:
        _check_layers(config, weights)
        with torch.device('meta'):
            network = VoxtralRealtime(config)
        _compare(network, weights)
        yield network, weights
        weights.check()


def check_folder(folder: str | Path) -> None:
    """
    Check all of a model that can be checked without reading its weights.

    :raises ConfigError, TokenizerError, CheckpointError: it is not usable
    """
    config = ModelConfig.load(folder)
    load_protocol(folder, config)
    with open_weights(folder):
        pass


def _check_layers(config: ModelConfig, weights: WeightFile) -> None:
    """Raise CheckpointError before a network is built of many more layers than there are."""
    n_layers = config.encoder.n_layers + config.decoder.n_layers
    if n_layers > max(_FEW_LAYERS, len(weights.stored)):
        raise CheckpointError(f'{weights.path} does not hold the tensors that params.json asks '
                              f'for: it has {len(weights.stored)} weights, but "n_layers" of '
                              f'encoder and decoder are {n_layers}')


def _compare(network: nn.Module, weights: WeightFile) -> None:
    """Raise CheckpointError unless names and shapes of the file are those of the network."""
    expected = dict(checkpoint_parameters(network))
    missing, unknown = set(expected) - set(weights.stored), set(weights.stored) - set(expected)
    problems = [f'{what}: {_some(names)}'
                for what, names in (('missing', missing), ('unknown', unknown)) if names]
    if problems:
        raise CheckpointError(f'{weights.path} does not hold the tensors that params.json asks '
                              'for; ' + '; '.join(problems))
    for name, parameter in expected.items():
        shape = weights.stored[name].shape
        if shape != tuple(parameter.shape):
            raise CheckpointError(f'{weights.path}: {name} is {list(shape)}, but params.json '
                                  f'makes it {list(parameter.shape)}')


def _fill(network: nn.Module, weights: WeightFile, device: torch.device,
          dtype: torch.dtype) -> None:
    """Put every weight into its place."""
    for name, _ in list(network.named_parameters()):
        path, _, leaf = name.rpartition('.')
        tensor = weights.read(checkpoint_name(name), device, dtype)
        parameter = nn.Parameter(tensor, requires_grad=False)
        setattr(network.get_submodule(path), leaf, parameter)


def _some(names: set[str], limit: int = 3) -> str:
    listed = sorted(names)
    more = f' and {len(listed) - limit} more' if len(listed) > limit else ''
    return ', '.join(listed[:limit]) + more
