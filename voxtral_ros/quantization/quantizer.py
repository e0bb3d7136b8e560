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
The quantizer: a dense checkpoint becomes a smaller one, tensor by tensor.

Neither source nor result is ever in memory as a whole; the most there is of either is the packed
form of one weight. The result gets its final name when it is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voxtral_ros.model.layout import find_layout
from voxtral_ros.quantization import marlin, rounding
from voxtral_ros.quantization.format import int4_names, int8_names, is_half_split, Recipe
from voxtral_ros.quantization.output import check_output, new_weights, write_small_files
from voxtral_ros.quantization.parallel import Workers
from voxtral_ros.quantization.tensorfile import DTYPES, Spec, TensorFile, TensorWriter
from voxtral_ros.quantization.tensors import as_array, read_codes, read_rows, TORCH_DTYPES
from voxtral_ros.quantization.weights import half_split, row_blocks, row_unit, WeightFile

_BLOCK = 1 << 18  # weights that one core rounds at once: what it computes stays in its cache
_READ = 1 << 22  # weights that are read at once: short reads are slow on many disks
# Checkpoint name -> codes int8 [N, K] and scales fp16 [N, K / 128] of whole weights.
Codes = Mapping[str, tuple[Tensor, Tensor]]
_Part = tuple[float, float]  # of a block: sum of squared error, sum of squared weight


class QuantizationError(ValueError):
    """A checkpoint that cannot be quantized like that; the message says what to do."""


@dataclass(frozen=True)
class Record:
    """What became of a tensor."""

    name: str  # checkpoint name
    bits: int
    shape: tuple[int, ...]
    nbytes: int  # in the result, scales included
    relative_error: float  # root of sum (w' - w)^2 / sum w^2


@dataclass(frozen=True)
class _Item:
    """What is to become of a tensor."""

    weight_name: str
    bits: int
    shape: tuple[int, ...]
    specs: dict[str, Spec]  # of the tensors in the result: the weight, or codes and scales


def quantize(model_dir: str | Path, output_dir: str | Path, recipe: Recipe, verify: bool = False,
             progress: Callable[[int], object] = lambda count: None,
             calibrated: Callable[[], Codes] | None = None) -> list[Record]:
    """
    Quantize a dense checkpoint folder into a new one.

    :param model_dir: a folder that load_network accepts
    :param verify: read the result back and compare it with the source before it gets its name
    :param progress: is called with the count of weights just done; `verify` goes through all
        of them once more
    :param calibrated: returns codes and scales of the weights that the recipe does not round
        (see Recipe.is_calibrated); called when all else is known to be in order
    :return: one record per tensor, in the order of the source
    :raises CheckpointError: the source is not usable, or not what its checksums say
    :raises QuantizationError: it cannot be quantized that way
    :raises OutputError: the folder has weights already, or too little space
    :raises OSError: the result cannot be written
    """
    source_dir, target_dir = Path(model_dir), Path(output_dir)
    check_output(target_dir)
    if (recipe.method == 'gptq') != (calibrated is not None):
        raise QuantizationError('codes are calibrated where the method is gptq, and only there')
    layout = find_layout(source_dir)
    params = layout.params()
    tekken = (layout.folder / 'tekken.json').read_bytes()
    with layout.open(params, verify=True) as source:
        job = _Job(source, recipe, params['head_dim'], progress)
        with new_weights(target_dir, job.nbytes) as partial:
            if calibrated:
                job.take(calibrated())
            records = job.write(partial)
            if verify:
                job.verify(partial)
            source.check()
            params['quantization_config'] = recipe.quantization_config()
            write_small_files(target_dir, params, tekken)
    return records


