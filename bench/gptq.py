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
GPTQ for the decoder of a checkpoint: codes that make up for each other's error on given inputs.

    python bench/gptq.py --model-dir NATIVE --output-dir DIR --calibration TSV \
        [--rounding mse] [--encoder-bits 8] [--head-bits 8]

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers"
(ICLR 2023), in the format of `voxtral quantize`: symmetric codes -8..7, groups of 128 inputs, fp16
scales, no reordering of inputs. What it needs and rounding to nearest does not is inputs: here
those of the streaming decoder, from recordings in a table with the columns file and text.
bench/quantization.py compares it with rounding to nearest.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
import json
from pathlib import Path
import shutil
import sys

from safetensors.torch import load_file
import torch
from torch import nn, Tensor
from tqdm import tqdm
from voxtral_ros.evaluation.manifest import read_manifest, sample
from voxtral_ros.model.checkpoint import load_network, native_name
from voxtral_ros.model.layers import Attend, banded_attention, Rotation, rotation
from voxtral_ros.model.network import VoxtralRealtime
from voxtral_ros.model.protocol import Protocol
from voxtral_ros.model.tokenizer import Tokenizer
from voxtral_ros.quantization import marlin, rounding
from voxtral_ros.quantization.format import int4_names, is_rotated, Recipe
from voxtral_ros.quantization.quantizer import quantize
from voxtral_ros.quantization.tensorfile import Spec, TensorWriter
from voxtral_ros.quantization.weights import half_split, WEIGHTS

# Linear layers of a block that see the same input, in the order of the computation.
_STEPS = (('attention.wq', 'attention.wk', 'attention.wv'), ('attention.wo',),
          ('feed_forward.w1', 'feed_forward.w3'), ('feed_forward.w2',))

Rounded = dict[str, tuple[Tensor, Tensor]]  # native name -> codes int8 [N, K], scales [N, K / 128]


@dataclass
class Sequence:
    """What the decoder is given for one sequence of T positions."""

    h: Tensor  # [1, T, dim]; becomes the output of each block in turn
    scales: Tensor  # [n_layers, 1, dim], of the feed-forward inputs; ones: no delay conditioning
    angles: Rotation
    attend: Attend


def sequence(network: VoxtralRealtime, h: Tensor, delay: int | None) -> Sequence:
    """
    Return a sequence of the decoder.

    :param h: [T, dim], what the first block is given
    :param delay: tokens; None leaves out the conditioning
    """
    config = network.config.decoder
    scales = network.decoder.delay_scales(torch.tensor([delay or 0]))
    position = torch.arange(len(h))[None]
    return Sequence(
        h[None], torch.ones_like(scales) if delay is None else scales,
        rotation(position, config.head_dim, config.rope_theta),
        banded_attention(len(h), config.sliding_window, h.device))


