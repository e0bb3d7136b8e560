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
GPTQ for encoder and decoder: codes that make up for each other's error on given inputs.

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers"
(ICLR 2023), in the format of rounding to nearest: symmetric codes -8..7, groups of 128 inputs,
fp16 scales, no reordering of inputs. What it needs and rounding to nearest does not is inputs; see
calibration.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import nn, Tensor

from voxtral_ros.model.names import checkpoint_name
from voxtral_ros.model.network import VoxtralRealtime
from voxtral_ros.quantization import marlin, rounding
from voxtral_ros.quantization.calibration import DecoderInput, EncoderInput
from voxtral_ros.quantization.format import Recipe
from voxtral_ros.quantization.quantizer import QuantizationError

# Linear layers of a block that have the same input, in the order of the computation.
_STEPS = (('attention.wq', 'attention.wk', 'attention.wv'), ('attention.wo',),
          ('feed_forward.w1', 'feed_forward.w3'), ('feed_forward.w2',))


def quantize_encoder(network: VoxtralRealtime, inputs: Sequence[EncoderInput], recipe: Recipe,
                     progress: Callable[[int], object] = lambda count: None,
                     ) -> dict[str, tuple[Tensor, Tensor]]:
    """Quantize the linear layers of the encoder that are in INT4; see quantize_decoder."""
    return _quantize(network, 'encoder', inputs, recipe, progress)


def quantize_decoder(network: VoxtralRealtime, inputs: Sequence[DecoderInput], recipe: Recipe,
                     progress: Callable[[int], object] = lambda count: None,
                     ) -> dict[str, tuple[Tensor, Tensor]]:
    """
    Quantize the linear layers of the decoder, each for the inputs that it gets.

    Inputs are those that come out of the layers before as quantized already. The weights of the
    network become the quantized ones, and `inputs` hold the outputs of the last block.

    :param network: in float32
    :param recipe: with the method gptq; says which layers, and the rule for scales
    :param progress: is called with the count of weights just done
    :return: checkpoint name -> codes int8 [N, K] and scales fp16 [N, K / 128]
    :raises QuantizationError: inputs are of no use, or a weight is not finite in fp16
    """
    return _quantize(network, 'decoder', inputs, recipe, progress)


@torch.inference_mode()
def _quantize(network: VoxtralRealtime, stack: str,
              inputs: Sequence[EncoderInput] | Sequence[DecoderInput], recipe: Recipe,
              progress: Callable[[int], object]) -> dict[str, tuple[Tensor, Tensor]]:
    layers = (network.encoder if stack == 'encoder' else network.decoder).layers
    quantized = {}
    for n, layer in enumerate(layers):
        for step in _STEPS:
            names = {checkpoint_name(f'{stack}.layers.{n}.{name}.weight'): name for name in step}
            linears = {weight_name: cast(nn.Linear, layer.get_submodule(name))
                       for weight_name, name in names.items() if recipe.is_calibrated(weight_name)}
            if not linears:
                continue
            hessian = _second_moment(layer, n, next(iter(linears.values())), inputs)
            for weight_name, linear in linears.items():
                try:
                    codes, scale = round_gptq(linear.weight, hessian, recipe.rounding)
                except ValueError as error:
                    raise QuantizationError(f'{weight_name}: {error}') from None
                linear.weight.copy_(rounding.dequantize(codes, scale))
                quantized[weight_name] = codes, scale
                progress(codes.numel())
        for given in inputs:
            given.h = given.run(layer, n)
    return quantized


def round_gptq(weight: Tensor, hessian: Tensor, rule: str = 'seed', damping: float = 0.01,
               ) -> tuple[Tensor, Tensor]:
    """
    Quantize to signed 4 bits for inputs with a given second moment.

    Input by input: round its weights to the nearest codes, then move all weights of inputs that
    are still to come to where the error of the outputs is least. The scales of a group are set
    by `rule` when its first input is reached.

    :param weight: [N, K], K a multiple of 128
    :param hessian: [K, K], sum of x x^T over the inputs x; its scale does not matter
    :param rule: see rounding.round_int4
    :param damping: share of the mean of the diagonal that is added to it
    :return: int8 [N, K] in -8..7 and fp16 [N, K / 128]
    :raises ValueError: the inputs are not finite, or all of them are zero; or as of round_int4
    """
    weight, hessian = weight.float().clone(), hessian.double().clone()
    mean = hessian.diagonal().mean()
    if not (mean.isfinite() and mean > 0):
        raise ValueError('there are no calibration inputs, or they are not finite: check the '
                         'recordings and the weights')
    hessian.diagonal().add_(damping * mean)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    # Row k: what the inputs after k take over of the error of input k, once those before are done.
    factor = torch.linalg.cholesky(inverse, upper=True).float()  # [K, K]
    codes = torch.empty(weight.shape, dtype=torch.int8)
    scales = torch.empty(len(weight), weight.shape[1] // marlin.GROUP, dtype=torch.float16)
    for group in range(scales.shape[1]):
        start, stop = group * marlin.GROUP, (group + 1) * marlin.GROUP
        block, local = weight[:, start:stop], factor[start:stop, start:stop]
        scale = rounding.round_int4(block, rule)[1]  # [N, 1]
        errors = torch.empty_like(block)
        for k in range(marlin.GROUP):
            column = _nearest(block[:, k:k + 1], scale)
            codes[:, start + k:start + k + 1] = column
            errors[:, k:k + 1] = (block[:, k:k + 1] - column * scale.float()) / local[k, k]
            block[:, k:] -= errors[:, k:k + 1] * local[k, k:]
        weight[:, stop:] -= errors @ factor[start:stop, stop:]
        scales[:, group:group + 1] = scale
    return codes, scales


def _nearest(column: Tensor, scale: Tensor) -> Tensor:
    """Return the codes, as float, of one input: what rounding.nearest does for whole groups."""
    divisor = torch.where(scale == 0, torch.inf, scale.float())
    return (column.half().float() / divisor).round_().clamp_(-8, 7)


def _second_moment(layer: nn.Module, n: int, linear: nn.Linear,
                   inputs: Sequence[EncoderInput] | Sequence[DecoderInput]) -> Tensor:
    """Return the sum of x x^T, float64 [K, K], over the inputs x of one linear layer."""
    total = torch.zeros(linear.in_features, linear.in_features, dtype=torch.float64)

    def add(module: nn.Module, arguments: tuple[Tensor]) -> None:
        x = arguments[0].flatten(0, -2).float()  # [T, K]
        total.add_(x.T @ x)

    handle = linear.register_forward_pre_hook(add)
    try:
        for given in inputs:
            given.run(layer, n)
    finally:
        handle.remove()
    return total
