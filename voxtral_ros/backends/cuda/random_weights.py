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

"""A network with random weights, packed as a checkpoint would have them: for speed and memory."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from voxtral_ros.backends.cuda.weights import pack_dense, PackedWeight, STRIP
from voxtral_ros.model.config import ModelConfig
from voxtral_ros.model.names import checkpoint_name
from voxtral_ros.model.network import VoxtralRealtime
from voxtral_ros.quantization.format import HEAD, is_half_split, Recipe


class RandomWeights:
    """Random weights of any size, directly on a device; activations stay finite."""

    def __init__(self, config: ModelConfig, recipe: Recipe, device: torch.device,
                 dtype: torch.dtype) -> None:
        """
        Note what to make.

        :param recipe: what is in how many bits, as of `voxtral quantize`
        """
        self.device, self.dtype = device, dtype
        self._recipe = recipe
        with torch.device('meta'):
            network = VoxtralRealtime(config)
        self._shapes = {name: tuple(parameter.shape)
                        for name, parameter in network.named_parameters()}

    def packed(self, name: str) -> PackedWeight:
        bits = self._recipe.bits(checkpoint_name(name))
        if bits == 16:
            return pack_dense(self._dense(name))
        return random_packed(bits, self._shapes[name], self.device)

    def tensor(self, name: str) -> Tensor | None:
        return self._dense(name) if name in self._shapes else None

    def embedding(self) -> Tensor | PackedWeight:
        name = 'decoder.tok_embeddings.weight'
        if self._recipe.bits(HEAD) == 4:
            return random_packed(4, self._shapes[name], self.device)
        return self._dense(name)

    def half_split(self, name: str) -> bool:
        name = checkpoint_name(name)
        return self._recipe.bits(name) == 4 and is_half_split(name)

    def _dense(self, name: str) -> Tensor:
        shape = self._shapes[name]
        tensor = torch.empty(shape, dtype=self.dtype, device=self.device)
        if name.endswith('norm.weight'):
            return tensor.fill_(1)
        return tensor.normal_(std=math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.02)


def random_packed(bits: int, shape: tuple[int, ...], device: torch.device) -> PackedWeight:
    """Return random codes of 4 or 8 bits for a weight [N, K] that keeps activations near 1."""
    n, k = shape
    words = torch.randint(-2 ** 31, 2 ** 31 - 1, (k * n * bits // 32,), dtype=torch.int32,
                          device=device)
    # Uniform codes have a variance of 4 ** bits / 12.
    scale = (12 / k) ** 0.5 / 2 ** bits
    scales = torch.full((k // 128, n), scale, dtype=torch.float16, device=device)
    steps = k // (16 if bits == 4 else 32)
    return PackedWeight(bits, k, n, words.view(steps, n // STRIP[bits], -1), scales)
