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
Safetensors files, read and written piece by piece.

The library of the format maps a file into memory to read it and wants all tensors in memory to
write it. On a board whose GPU shares its memory with the page cache, the one doubles a model and
the other does not fit. Here a file is read through a small buffer, its pages are given back at
once, and a file is written in place, in any order. Format: github.com/huggingface/safetensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import json
import math
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# In the order in which safetensors sorts tensors in a file.
_DTYPES = {
    'I64': torch.int64, 'F64': torch.float64, 'F32': torch.float32, 'I32': torch.int32,
    'BF16': torch.bfloat16, 'F16': torch.float16, 'I16': torch.int16, 'I8': torch.int8,
    'U8': torch.uint8, 'BOOL': torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_ORDER = {dtype: index for index, dtype in enumerate(_DTYPES.values())}
_MAX_HEADER = 100_000_000  # bytes, the limit of the format
_BUFFER = 16 << 20  # bytes read at once


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Spec:
    """Type and shape of a tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class TensorFile:
    """A safetensors file, open for reading; a context manager."""

    def __init__(self, path: Path) -> None:
        """
        Read the header and check that the file is whole.

        :raises CheckpointError: the file is missing, cut off, damaged or of another kind
        """
        self.path = path
        try:
            self._file = path.open('rb', buffering=0)
        except FileNotFoundError:
            raise CheckpointError(f'{path} does not exist: a model is a folder with params.json, '
                                  'tekken.json and consolidated.safetensors') from None
        except OSError as error:
            raise CheckpointError(f'{path} cannot be read: {error.strerror}') from error
        try:
            self.specs, self._places = self._read_header()
        except BaseException:
            self.close()
            raise
        self._buffer = torch.empty(_BUFFER, dtype=torch.uint8)

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def read(self, name: str, device: torch.device | str = 'cpu',
             dtype: torch.dtype | None = None) -> Tensor:
        """Read a tensor to a device, as another type if asked for."""
        spec = self.specs[name]
        out = torch.empty(spec.shape, dtype=dtype or spec.dtype, device=device)
        self._read_into(out.view(-1), name, 0)
        return out

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Read rows start..stop of the first axis."""
        spec = self.specs[name]
        out = torch.empty((stop - start, *spec.shape[1:]), dtype=spec.dtype)
        self._read_into(out.view(-1), name, start * math.prod(spec.shape[1:]))
        return out

    def _read_into(self, flat: Tensor, name: str, first: int) -> None:
        """Fill `flat` with the elements of a tensor from number `first` on."""
        dtype = self.specs[name].dtype
        begin = self._places[name] + first * dtype.itemsize
        step = _BUFFER // dtype.itemsize
        for start in range(0, len(flat), step):
            part = flat[start:start + step]
            raw = self._buffer[:len(part) * dtype.itemsize]
            self._pread(raw, begin + start * dtype.itemsize)
            part.copy_(raw.view(dtype))

    def _pread(self, raw: Tensor, offset: int) -> None:
        view, done = raw.numpy().data, 0
        while done < len(view):
            try:
                count = os.preadv(self._file.fileno(), [view[done:]], offset + done)
            except OSError as error:
                raise CheckpointError(f'{self.path} cannot be read: {error.strerror}') from error
            if not count:
                raise CheckpointError(f'{self.path} became shorter while it was read')
            done += count
        # What was read is not needed in the page cache as well.
        os.posix_fadvise(self._file.fileno(), offset, done, os.POSIX_FADV_DONTNEED)

    def _read_header(self) -> tuple[dict[str, Spec], dict[str, int]]:
        """Return the specs and the places in the file of all tensors, in the file's order."""
        size = os.fstat(self._file.fileno()).st_size
        start = self._file.read(9)
        if size < 9:
            raise self._error(f'it has {size} bytes: the download was cut off, fetch it again')
        length = int.from_bytes(start[:8], 'little')
        if start[8:] != b'{' or length > _MAX_HEADER:
            if start.startswith((b'PK', b'\x80')):
                raise self._error('this is a pickle, which is never loaded: convert it to '
                                  'safetensors')
            raise self._error('this is not a safetensors file')
        header = start[8:] + self._file.read(length - 1)
        if len(header) < length:
            raise self._error(f'it ends after {size} bytes, in its header: the download was cut '
                              'off, fetch it again')
        try:
            entries = json.loads(header)
            entries.pop('__metadata__', None)
            parsed = {name: _parse(entry) for name, entry in entries.items()}
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise self._error(f'its header is damaged ({type(error).__name__}: {error}); download '
                              'the file again') from error
        specs, places, end = {}, {}, 0
        for name, (spec, begin, stop) in sorted(parsed.items(), key=lambda item: item[1][1:]):
            if begin != end or stop - begin != spec.nbytes:
                raise self._error(f'its header is damaged ({name}); download the file again')
            specs[name], places[name], end = spec, 8 + length + begin, stop
        expected = 8 + length + end
        if size < expected:
            raise self._error(f'it has {size} of {expected} bytes: the download was cut off, '
                              'fetch it again')
        if size > expected:
            raise self._error(f'it has {size - expected} bytes more than its header says: '
                              'download it again')
        return specs, places

    def _error(self, message: str) -> CheckpointError:
        return CheckpointError(f'{self.path}: {message}')


def _parse(entry: Any) -> tuple[Spec, int, int]:
    """Return what an entry of the header says: the tensor, its begin and its end."""
    begin, end = entry['data_offsets']
    for number in (begin, end, *entry['shape']):
        if type(number) is not int or number < 0:
            raise ValueError(f'{number!r} is no size')
    return Spec(_DTYPES[entry['dtype']], tuple(entry['shape'])), begin, end


class TensorWriter:
    """
    A safetensors file, written in place; a context manager.

    Byte for byte the file that safetensors.torch.save_file writes, whatever the order of the
    calls. Pieces that are never written are zero.
    """

    def __init__(self, path: Path, specs: Mapping[str, Spec]) -> None:
        """Write the header and reserve the space; raise OSError where that is impossible."""
        names = sorted(specs, key=lambda name: (_ORDER[specs[name].dtype], name))
        header: dict[str, Any] = {}
        end = 0
        for name in names:
            spec = specs[name]
            header[name] = {'dtype': _NAMES[spec.dtype], 'shape': list(spec.shape),
                            'data_offsets': [end, end + spec.nbytes]}
            end += spec.nbytes
        text = json.dumps(header, separators=(',', ':'), ensure_ascii=False).encode()
        text += b' ' * (-len(text) % 8)
        self._begin = {name: 8 + len(text) + header[name]['data_offsets'][0] for name in names}
        self._specs = dict(specs)
        self._file = path.open('wb')
        self._file.write(len(text).to_bytes(8, 'little') + text)
        self._file.truncate(8 + len(text) + end)

    def __enter__(self) -> TensorWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def write(self, name: str, tensor: Tensor, first_row: int = 0) -> None:
        """Write a tensor, or some of its rows, of the type that was announced."""
        spec = self._specs[name]
        if tensor.dtype != spec.dtype or tensor.shape[1:] != spec.shape[1:]:
            raise ValueError(f'{name} is {tensor.dtype} {tuple(tensor.shape)}, not {spec}')
        row = math.prod(spec.shape[1:]) * spec.dtype.itemsize
        self._file.seek(self._begin[name] + first_row * row)
        self._file.write(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)

    def sync(self) -> None:
        """Return when the disk has everything."""
        self._file.flush()
        os.fsync(self._file.fileno())
