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
A checkpoint to the network in PyTorch: weights go one by one from the file into their final place.

Here every weight becomes dense.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from voxtral_ros.model.checkpoint import open_weights
from voxtral_ros.model.config import ModelConfig
from voxtral_ros.model.names import checkpoint_name
from voxtral_ros.model.network import VoxtralRealtime
from voxtral_ros.quantization.tensors import read_weight, TORCH_DTYPES
from voxtral_ros.quantization.weights import WeightFile


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
    :raises ConfigError, CheckpointError: see open_weights
    """
    with open_weights(folder, window, verify) as (config, weights):
        return read_network(config, weights, torch.device(device), dtype)


def read_network(config: ModelConfig, weights: WeightFile, device: torch.device,
                 dtype: torch.dtype | None = None) -> VoxtralRealtime:
    """Read all weights of an open checkpoint into a network; see load_network."""
    with torch.device('meta'):
        network = VoxtralRealtime(config)
    network.mel.place(device)
    dtype = dtype or TORCH_DTYPES[weights.main_dtype]
    for name, _ in list(network.named_parameters()):
        path, _, leaf = name.rpartition('.')
        tensor = read_weight(weights, checkpoint_name(name), device, dtype)
        parameter = nn.Parameter(tensor, requires_grad=False)
        setattr(network.get_submodule(path), leaf, parameter)
    return network.eval().requires_grad_(False)
