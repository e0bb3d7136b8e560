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
The weights of a checkpoint by their checkpoint names, whichever way each of them is stored.

Every weight comes in blocks of rows, so that beside the result there is little in memory: a
staging buffer, one block, and the packed words of one INT4 weight. All of it is numpy; for tensors
of torch see tensors.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
import math

import numpy as np

from voxtral_ros.quantization import marlin
from voxtral_ros.quantization.foreign import foreign_tensors
from voxtral_ros.quantization.format import int4_names, int8_names, is_half_split, stored_weight
from voxtral_ros.quantization.tensorfile import Array, CheckpointError, FLOATS, TensorSource

WEIGHTS = 'consolidated.safetensors'
_BLOCK = 1 << 20  # numbers per block: a few megabytes in fp32


@dataclass(frozen=True)
class Stored:
    """How the file has a weight."""

    kind: str  # 'dense', 'int8' or 'int4'
    names: tuple[str, ...]  # in the file: the weight, or its codes and scales
    shape: tuple[int, ...]  # of the weight itself, [N, K] if it is quantized


class WeightFile:
    """The tensors of a model, by their checkpoint names, open for reading; a context manager."""

    def __init__(self, file: TensorSource, head_dim: int) -> None:
        """
        Take over an open file, and find out how its weights are stored.

        :param head_dim: of the decoder
        :raises CheckpointError: it is in a format we do not know; it is closed then
        """
        self.path = file.path
        self.head_dim = head_dim
        self.file = file
        try:
            self.stored = self._find()
        except BaseException:
            self.file.close()
            raise

    def __enter__(self) -> WeightFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.file.close()

    def check(self) -> None:
        """Raise CheckpointError if something that was read is not that of its checksum."""
        self.file.check()

    @property
    def main_dtype(self) -> str:
        """Return the type, as safetensors call it, of most numbers that are not quantized."""
        numbers: Counter[str] = Counter()
        for weight_name, stored in self.stored.items():
            if stored.kind == 'dense':
                numbers[self.dtype(weight_name)] += math.prod(stored.shape)
        return max(numbers, key=numbers.__getitem__)

    @property
    def nbytes(self) -> int:
        """Return the size of all tensors."""
        return sum(spec.nbytes for spec in self.file.specs.values())

    def dtype(self, weight_name: str) -> str:
        """Return the type of a dense weight in the file, as safetensors call it."""
        return self.file.specs[self.stored[weight_name].names[0]].dtype

    def kind(self, weight_name: str) -> str:
        """Return how a weight is stored: 'dense', 'int8' or 'int4'; '' if there is none."""
        return self.stored[weight_name].kind if weight_name in self.stored else ''

    def shape(self, weight_name: str) -> tuple[int, ...]:
        """Return the shape of a weight, [N, K] if it is quantized."""
        return self.stored[weight_name].shape

    def array(self, weight_name: str) -> Array:
        """Read a dense weight: float32, or the bits of bfloat16 as uint16."""
        name = self.stored[weight_name].names[0]
        spec = self.file.specs[name]
        if spec.dtype in ('BF16', 'F32'):
            return self.file.read(name)
        out = np.empty(spec.shape, np.float32)
        flat = out.reshape(-1)
        for begin, part in self.file.pieces(name):
            flat[begin:begin + len(part)] = part
        return out

    def rows(self, weight_name: str, start: int, stop: int) -> Array:
        """Read rows of a dense weight, in the type of the file."""
        return self.file.rows(self.stored[weight_name].names[0], start, stop)

    def code_arrays(self, weight_name: str) -> Iterator[tuple[int, Array, Array]]:
        """
        Read a quantized weight in blocks of rows, in the order of the network.

        :return: first row, codes int8 [rows, K] and scales fp16 [rows, K / 128] of each block
        """
        stored = self.stored[weight_name]
        if stored.kind == 'int8':
            for start, stop in row_blocks(stored.shape):
                codes, scale = (self.file.rows(name, start, stop) for name in stored.names)
                yield start, codes, scale
            return
        words, scales = (self.file.read(name) for name in stored.names)
        unit = row_unit(weight_name, self.head_dim)
        for start, stop in row_blocks(stored.shape, unit):
            codes = marlin.unpack(words[:, 2 * start:2 * stop]).T  # [rows, K]
            scale = marlin.permute_scales(scales[:, start:stop]).T
            if is_half_split(weight_name):
                codes, scale = (interleaved(part, self.head_dim) for part in (codes, scale))
            yield start, codes.view(np.int8) - np.int8(marlin.ZERO), scale

    def _find(self) -> dict[str, Stored]:
        found: dict[str, Stored] = {}
        specs = self.file.specs
        if why := foreign_tensors(dict.fromkeys(specs, '')):
            raise self._error(why)
        rest = set(specs)
        for name in specs:
            weight = stored_weight(name)
            if weight is None:
                continue
            weight_name, kind = weight
            if weight_name in found:
                raise self._error(f'{weight_name} is in the file twice, '
                                  f'as {found[weight_name].names[0]} and as {name}')
            names = {'dense': (weight_name,), 'int8': int8_names(weight_name),
                     'int4': int4_names(weight_name)}[kind]
            if missing := next((part for part in names if part not in specs), None):
                raise self._error(f'{name} is there, but not {missing}')
            rest.difference_update(names)
            found[weight_name] = Stored(kind, names, self._shape(weight_name, kind, names))
        if rest:
            raise self._error(f'{min(rest)} is there, but not what it scales')
        return found

    def _shape(self, weight_name: str, kind: str, names: tuple[str, ...]) -> tuple[int, ...]:
        """Return the shape of a weight, having checked that its parts fit each other."""
        first = self.file.specs[names[0]]
        if kind == 'dense':
            if first.dtype not in FLOATS:
                raise self._error(f'{weight_name} is {first.dtype}, expected floating point')
            return first.shape
        expected = 'I8' if kind == 'int8' else 'I32'
        scales = self.file.specs[names[1]]
        for name, spec, dtype in ((names[0], first, expected), (names[1], scales, 'F16')):
            if spec.dtype != dtype or len(spec.shape) != 2:
                raise self._error(f'{name} is {spec.dtype} {list(spec.shape)}, expected a matrix '
                                  f'of {dtype}')
        try:
            if kind == 'int8':
                n, k = first.shape
                fitting = (n, k // marlin.GROUP)
                marlin.check_groups(k)
            else:
                k, n = first.shape[0] * marlin.TILE_K, first.shape[1] // 2
                fitting = (k // marlin.GROUP, n)
                marlin.check_size(k, n)
                if first.shape[1] % 2 or n % row_unit(weight_name, self.head_dim):
                    raise ValueError(f'its rows are not those of whole heads of {self.head_dim}')
        except ValueError as error:
            raise self._error(f'{names[0]} is {list(first.shape)}: {error}') from None
        if scales.shape != fitting:
            raise self._error(f'{names[1]} is {list(scales.shape)}, expected {list(fitting)}: '
                              f'one scale for {marlin.GROUP} inputs')
        return n, k

    def _error(self, message: str) -> CheckpointError:
        return CheckpointError(f'{self.path}: {message}')


def row_blocks(shape: tuple[int, ...], unit: int = 1,
               numbers: int = 0) -> Iterator[tuple[int, int]]:
    """
    Yield first and last + 1 row of blocks, multiples of `unit` rows.

    :param numbers: about so many in each; 0: what a reader has in memory at once
    """
    row = max(1, math.prod(shape[1:]))
    step = max(1, (numbers or _BLOCK) // row // unit) * unit
    for start in range(0, shape[0], step):
        yield start, min(start + step, shape[0])


def row_unit(weight_name: str, head_dim: int) -> int:
    """Return into multiples of how many rows a weight can be cut for packing."""
    return math.lcm(marlin.TILE_N, head_dim) if is_half_split(weight_name) else marlin.TILE_N


def half_split(rows: Array, head_dim: int) -> Array:
    """Reorder the rows of whole heads, [N, ...], from rotated pairs to rotated halves."""
    return rows.reshape(-1, head_dim // 2, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def interleaved(rows: Array, head_dim: int) -> Array:
    """Reorder the rows of whole heads, [N, ...], from rotated halves to rotated pairs."""
    return rows.reshape(-1, 2, head_dim // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)
