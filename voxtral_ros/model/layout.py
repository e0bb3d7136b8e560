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
Where in a folder a model is, and in which layout: Mistral's or Hugging Face's, whole or in shards.

    params.json   consolidated.safetensors   consolidated-00001-of-00002.safetensors ...
    config.json   model.safetensors          model-00001-of-00002.safetensors ...

The tokenizer is tekken.json in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import os
from pathlib import Path
import re
from typing import Any

from voxtral_ros.model.folder import ConfigError, read_json, snapshot_of, why_missing
from voxtral_ros.model.hugging_face import params_of
from voxtral_ros.quantization.hugging_face import HuggingFaceTensors
from voxtral_ros.quantization.shards import ShardedFile
from voxtral_ros.quantization.tensorfile import CheckpointError, TensorFile, TensorSource
from voxtral_ros.quantization.weights import WeightFile, WEIGHTS

__all__ = ['WEIGHTS', 'Layout', 'find_layout']

_NATIVE, _HUGGING_FACE = 'consolidated', 'model'  # how their files of weights begin


@dataclass(frozen=True)
class Layout:
    """Where the files of a model are; that they are there and whole is not said."""

    folder: Path
    config: Path  # params.json or config.json
    weights: tuple[Path, ...]  # the file, or its shards
    index: Mapping[str, str] | None = None  # tensor -> name of its shard
    others: tuple[Path, ...] = ()  # weights in the other layout, which are not used

    def params(self) -> dict[str, Any]:
        """
        Read what `params.json` says, or what it would say in place of `config.json`.

        :raises ConfigError: the file is missing, or describes another network
        """
        content = read_json(self.config, ConfigError)
        if self.config.name == 'params.json':
            return content
        try:
            return params_of(content)
        except ValueError as error:
            raise ConfigError(f'{self.config}: {error}') from None

    def open(self, params: Mapping[str, Any], verify: bool = False) -> WeightFile:  # noqa: A003
        """
        Open the weights.

        :param params: of this model, usable
        :param verify: compare what is read with checksums; see TensorFile
        :raises CheckpointError: they are missing, damaged, or in a format we do not know
        """
        source = self._source(verify)
        try:
            if self.weights[0].name.startswith(_HUGGING_FACE):
                encoder = params['multimodal']['whisper_model_args']['encoder_args']
                source = HuggingFaceTensors(source, encoder['head_dim'], params['head_dim'])
            return WeightFile(source, params['head_dim'])
        except BaseException:
            source.close()
            raise

    def _source(self, verify: bool) -> TensorSource:
        for path in self.weights:
            if not path.exists():
                raise CheckpointError(why_missing(path))
        if len(self.weights) == 1 and self.index is None:
            return TensorFile(self.weights[0], verify)
        return ShardedFile(self.weights, self.index, verify)


def find_layout(folder: str | Path) -> Layout:
    """
    Find out in which layout a folder has a model; Mistral's if it has both or none.

    A cache of Hugging Face stands for the newest model in it.

    :raises CheckpointError: it has shards, but not all of them
    """
    folder = snapshot_of(Path(folder))
    params, config = folder / 'params.json', folder / 'config.json'
    native, native_index = _weights(folder, _NATIVE)
    other, other_index = _weights(folder, _HUGGING_FACE)
    if native:
        return Layout(folder, params, native, native_index, other)
    if other:
        described_by = params if params.exists() and not config.exists() else config
        return Layout(folder, described_by, other, other_index)
    if config.exists() and not params.exists():  # without weights; the error names them
        return Layout(folder, config, (folder / f'{_HUGGING_FACE}.safetensors',))
    return Layout(folder, params, (folder / WEIGHTS,))


def _weights(folder: Path, stem: str) -> tuple[tuple[Path, ...], dict[str, str] | None]:
    """Return the files of weights that begin with `stem`, and their index; nothing: ()."""
    whole = folder / f'{stem}.safetensors'
    if os.path.lexists(whole):
        return (whole,), None
    index = folder / f'{stem}.safetensors.index.json'
    if os.path.lexists(index):
        weight_map = _weight_map(index)
        return tuple(sorted({folder / name for name in weight_map.values()})), weight_map
    found = {}
    for path in sorted(folder.glob(f'{stem}-*-of-*.safetensors')):
        if match := re.fullmatch(stem + r'-(\d+)-of-(\d+)\.safetensors', path.name):
            found[int(match[1]), int(match[2])] = path
    counts = {count for _, count in found}
    if len(counts) > 1:
        names = ' and '.join(found[key].name for key in (min(found), max(found)))
        raise CheckpointError(f'{folder} has shards of several models, as {names}: give each a '
                              'folder of its own')
    for count in counts:
        for number in range(1, count + 1):
            if (number, count) not in found:
                raise CheckpointError(
                    f'{folder} has {len(found)} of the {count} shards of its weights, number '
                    f'{number} is missing: download the others')
    return tuple(found.values()), None


def _weight_map(index: Path) -> dict[str, str]:
    """Return which tensor is in which file."""
    found = read_json(index, CheckpointError).get('weight_map')
    if not isinstance(found, dict) or not found:
        raise CheckpointError(f'{index} has no "weight_map": download the file again')
    for name in found.values():
        if not isinstance(name, str) or not re.fullmatch(r'[\w.-]+\.safetensors', name):
            raise CheckpointError(f'{index} has weights in {repr(name)[:40]}, which is no '
                                  'safetensors file beside it: download the index again')
    return found
