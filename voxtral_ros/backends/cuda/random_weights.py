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

import torch
from torch import nn
from voxtral_ros.backends.cuda.modules import KernelLinear, PackedEmbedding
from voxtral_ros.backends.cuda.weights import PackedWeight, STRIP
from voxtral_ros.model.checkpoint import native_name
from voxtral_ros.model.config import ModelConfig
from voxtral_ros.model.network import VoxtralRealtime
from voxtral_ros.quantization.format import HEAD, Recipe


def random_network(config: ModelConfig, device: torch.device, dtype: torch.dtype,
                   recipe: Recipe) -> VoxtralRealtime:
    """
    Make a network whose activations stay finite, directly on a device.

    :param recipe: what is in how many bits, as of `voxtral quantize`
    """
    with torch.device('meta'):
        network = VoxtralRealtime(config)
    network.mel.place(device)
    for name, parameter in list(network.named_parameters()):
        native = native_name(name)
        bits = recipe.bits(native)
        path, _, leaf = name.rpartition('.')
        if native == HEAD and bits == 4:
            network.decoder.tok_embeddings = PackedEmbedding(
                random_packed(4, parameter.shape, device), dtype)
            continue
        if bits < 16 and native != HEAD:
            parent, _, child = path.rpartition('.')
            packed = random_packed(bits, parameter.shape, device)
            half_split = name.startswith('decoder.')  # the same order in all of its layers
            setattr(network.get_submodule(parent), child,
                    KernelLinear(packed, half_split, config.decoder.head_dim))
            continue
        tensor = torch.empty(parameter.shape, dtype=dtype, device=device)
        if name.endswith('norm.weight'):
            tensor.fill_(1)
        else:
            tensor.normal_(std=parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.02)
        setattr(network.get_submodule(path), leaf, nn.Parameter(tensor, requires_grad=False))
    return network.eval().requires_grad_(False)


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