def stream_inputs(network: VoxtralRealtime, protocol: Protocol, audio: Tensor, tokens: Tensor,
                  delay: int) -> Tensor:
    """Return what the first block is given, [T, dim], in a stream that writes `tokens`."""
    given = torch.cat((torch.tensor(protocol.prompt(delay)), tokens[:-1]))
    return audio + network.decoder.tok_embeddings(given)


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
    :raises ValueError: the inputs are not finite, or all of them are zero
    """
    weight, hessian = weight.float().clone(), hessian.double().clone()
    mean = hessian.diagonal().mean()
    if not (mean.isfinite() and mean > 0):
        raise ValueError('there are no calibration inputs, or they are not finite')
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


def calibrate(network: VoxtralRealtime, sequences: list[Sequence], rule: str = 'seed',
              progress: Callable[[], object] = lambda: None) -> Rounded:
    """
    Quantize all linear layers of the decoder, each for the inputs that it gets in `sequences`.

    Inputs are those that come out of the layers before as quantized already. The weights of the
    network become the quantized ones, and `sequences` hold the outputs of the last block.
    """
    rounded: Rounded = {}
    for n, layer in enumerate(network.decoder.layers):
        for step in _STEPS:
            hessian = _second_moment(layer, n, layer.get_submodule(step[0]), sequences)
            for name in step:
                linear = layer.get_submodule(name)
                codes, scale = round_gptq(linear.weight, hessian, rule)
                linear.weight.copy_(rounding.dequantize(codes, scale))
                rounded[native_name(f'decoder.layers.{n}.{name}.weight')] = codes, scale
                progress()
        for given in sequences:
            given.h = _run(layer, n, given)
    return rounded


def _run(layer: nn.Module, n: int, given: Sequence) -> Tensor:
    out: Tensor = layer(given.h, given.scales[n][:, None], given.angles, given.attend)
    return out


def _second_moment(layer: nn.Module, n: int, linear: nn.Module, sequences: list[Sequence],
                   ) -> Tensor:
    """Return the sum of x x^T, float64 [K, K], over the inputs x of one linear layer."""
    total = torch.zeros(linear.in_features, linear.in_features, dtype=torch.float64)

    def add(module: nn.Module, inputs: tuple[Tensor]) -> None:
        x = inputs[0].flatten(0, -2).float()  # [T, K]
        total.add_(x.T @ x)

    handle = linear.register_forward_pre_hook(add)
    try:
        for given in sequences:
            _run(layer, n, given)
    finally:
        handle.remove()
    return total


def write(model_dir: Path, output_dir: Path, rounded: Rounded, recipe: Recipe, head_dim: int,
          ) -> None:
    """Write a checkpoint with these codes in the decoder, and the rest as the recipe says."""
    with_rtn = output_dir / 'rtn'
    quantize(model_dir, with_rtn, recipe)
    tensors = load_file(with_rtn / WEIGHTS)
    for native, (codes, scale) in rounded.items():
        words_name, scales_name = int4_names(native)
        if is_rotated(native):
            codes, scale = (half_split(part, head_dim) for part in (codes, scale))
        tensors[words_name] = marlin.pack((codes + marlin.ZERO).to(torch.uint8).T)
        tensors[scales_name] = marlin.permute_scales(scale.T).contiguous()
    params = json.loads((with_rtn / 'params.json').read_text(encoding='utf-8'))
    params['quantization_config']['quant_method'] = 'gptq'
    (output_dir / 'params.json').write_text(json.dumps(params, indent=2), encoding='utf-8')
    shutil.copy(with_rtn / 'tekken.json', output_dir)
    specs = {name: Spec(tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    with TensorWriter(output_dir / WEIGHTS, specs) as writer:
        for name, tensor in tensors.items():
            writer.write(name, tensor)
    shutil.rmtree(with_rtn)


def main() -> None:
    sys.path.append(str(Path(__file__).parent))
    import token_streams as streams
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--model-dir', type=Path, required=True, help='a checkpoint in BF16')
    parser.add_argument('--output-dir', type=Path, required=True)
    parser.add_argument('--calibration', type=Path, required=True, metavar='TSV')
    parser.add_argument('--count', type=int, default=60, help='recordings to take [60]')
    parser.add_argument('--delays-ms', type=float, nargs='+', default=[480, 240, 480, 960, 80],
                        metavar='MS', help='delays of the recordings, in turns')
    parser.add_argument('--rounding', choices=rounding.RULES, default='mse', help='[mse]')
    parser.add_argument('--encoder-bits', type=int, choices=(16, 8), default=16, help='[16]')
    parser.add_argument('--head-bits', type=int, choices=(16, 8, 4), default=16, help='[16]')
    arguments = parser.parse_args()
    if (arguments.output_dir / WEIGHTS).exists():
        raise SystemExit(f'{arguments.output_dir / WEIGHTS} exists: give another folder')
    torch.set_num_threads(1)
    network = load_network(arguments.model_dir, dtype=torch.float32)
    tokenizer = Tokenizer.load(arguments.model_dir, network.config.vocab_size)
    protocol = Protocol(tokenizer, network.config.audio)
    delays = [protocol.delay_tokens(delay) for delay in arguments.delays_ms]
    recordings = sample(read_manifest(arguments.calibration), arguments.count)
    sequences = []
    progress = tqdm(total=len(delays) + 7 * network.config.decoder.n_layers)
    with torch.inference_mode():
        for n, delay in enumerate(delays):
            samples = (recording.samples() for recording in recordings[n::len(delays)])
            embeddings = streams.embed(network, protocol, samples, delay)
            written = streams.generate(network, protocol, embeddings, delay)
            sequences += [
                sequence(network, stream_inputs(network, protocol, audio, tokens, delay), delay)
                for audio, tokens in zip(embeddings, written, strict=True)]
            progress.update()
        rounded = calibrate(network, sequences, arguments.rounding, progress.update)
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(arguments.rounding, arguments.encoder_bits, arguments.head_bits)
    write(arguments.model_dir, arguments.output_dir, rounded, recipe,
          network.config.decoder.head_dim)


if __name__ == '__main__':
    main()
