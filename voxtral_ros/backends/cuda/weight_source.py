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

"""Where the CUDA network gets its weights: from a checkpoint file, packed as they are stored."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from voxtral_ros.backends.cuda.weights import pack_dense, pack_int4, pack_int8, PackedWeight
from voxtral_ros.model.config import ModelConfig
from voxtral_ros.model.names import checkpoint_name
from voxtral_ros.quantization.format import HEAD, is_half_split
from voxtral_ros.quantization.tensors import read_packed, read_weight
from voxtral_ros.quantization.weights import WeightFile

# Layers that are computed by one GEMM.
_MERGED = (('attention.wq', 'attention.wk', 'attention.wv'),
           ('feed_forward.w1', 'feed_forward.w3'))


class WeightSource(Protocol):
    """Hands out the weights of a network, each once, by their names in VoxtralRealtime."""

    device: torch.device
    dtype: torch.dtype  # of what is not packed

    def packed(self, name: str) -> PackedWeight:
        """Return the weight of a linear layer."""

    def tensor(self, name: str) -> Tensor | None:
        """Return anything else as a tensor of `dtype`, None where the network has no such."""

    def embedding(self) -> Tensor | PackedWeight:
        """Return the token embedding, [vocabulary, dim], or the INT4 head whose columns it is."""

    def half_split(self, name: str) -> bool:
        """Return whether rows of whole heads are in half-split order, see attention.attention."""


def mergeable(config: ModelConfig, weights: WeightFile) -> bool:
    """Return whether layers that share their input are stored alike, so that one GEMM does."""
    return all(
        len({weights.kind(checkpoint_name(f'{path}.layers.{n}.{name}.weight'))
             for name in names}) == 1
        for path, stack in (('encoder', config.encoder), ('decoder', config.decoder))
        for n in range(stack.n_layers) for names in _MERGED)


class CheckpointWeights:
    """
    Weights of an open checkpoint file.

    Rows of q and k stay in the order of the file, which for INT4 is not that of the network: the
    attention kernel takes both.
    """

    def __init__(self, weights: WeightFile, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self._weights = weights

    def packed(self, name: str) -> PackedWeight:
        name = checkpoint_name(name)
        kind = self._weights.kind(name)
        if kind == 'dense':
            return pack_dense(read_weight(self._weights, name, self.device, self.dtype))
        pack = pack_int4 if kind == 'int4' else pack_int8
        return pack(*read_packed(self._weights, name, self.device))

    def tensor(self, name: str) -> Tensor | None:
        name = checkpoint_name(name)
        if not self._weights.kind(name):
            return None
        return read_weight(self._weights, name, self.device, self.dtype)

    def embedding(self) -> Tensor | PackedWeight:
        if self._weights.kind(HEAD) == 'int4':
            return pack_int4(*read_packed(self._weights, HEAD, self.device))
        return read_weight(self._weights, HEAD, self.device, self.dtype)

    def half_split(self, name: str) -> bool:
        name = checkpoint_name(name)
        return self._weights.kind(name) == 'int4' and is_half_split(name)
