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

"""The convolutions before the encoder as products with packed weights: the same for any chunk."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
import torch.nn.functional as F
from voxtral_ros.backends.cuda.gemm import matmul
from voxtral_ros.backends.cuda.weights import fits, pack_dense


class PackedStem:
    """Two causal convolutions; a library's kernels for them depend on the number of frames."""

    def __init__(self, conv_layers: Any) -> None:
        """Take the weights out of CausalConv modules."""
        self._layers = []
        for layer in conv_layers:
            conv = layer.conv
            # [C', C, taps] to [C', taps * C]: the order of neighbouring frames in memory
            weight = conv.weight.data.transpose(1, 2).flatten(1)
            self._layers.append((pack_dense(weight), conv.bias.data, conv.stride[0],
                                 layer.n_past, conv.kernel_size[0]))
            layer.conv = None

    @staticmethod
    def fits(n_mels: int, dim: int, taps: int = 3) -> bool:
        """Return whether the kernels can take convolutions of these sizes."""
        return fits(taps * n_mels, dim) and fits(taps * dim, dim)

    def __call__(self, mel: Tensor, pasts: tuple[Tensor, Tensor],
                 ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """
        Convolve; as Encoder.stem.

        :param mel: [M, 128, 8n], in the type of the weights
        :param pasts: [M, C, n_past] of both convolutions
        :return: [M, 4n, dim] and the pasts of the next call
        """
        x = mel.transpose(1, 2)
        kept = []
        for (weight, bias, stride, n_past, taps), past in zip(self._layers, pasts, strict=True):
            x = torch.cat((past.transpose(1, 2), x), dim=1)  # [M, T, C]
            kept.append(x[:, -n_past:].transpose(1, 2))
            m, length, channels = x.shape
            windows = x.as_strided((m, (length - taps) // stride + 1, taps * channels),
                                   (length * channels, stride * channels, 1))
            x = F.gelu(matmul(windows.contiguous(), weight, bias))
        return x, (kept[0], kept[1])
