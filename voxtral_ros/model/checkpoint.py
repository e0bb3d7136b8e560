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
A checkpoint folder to the network: native BF16, the original INT4 file, and our extensions.

How a weight is stored is the business of voxtral_ros.quantization; weights go one by one from the
file into their final place, through a small buffer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import json
from pathlib import Path

import torch
from torch import nn
from voxtral_ros.backends.cpu.weights import native_layer
from voxtral_ros.backends.cuda.modules import packed_layer
from voxtral_ros.model.config import ModelConfig
from voxtral_ros.model.network import VoxtralRealtime
from voxtral_ros.quantization.format import check_config
from voxtral_ros.quantization.tensorfile import CheckpointError
from voxtral_ros.quantization.weights import WeightFile, WEIGHTS

__all__ = ['CheckpointError', 'load_network', 'native_name', 'native_parameters', 'open_weights']

# Prefix in the network -> prefix in the file. The first that fits counts.
_EMBEDDING = 'mm_streams_embeddings.embedding_module.'
_PREFIXES = (
    ('encoder.conv_layers.', _EMBEDDING + 'whisper_encoder.conv_layers.'),
    ('encoder.', _EMBEDDING + 'whisper_encoder.transformer.'),
    ('adapter.', _EMBEDDING + 'audio_language_projection.'),
    ('decoder.tok_embeddings.', _EMBEDDING + 'tok_embeddings.'),
    ('decoder.', ''),
)


def native_name(name: str) -> str:
    """Return the name in `consolidated.safetensors` of a parameter of VoxtralRealtime."""
    for ours, theirs in _PREFIXES:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise KeyError(name)


def native_parameters(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield every parameter of a VoxtralRealtime with its name in the file."""
    for name, parameter in network.named_parameters():
        yield native_name(name), parameter


def load_network(folder: str | Path, device: torch.device | str = 'cpu',
                 dtype: torch.dtype | None = None, window: int = 0,
                 native: bool = False) -> VoxtralRealtime:
    """
    Load the network of a checkpoint folder, ready for inference.

    :param dtype: of the weights in memory; None is the type that most of the file has
    :param window: tokens that the decoder looks back, see ModelConfig.with_window
    :param native: keep weights as small as they are, for NativePasses
    :raises ConfigError: params.json is missing or wrong
    :raises CheckpointError: the weights are missing, cut off, or not those of params.json
    """
    device = torch.device(device)
    with open_weights(folder, window) as (network, weights):
        network.mel.place(device)
        _fill(network, weights, device, dtype or weights.main_dtype, native)
    return network.eval().requires_grad_(False)


@contextmanager
def open_weights(folder: str | Path,
                 window: int = 0) -> Iterator[tuple[VoxtralRealtime, WeightFile]]:
    """
    Open the weights of a checkpoint folder for a network without memory, on the meta device.

    All names and shapes have been found to fit. Errors as of load_network.
    """
    folder = Path(folder)
    with torch.device('meta'):
        network = VoxtralRealtime(ModelConfig.load(folder).with_window(window))
    params = json.loads((folder / 'params.json').read_text(encoding='utf-8'))
    try:
        check_config(params.get('quantization_config'))
    except ValueError as error:
        raise CheckpointError(f'{folder / "params.json"}: {error}') from None
    with WeightFile(folder / WEIGHTS, network.config.decoder.head_dim) as weights:
        _compare(network, weights)
        yield network, weights


def _compare(network: nn.Module, weights: WeightFile) -> None:
    """Raise CheckpointError unless names and shapes of the file are those of the network."""
    expected = dict(native_parameters(network))
    missing, unknown = set(expected) - set(weights.stored), set(weights.stored) - set(expected)
    problems = [f'{what}: {_some(names)}'
                for what, names in (('missing', missing), ('unknown', unknown)) if names]
    if problems:
        raise CheckpointError(f'{weights.path} does not hold the tensors that params.json asks '
                              'for; ' + '; '.join(problems))
    for native, parameter in expected.items():
        shape = weights.stored[native].shape
        if shape != tuple(parameter.shape):
            raise CheckpointError(f'{weights.path}: {native} is {list(shape)}, but params.json '
                                  f'makes it {list(parameter.shape)}')


def _fill(network: nn.Module, weights: WeightFile, device: torch.device,
          dtype: torch.dtype, small: bool) -> None:
    """Put every weight into its place, or a module that keeps it packed."""
    for name, _ in list(network.named_parameters()):
        native = native_name(name)
        path, _, leaf = name.rpartition('.')
        packed = native_layer(weights, native, network.get_submodule(path)) if small \
            else packed_layer(weights, native, device, dtype)
        if packed is None:
            tensor = weights.read(native, device, dtype)
            parameter = nn.Parameter(tensor, requires_grad=False)
            setattr(network.get_submodule(path), leaf, parameter)
        else:
            parent, _, child = path.rpartition('.')
            setattr(network.get_submodule(parent), child, packed)


def _some(names: set[str], limit: int = 3) -> str:
    listed = sorted(names)
    more = f' and {len(listed) - limit} more' if len(listed) > limit else ''
    return ', '.join(listed[:limit]) + more
