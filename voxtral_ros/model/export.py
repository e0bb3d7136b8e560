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
A dense checkpoint in Mistral's layout, for other programs, from any that is read here.

Weights go in blocks of rows from the one file to the other, dequantized where they are quantized:
there is never a whole one in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from voxtral_ros.model.checkpoint import open_weights
from voxtral_ros.model.layout import find_layout, Layout
from voxtral_ros.model.tokenizer import Tokenizer
from voxtral_ros.quantization import rounding
from voxtral_ros.quantization.output import check_output, new_weights, write_small_files
from voxtral_ros.quantization.tensorfile import Spec, TensorWriter
from voxtral_ros.quantization.tensors import as_array, NAMES, read_codes, read_rows
from voxtral_ros.quantization.weights import row_blocks, WeightFile

# What params.json says of how weights are stored: dense ones need no word.
_OF_QUANTIZED = ('quantization_config', 'quantization')


class ExportError(ValueError):
    """A checkpoint that cannot be exported like that; the message says what to do."""


def export(model_dir: str | Path, output_dir: str | Path, dtype: torch.dtype = torch.bfloat16,
           progress: Callable[[int], object] = lambda count: None) -> int:
    """
    Write a checkpoint folder as a new one with dense weights.

    :param model_dir: a folder that load_network accepts
    :param dtype: of all weights in the result
    :param progress: is called with the count of weights just done
    :return: bytes of the weights
    :raises ConfigError, TokenizerError, CheckpointError: the source is not usable, or not what
        its checksums say
    :raises ExportError: a weight is beyond the range of `dtype`
    :raises OutputError: the folder has weights already, or too little space
    :raises OSError: the result cannot be written
    """
    folder = Path(output_dir)
    check_output(folder)
    with open_weights(model_dir, verify=True) as (config, weights):
        Tokenizer.load(model_dir, config.vocab_size)
        params, tekken = _small_files(find_layout(model_dir))
        specs = {weight_name: Spec(NAMES[dtype], stored.shape)
                 for weight_name, stored in weights.stored.items()}
        nbytes = sum(spec.nbytes for spec in specs.values())
        with new_weights(folder, nbytes) as path:
            with TensorWriter(path, specs, with_checksums=True) as writer:
                for weight_name in specs:
                    for start, block in _blocks(weights, weight_name):
                        rows = _converted(weight_name, block, dtype)
                        writer.write(weight_name, as_array(rows), start)
                        progress(rows.numel())
                writer.sync()
            weights.check()
            write_small_files(folder, params, tekken)
    return nbytes


def _small_files(layout: Layout) -> tuple[dict[str, Any], bytes]:
    """Return `params.json`, for weights that are not quantized, and the bytes of `tekken.json`."""
    params = layout.params()
    dense = {key: value for key, value in params.items() if key not in _OF_QUANTIZED}
    if longest := params.get('model_max_length'):
        dense.setdefault('max_position_embeddings', longest)  # by which name vLLM looks for it
    return dense, (layout.folder / 'tekken.json').read_bytes()


def _blocks(weights: WeightFile, weight_name: str) -> Iterator[tuple[int, Tensor]]:
    """Yield a weight in blocks of rows, as floating point: number of the first row, they."""
    stored = weights.stored[weight_name]
    if stored.kind == 'dense':
        for start, stop in row_blocks(stored.shape):
            yield start, read_rows(weights, weight_name, start, stop)
    else:
        for start, codes, scale in read_codes(weights, weight_name):
            yield start, rounding.dequantize(codes, scale)


def _converted(weight_name: str, block: Tensor, dtype: torch.dtype) -> Tensor:
    rows = block.to(dtype)
    if not torch.equal(rows.isfinite(), block.isfinite()):
        kind = str(dtype).removeprefix('torch.')
        raise ExportError(f'{weight_name} has numbers beyond the range of {kind}: take bfloat16 '
                          'or float32')
    return rows
