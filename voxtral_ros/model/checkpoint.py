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
A checkpoint folder, opened: Mistral's BF16, the original INT4 file, our extensions, and others'.

How a weight is stored is the business of voxtral_ros.quantization. Backends that keep weights as
they are stored read them here; for the network in PyTorch, all dense, see loading.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import logging
from pathlib import Path

from voxtral_ros.model.config import ModelConfig
from voxtral_ros.model.layout import find_layout, WEIGHTS
from voxtral_ros.model.names import checkpoint_name
from voxtral_ros.model.protocol import load_protocol
from voxtral_ros.model.shapes import weight_shapes
from voxtral_ros.quantization.format import check_config
from voxtral_ros.quantization.tensorfile import CheckpointError
from voxtral_ros.quantization.weights import WeightFile

__all__ = [
    'WEIGHTS', 'CheckpointError', 'check_folder', 'checkpoint_name', 'open_weights']

_LOGGER = logging.getLogger(__name__)
_FEW_LAYERS = 100  # of which what is missing is named


@contextmanager
def open_weights(folder: str | Path, window: int = 0,
                 verify: bool = False) -> Iterator[tuple[ModelConfig, WeightFile]]:
    """
    Open the weights of a checkpoint folder; all names and shapes have been found to fit.

    :param window: tokens that the decoder looks back, see ModelConfig.with_window
    :param verify: compare weights that are read with their checksums, if they have any; what is
        damaged is an error on leaving, if not before
    :raises ConfigError: params.json, or config.json, is missing or wrong
    :raises CheckpointError: the weights are missing, cut off, damaged, or not those of
        params.json
    """
    layout = find_layout(folder)
    config = ModelConfig.of_layout(layout).with_window(window)
    params = layout.params()
    try:
        check_config(params)
    except ValueError as error:
        raise CheckpointError(f'{layout.config}: {error}') from None
    if layout.others:
        _LOGGER.info('%s has the model twice: %s is read, not %s', layout.folder,
                     layout.weights[0].name, layout.others[0].name)
    with layout.open(params, verify) as weights:
        _compare(config, weights, layout.config.name)
        yield config, weights
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


def _compare(config: ModelConfig, weights: WeightFile, asked_by: str) -> None:
    """Raise CheckpointError unless names and shapes of the file are those of the network."""
    n_layers = config.encoder.n_layers + config.decoder.n_layers
    other = f'{weights.path} does not hold the tensors that {asked_by} asks for'
    if n_layers > max(_FEW_LAYERS, len(weights.stored)):
        raise CheckpointError(f'{other}: it has {len(weights.stored)} weights, but "n_layers" of '
                              f'encoder and decoder are {n_layers}')
    expected = {checkpoint_name(name): shape for name, shape in weight_shapes(config).items()}
    missing, unknown = set(expected) - set(weights.stored), set(weights.stored) - set(expected)
    problems = [f'{what}: {_some(names)}'
                for what, names in (('missing', missing), ('unknown', unknown)) if names]
    if problems:
        raise CheckpointError(f'{other}; ' + '; '.join(problems))
    for name, shape in expected.items():
        found = weights.stored[name].shape
        if found != shape:
            raise CheckpointError(f'{weights.path}: {name} is {list(found)}, but {asked_by} '
                                  f'makes it {list(shape)}')


def _some(names: set[str], limit: int = 3) -> str:
    listed = sorted(names)
    more = f' and {len(listed) - limit} more' if len(listed) > limit else ''
    return ', '.join(listed[:limit]) + more
