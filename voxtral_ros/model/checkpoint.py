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
`consolidated.safetensors` in Mistral's native names, to and from the network.

Tensors go one by one from the file into their final place: beside the weights there is never more
than one of them in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
import torch
from torch import nn

from voxtral_ros.model.config import ModelConfig
from voxtral_ros.model.network import VoxtralRealtime

WEIGHTS = 'consolidated.safetensors'

# Prefix in the network -> prefix in the file. The first that fits counts.
_EMBEDDING = 'mm_streams_embeddings.embedding_module.'
_PREFIXES = (
    ('encoder.conv_layers.', _EMBEDDING + 'whisper_encoder.conv_layers.'),
    ('encoder.', _EMBEDDING + 'whisper_encoder.transformer.'),
    ('adapter.', _EMBEDDING + 'audio_language_projection.'),
    ('decoder.tok_embeddings.', _EMBEDDING + 'tok_embeddings.'),
    ('decoder.', ''),
)


class CheckpointError(ValueError):
    """A weights file that does not fit the network; the message says what and what to do."""


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
                 dtype: torch.dtype | None = None) -> VoxtralRealtime:
    """
    Load the network of a checkpoint folder, ready for inference.

    :param dtype: of the weights in memory; None keeps the type of the file
    :raises ConfigError: params.json is missing or wrong
    :raises CheckpointError: the weights are missing, cut off, or not those of params.json
    """
    path = Path(folder) / WEIGHTS
    with torch.device('meta'):
        network = VoxtralRealtime(ModelConfig.load(folder))
    network.mel.place(device)
    try:
        with _open(path) as file:
            _fill(network, file, path, torch.device(device), dtype)
    except SafetensorError as error:
        raise CheckpointError(f'{path}: {error}; {_explain(path)}') from error
    return network.eval().requires_grad_(False)


def _open(path: Path) -> safe_open:
    if not path.is_file():
        raise CheckpointError(f'{path} does not exist: a model is a folder with params.json, '
                              f'tekken.json and {WEIGHTS}')
    return safe_open(str(path), framework='pt')


def _fill(network: VoxtralRealtime, file: safe_open, path: Path, device: torch.device,
          dtype: torch.dtype | None) -> None:
    expected = dict(native_parameters(network))
    present = set(file.keys())
    problems = [f'missing: {_some(set(expected) - present)}'] if set(expected) - present else []
    if present - set(expected):
        problems.append(f'unknown: {_some(present - set(expected))}')
    if problems:
        raise CheckpointError(f'{path} does not hold the tensors that params.json asks for; '
                              + '; '.join(problems))
    for name, parameter in network.named_parameters():
        native = native_name(name)
        shape = file.get_slice(native).get_shape()
        if list(shape) != list(parameter.shape):
            raise CheckpointError(f'{path}: {native} is {list(shape)}, but params.json makes it '
                                  f'{list(parameter.shape)}')
        tensor = file.get_tensor(native)
        if not tensor.is_floating_point():
            raise CheckpointError(f'{path}: {native} is {tensor.dtype}, expected floating point')
        # copy=True: the tensor must not keep the mapped file alive
        tensor = tensor.to(device, dtype or tensor.dtype, copy=True)
        _assign(network, name, tensor)


def _assign(network: nn.Module, name: str, tensor: torch.Tensor) -> None:
    owner, _, leaf = name.rpartition('.')
    setattr(network.get_submodule(owner), leaf, nn.Parameter(tensor, requires_grad=False))


def _some(names: set[str], limit: int = 3) -> str:
    listed = sorted(names)
    more = f' and {len(listed) - limit} more' if len(listed) > limit else ''
    return ', '.join(listed[:limit]) + more


def _explain(path: Path) -> str:
    """Say what a file that safetensors refuses probably is."""
    size = path.stat().st_size
    with path.open('rb') as file:
        start = file.read(8)
        length = int.from_bytes(start, 'little')
        if start.startswith((b'PK', b'\x80')):
            return 'this is a pickle, which is never loaded: convert it to safetensors'
        if size < 9 or file.read(1) != b'{' or length > 100_000_000:
            return 'this is not a safetensors file'
        file.seek(8)
        header = file.read(length)
    try:
        ends = [entry['data_offsets'][1] for key, entry in json.loads(header).items()
                if key != '__metadata__']
    except (ValueError, KeyError, TypeError, AttributeError):
        return 'its header is damaged or cut off: download the file again'
    expected = 8 + length + max(ends, default=0)
    return f'it has {size} of {expected} bytes: the download was cut off, fetch it again' \
        if size < expected else 'its header is damaged: download the file again'
