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

"""What can be said about the tensors of a file without loading a model: are they damaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxtral_ros.quantization.checksums import RunningChecksums
from voxtral_ros.quantization.tensorfile import Array, DTYPES, FLOATS, TensorFile

# A bit that has changed in an exponent makes a number of 1 to one of 1e19, or a scale to 1e4.
_LARGEST_WEIGHT = 1e4
_LARGEST_SCALE = 10.0


@dataclass(frozen=True)
class Inspection:
    """What was found in a file."""

    n_bytes: int  # of its tensors
    checksums: dict[str, int]  # of its tensors as they are
    compared: bool  # whether there were checksums to compare them with
    problems: list[str]  # one a tensor and kind, for people

    @property
    def n_tensors(self) -> int:
        return len(self.checksums)


def inspect(path: Path, compare: bool = True,
            progress: Callable[[int], object] = lambda n_bytes: None) -> Inspection:
    """
    Read all tensors of a file and look for damage.

    :param compare: with the checksums that are in the file or beside it, if there are any
    :param progress: called with numbers of bytes
    :raises CheckpointError: the file is no safetensors file, cut off, or cannot be read
    """
    running, problems, n_bytes = RunningChecksums(), [], 0
    with TensorFile(path) as file:
        expected = file.checksums() if compare else {}
        found: dict[str, int] = {}
        for name, spec in file.specs.items():
            values = _Values(name, spec.dtype)
            for first, part in file.pieces(name):
                running.add(name, first * spec.itemsize, part.view(np.uint8).data)
                values.add(part)
                progress(part.nbytes)
            n_bytes += spec.nbytes
            crc = running.of(name, spec.nbytes)
            assert crc is not None  # all pieces came, in order
            found[name] = crc
            if crc != expected.get(name, crc):
                problems.append(f'{name} is damaged: its checksum is {crc:08x}, expected '
                                f'{expected[name]:08x}')
            problems += values.problems()
    return Inspection(n_bytes, found, bool(expected), problems)


class _Values:
    """Looks for what no weight is."""

    def __init__(self, name: str, dtype: str) -> None:
        self._name, self._dtype = name, dtype
        self._limit = _LARGEST_SCALE if name.endswith(('.s', '.weight_scale')) \
            else _LARGEST_WEIGHT
        self._n = self._n_not_finite = self._n_outside = 0
        self._largest = 0.0

    def add(self, part: Array) -> None:
        """Take some of the numbers, flat."""
        self._n += len(part)
        if self._dtype == 'I8':
            self._n_outside += int((part == -128).sum())
        elif self._dtype in FLOATS and len(part):
            # Without the sign, the bits of a larger number are a larger integer, up to infinity
            # and then NaN.
            bits = part.view(f'u{part.itemsize}')
            bits = bits & (np.iinfo(bits.dtype).max >> 1)
            infinity = _bits_of_infinity(self._dtype)
            if bits.max() >= infinity:
                not_finite = bits >= infinity
                self._n_not_finite += int(not_finite.sum())
                bits[not_finite] = 0
            self._largest = max(self._largest, _number(bits.max(), self._dtype))

    def problems(self) -> list[str]:
        """Return what is wrong, for people."""
        found = []
        if self._n_not_finite:
            found.append(f'{self._name}: {self._n_not_finite} of {self._n} numbers are NaN or '
                         'infinite')
        if self._largest > self._limit:
            found.append(f'{self._name}: {self._largest:g} is larger than any weight is')
        if self._n_outside:
            found.append(f'{self._name}: {self._n_outside} codes are -128, which no quantizer '
                         'writes')
        if self._name.endswith('norm.weight') and not self._largest:
            found.append(f'{self._name}: all of it is zero')
        return found


def _bits_of_infinity(dtype: str) -> int:
    if dtype == 'BF16':
        return 0x7f80
    infinity = np.array(np.inf, DTYPES[dtype])
    return int(infinity.view(f'u{infinity.itemsize}'))


def _number(bits: Any, dtype: str) -> float:
    """Return the number that an unsigned integer has the bits of."""
    if dtype == 'BF16':
        return float((np.uint32(bits) << np.uint32(16)).view(np.float32))
    return float(bits.view(DTYPES[dtype]))
