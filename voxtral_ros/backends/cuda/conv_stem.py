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

"""The convolutions before the encoder as GEMMs with packed weights: the same for any chunk."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
import torch.nn.functional as F

from voxtral_ros.backends.cuda.gemm import gemm
from voxtral_ros.backends.cuda.weights import fits, pack_dense, PackedWeight

_TAPS, _STRIDES = 3, (1, 2)


@dataclass(frozen=True)
class _Conv:
    weight: PackedWeight
    bias: Tensor
    stride: int


class ConvStem:
    """Two causal convolutions; a library's kernels for them depend on the number of frames."""

    def __init__(self, layers: list[tuple[Tensor, Tensor]]) -> None:
        """Take weight, [C', C, taps], and bias of both convolutions."""
        # [C', C, taps] to [C', taps * C]: the order of neighbouring frames in memory
        self._layers = [_Conv(pack_dense(weight.transpose(1, 2).flatten(1)), bias, stride)
                        for (weight, bias), stride in zip(layers, _STRIDES, strict=True)]

    @staticmethod
    def fits(n_mels: int, dim: int) -> bool:
        """Return whether the kernels can take convolutions of these sizes."""
        return fits(_TAPS * n_mels, dim) and fits(_TAPS * dim, dim)

    @property
    def nbytes(self) -> int:
        return sum(layer.weight.nbytes for layer in self._layers)

    def __call__(self, mel: Tensor, conv_state: tuple[Tensor, ...],
                 ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """
        Convolve; as the convolutions of model.encoder.Encoder.

        :param mel: [M, 128, 8n], in the type of the weights
        :param conv_state: [M, C, left context] of both convolutions
        :return: [M, 4n, dim] and the conv_state for the next call
        """
        x = mel.transpose(1, 2)
        new = []
        for layer, state in zip(self._layers, conv_state, strict=True):
            x = torch.cat((state.transpose(1, 2), x), dim=1)  # [M, T, C]
            new.append(x[:, -state.shape[2]:].transpose(1, 2))
            m, length, channels = x.shape
            windows = x.as_strided((m, (length - _TAPS) // layer.stride + 1, _TAPS * channels),
                                   (length * channels, layer.stride * channels, 1))
            x = F.gelu(gemm(windows.contiguous(), layer.weight, layer.bias))
        return x, tuple(new)