class _Job:
    """One checkpoint and what to do with it."""

    def __init__(self, source: WeightFile, recipe: Recipe, head_dim: int,
                 progress: Callable[[int], object]) -> None:
        self._source = source
        self._recipe = recipe
        self._head_dim = head_dim
        self._progress = progress
        self._given: Codes = {}
        self._items = [self._plan(weight_name) for weight_name in source.stored]
        for pattern in recipe.skip:
            if not any(fnmatchcase(weight_name, pattern) for weight_name in source.stored):
                raise QuantizationError(f'skip {pattern!r} fits the name of no tensor; patterns '
                                        'are like "layers.0.*"')

    def _plan(self, weight_name: str) -> _Item:
        stored = self._source.stored[weight_name]
        if stored.kind != 'dense':
            raise QuantizationError(f'{self._source.path} is quantized already: {weight_name} is '
                                    f'{stored.kind}')
        bits, shape = self._recipe.bits(weight_name), stored.shape
        if bits == 16:
            dtype = self._source.dtype(weight_name)
            # As it is; what is wider is a training checkpoint, published ones have 16 bits.
            spec = Spec(dtype if DTYPES[dtype].itemsize <= 2 else 'BF16', shape)
            return _Item(weight_name, bits, shape, {weight_name: spec})
        n, k = shape
        try:
            if bits == 4:
                marlin.check_size(k, n)
            marlin.check_groups(k)
        except ValueError as error:
            raise QuantizationError(f'{weight_name} has {error}; to leave it as it is, skip '
                                    f'"{weight_name}"') from None
        if bits == 8:
            codes, scales = int8_names(weight_name)
            return _Item(weight_name, bits, shape, {
                codes: Spec('I8', (n, k)),
                scales: Spec('F16', (n, k // marlin.GROUP))})
        words, scales = int4_names(weight_name)
        return _Item(weight_name, bits, shape, {
            words: Spec('I32', (k // marlin.TILE_K, 2 * n)),
            scales: Spec('F16', (k // marlin.GROUP, n))})

    @property
    def nbytes(self) -> int:
        """Return how many bytes the weights of the result are."""
        return sum(spec.nbytes for item in self._items for spec in item.specs.values())

    def take(self, codes: Codes) -> None:
        """Take the codes of weights that are not rounded here: of all of them, and no others."""
        shapes = {item.weight_name: item.shape for item in self._items
                  if self._recipe.is_calibrated(item.weight_name)}
        found = {weight_name: tuple(part.shape) for weight_name, (part, _) in codes.items()}
        if found != shapes:
            wrong = next(weight_name for weight_name in sorted({*found, *shapes})
                         if found.get(weight_name) != shapes.get(weight_name))
            raise QuantizationError(f'{wrong} has calibrated codes {found.get(wrong)}, expected '
                                    f'{shapes.get(wrong)}: calibrate with the same recipe')
        self._given = codes

    def write(self, path: Path) -> list[Record]:
        """Write the whole result."""
        specs = {name: spec for item in self._items for name, spec in item.specs.items()}
        convert = {4: self._to_int4, 8: self._to_int8, 16: self._to_dense}
        records = []
        with TensorWriter(path, specs, with_checksums=True) as writer, Workers() as workers:
            for item in self._items:
                error = convert[item.bits](item, writer, workers)
                nbytes = sum(spec.nbytes for spec in item.specs.values())
                records.append(Record(item.weight_name, item.bits, item.shape, nbytes, error))
            writer.sync()
        return records

    def _to_dense(self, item: _Item, writer: TensorWriter, workers: Workers) -> float:
        error = _Error()
        dtype = item.specs[item.weight_name].dtype

        def rounded(block: tuple[int, Tensor]) -> tuple[int, Tensor, _Part]:
            start, weight = block
            out = weight.to(TORCH_DTYPES[dtype])
            if not out.isfinite().all():
                raise QuantizationError(f'{item.weight_name} has numbers that are NaN or infinite '
                                        f'as {dtype}: {self._source.path} is damaged')
            return start, out, _part(weight, out) if out.dtype != weight.dtype else (0.0, 0.0)

        for start, out, part in workers.map(rounded, self._blocks(item)):
            writer.write(item.weight_name, as_array(out), start)
            error.add(part)
        return error.relative

    def _to_int8(self, item: _Item, writer: TensorWriter, workers: Workers) -> float:
        error = _Error()

        def rounded(block: tuple[int, Tensor]) -> tuple[int, tuple[Tensor, Tensor], _Part]:
            start, weight = block
            codes, scale = self._rounded(item, rounding.round_int8, weight)
            return start, (codes, scale), _part(weight, rounding.dequantize(codes, scale))

        for start, parts, part in workers.map(rounded, self._blocks(item, numbers=_BLOCK)):
            for name, tensor in zip(item.specs, parts, strict=True):
                writer.write(name, as_array(tensor), start)
            error.add(part)
        return error.relative

    def _to_int4(self, item: _Item, writer: TensorWriter, workers: Workers) -> float:
        error = _Error()
        # The packed form has the rows as columns, so it is put together first.
        words, scales = (np.empty(spec.shape, DTYPES[spec.dtype]) for spec in item.specs.values())

        def rounded(block: tuple[int, Tensor]) -> _Part:
            start, weight = block
            stop = start + len(weight)
            if item.weight_name in self._given:
                codes, scale = (part[start:stop] for part in self._given[item.weight_name])
            else:
                codes, scale = self._rounded(item, rounding.round_int4, weight,
                                             self._recipe.rounding)
            unsigned, factors = (codes + marlin.ZERO).numpy().view(np.uint8), scale.numpy()
            if is_half_split(item.weight_name):
                unsigned, factors = (half_split(part, self._head_dim)
                                     for part in (unsigned, factors))
            words[:, 2 * start:2 * stop] = marlin.pack(unsigned.T)
            scales[:, start:stop] = marlin.permute_scales(factors.T)
            return _part(weight, rounding.dequantize(codes, scale))

        unit = row_unit(item.weight_name, self._head_dim)
        for part in workers.map(rounded, self._blocks(item, unit, _BLOCK)):
            error.add(part)
        for name, packed in zip(item.specs, (words, scales), strict=True):
            writer.write(name, packed)
        return error.relative

    def _rounded(self, item: _Item, rule: Callable[..., tuple[Tensor, Tensor]],
                 *arguments: Any) -> tuple[Tensor, Tensor]:
        try:
            return rule(*arguments)
        except ValueError as error:
            raise QuantizationError(f'{item.weight_name}: {error}') from None

    def _blocks(self, item: _Item, unit: int = 1,
                numbers: int = 0) -> Iterator[tuple[int, Tensor]]:
        for start, stop in row_blocks(item.shape, unit, _READ):
            weight = read_rows(self._source, item.weight_name, start, stop)
            for first, last in row_blocks(tuple(weight.shape), unit, numbers):
                yield start + first, weight[first:last]
                self._progress(weight[first:last].numel())

    def verify(self, path: Path) -> None:
        """
        Compare what a file holds with the source.

        Of rounded weights, every code must be the nearest one to the source for the scale that is
        in the file; calibrated codes and their scales, and everything else, must be equal.
        """
        with WeightFile(TensorFile(path), self._head_dim) as result:
            for item in self._items:
                if item.bits == 16:
                    for start, weight in self._blocks(item):
                        kept = read_rows(result, item.weight_name, start, start + len(weight))
                        self._compare(item, kept, weight.to(kept.dtype))
                    continue
                for start, codes, scale in read_codes(result, item.weight_name):
                    stop = start + len(codes)
                    if item.weight_name in self._given:
                        for part, given in zip((codes, scale), self._given[item.weight_name],
                                               strict=True):
                            self._compare(item, part, given[start:stop])
                    else:
                        weight = read_rows(self._source, item.weight_name, start, stop)
                        self._compare(item, codes, rounding.nearest(weight, scale, item.bits))
                    self._progress(codes.numel())

    def _compare(self, item: _Item, found: Tensor, expected: Tensor) -> None:
        if not torch.equal(found, expected):
            raise QuantizationError(f'{item.weight_name} was not written as computed: check the '
                                    'disk and the memory of this machine')


def _part(weight: Tensor, rounded: Tensor) -> _Part:
    """Return what a block has of the sums of squared error and squared weight."""
    weight = weight.float()
    power = weight.square().sum(dtype=torch.float64).item()
    return weight.sub(rounded).square_().sum(dtype=torch.float64).item(), power


class _Error:
    """Sums up the error of a weight, block by block."""

    def __init__(self) -> None:
        self._error = self._power = 0.0

    def add(self, part: _Part) -> None:
        self._error += part[0]
        self._power += part[1]

    @property
    def relative(self) -> float:
        return math.sqrt(self._error / self._power) if self._power else 0.0
