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
the other does not fit. Here a file is read through small buffers, its pages are given back at
once, and a file is written in place, in any order. Checksums of its tensors are compared while it
is read, and written with it. Format: github.com/huggingface/safetensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
import json
import math
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from voxtral_ros.quantization import checksums, foreign

# In the order in which safetensors sorts tensors in a file.
_DTYPES = {
    'I64': torch.int64, 'F64': torch.float64, 'F32': torch.float32, 'I32': torch.int32,
    'BF16': torch.bfloat16, 'F16': torch.float16, 'I16': torch.int16, 'I8': torch.int8,
    'U8': torch.uint8, 'BOOL': torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_ORDER = {dtype: index for index, dtype in enumerate(_DTYPES.values())}
_MAX_HEADER = 16 << 20  # bytes; a header of the 4B model with checksums has 0.3 MB
_MAX_TENSORS = 16_384
_BUFFER = 8 << 20  # bytes read at once


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

    def __init__(self, path: Path, verify: bool = False) -> None:
        """
        Read the header and check that the file is whole.

        :param verify: compare tensors that are read from beginning to end with the checksums, if
            the file has any or they are beside it; see `check`
        :raises CheckpointError: the file is missing, cut off, damaged or of another kind
        """
        self.path = path
        try:
            self._file = path.open('rb', buffering=0)
        except FileNotFoundError:
            raise CheckpointError(f'{path} does not exist: {foreign.A_MODEL}') from None
        except OSError as error:
            raise CheckpointError(f'{path} cannot be read: {error.strerror}') from error
        try:
            self.specs, self._places, self._metadata = self._read_header()
            expected = self.checksums() if verify else {}
        except BaseException:
            self._file.close()
            raise
        self._verifier = checksums.Verifier(expected) if expected else None
        # In turns: one is compared while the next is read.
        self._buffers = [torch.empty(_BUFFER, dtype=torch.uint8)
                         for _ in range(2 if self._verifier else 1)]
        self._in_use: list[Future[None] | None] = [None] * len(self._buffers)
        self._n_reads = 0

    def checksums(self) -> dict[str, int]:
        """
        Return the checksums in the file, or those beside it; none if there are none.

        :raises CheckpointError: they are damaged
        """
        try:
            found = checksums.from_metadata(self._metadata, self.specs)
        except checksums.ChecksumError as error:
            raise self._error(f'its header {error}: it is damaged, download or quantize it '
                              'again') from None
        return found or self.side_checksums()

    def side_checksums(self) -> dict[str, int]:
        """Return the checksums beside the file; see `checksums`."""
        try:
            return checksums.read_side_file(self.path, self.specs)
        except checksums.ChecksumError as error:
            raise CheckpointError(
                f'{checksums.side_file(self.path)} {error}: if the model was replaced, write it '
                f'anew with `voxtral verify --write {self.path.parent}`') from None

    def check(self) -> None:
        """Raise CheckpointError if a tensor that was read is not that of its checksum."""
        if self._verifier is not None:
            self._verifier.close()
            self._raise_damage()

    def _raise_damage(self) -> None:
        if self._verifier is not None and self._verifier.damaged:
            damaged = self._verifier.damaged
            more = f' and {len(damaged) - 1} more' if len(damaged) > 1 else ''
            raise self._error(f'{damaged[0]}{more} is damaged, its checksum is another: download '
                              f'or copy the file again, `voxtral verify {self.path.parent}` '
                              'lists all damage')

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        if self._verifier is not None:
            self._verifier.close()
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

    def pieces(self, name: str) -> Iterator[tuple[int, Tensor]]:
        """Yield a tensor flat, in pieces that last until the next: first byte, numbers."""
        spec = self.specs[name]
        for start, part in self._pieces(name, 0, math.prod(spec.shape)):
            yield start * spec.dtype.itemsize, part

    def _read_into(self, flat: Tensor, name: str, first: int) -> None:
        """Fill `flat` with the elements of a tensor from number `first` on."""
        for start, part in self._pieces(name, first, len(flat)):
            flat[start:start + len(part)].copy_(part)

    def _pieces(self, name: str, first: int, count: int) -> Iterator[tuple[int, Tensor]]:
        """Read `count` elements from number `first` on; the pieces count from there."""
        spec = self.specs[name]
        size = spec.dtype.itemsize
        step = _BUFFER // size
        for start in range(0, count, step):
            self._raise_damage()
            turn = self._n_reads % len(self._buffers)
            self._n_reads += 1
            if (busy := self._in_use[turn]) is not None:
                busy.result()
            raw = self._buffers[turn][:min(step, count - start) * size]
            begin = (first + start) * size
            self._pread(raw, self._places[name] + begin)
            if self._verifier is not None:
                self._in_use[turn] = self._verifier.add(
                    name, begin, raw.numpy().data, spec.nbytes)
            yield start, raw.view(spec.dtype)

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

    def _read_header(self) -> tuple[dict[str, Spec], dict[str, int], Any]:
        """Return specs and places in the file of all tensors, in its order, and its metadata."""
        size = os.fstat(self._file.fileno()).st_size
        start = self._file.read(256)
        if size < 9:
            raise self._error(f'it has {size} bytes: the download was cut off, fetch it again')
        length = int.from_bytes(start[:8], 'little')
        if start[8:9] != b'{':
            raise self._error('this is not a safetensors file' + foreign.wrong_content(start))
        if length > size:
            raise self._error(f'it ends after {size} bytes, in its header: the download was cut '
                              'off, fetch it again')
        if length > _MAX_HEADER:
            raise self._error(f'its header has {length} bytes, more than any model of this kind: '
                              'download the file again')
        self._file.seek(8)
        header = self._file.read(length)
        try:
            entries = json.loads(header)
            metadata = entries.pop('__metadata__', None)
            if len(entries) > _MAX_TENSORS:
                raise self._error(f'it has {len(entries)} tensors, more than any model of this '
                                  f'kind: {foreign.INSTEAD}')
            dtypes = {name: str(entry['dtype']) for name, entry in entries.items()}
            if set(dtypes.values()) - set(_DTYPES) and (why := foreign.foreign_tensors(dtypes)):
                raise self._error(why)
            parsed = {name: _parse(entry) for name, entry in entries.items()}
        except CheckpointError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise self._error(f'its header is damaged ({type(error).__name__}: '
                              f'{str(error)[:200]}); download the file again') from error
        specs, places, end = {}, {}, 0
        for name, (spec, begin, stop) in sorted(parsed.items(), key=lambda item: item[1][1:]):
            if begin != end or stop - begin != spec.nbytes:
                raise self._error(f'its header is damaged ({name[:100]}); download the file '
                                  'again')
            specs[name], places[name], end = spec, 8 + length + begin, stop
        expected = 8 + length + end
        if size < expected:
            raise self._error(f'it has {size} of {expected} bytes: the download was cut off, '
                              'fetch it again')
        if size > expected:
            raise self._error(f'it has {size - expected} bytes more than its header says: '
                              'download it again')
        return specs, places, metadata

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

    def __init__(self, path: Path, specs: Mapping[str, Spec],
                 with_checksums: bool = False) -> None:
        """
        Write the header and reserve the space; raise OSError where that is impossible.

        :param with_checksums: let the metadata have the checksum of every tensor; `sync` writes
            them
        """
        names = sorted(specs, key=lambda name: (_ORDER[specs[name].dtype], name))
        # Of the right length, so that every tensor has its place before anything is written.
        self._metadata = checksums.metadata(dict.fromkeys(names, 0)) if with_checksums else {}
        self._entries: dict[str, Any] = {}
        end = 0
        for name in names:
            spec = specs[name]
            self._entries[name] = {'dtype': _NAMES[spec.dtype], 'shape': list(spec.shape),
                                   'data_offsets': [end, end + spec.nbytes]}
            end += spec.nbytes
        header = self._header()
        self._begin = {name: len(header) + entry['data_offsets'][0]
                       for name, entry in self._entries.items()}
        self._specs = dict(specs)
        self._running = checksums.RunningChecksums()
        self._file = path.open('w+b')
        self._file.write(header)
        self._file.truncate(len(header) + end)

    def _header(self) -> bytes:
        header = {'__metadata__': self._metadata} if self._metadata else {}
        text = json.dumps(header | self._entries, separators=(',', ':'),
                          ensure_ascii=False).encode()
        text += b' ' * (-len(text) % 8)
        return len(text).to_bytes(8, 'little') + text

    def __enter__(self) -> TensorWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def write(self, name: str, tensor: Tensor, first_row: int = 0) -> None:
        """Write a tensor, or some of its rows, of the type that was announced."""
        spec = self._specs[name]
        if tensor.dtype != spec.dtype or tensor.shape[1:] != spec.shape[1:]:
            raise ValueError(f'{name} is {tensor.dtype} {tuple(tensor.shape)}, not {spec}')
        begin = first_row * math.prod(spec.shape[1:]) * spec.dtype.itemsize
        raw = tensor.contiguous().view(-1).view(torch.uint8).numpy().data
        self._file.seek(self._begin[name] + begin)
        self._file.write(raw)
        if self._metadata:
            self._running.add(name, begin, raw)

    def sync(self) -> None:
        """Write the checksums of what was written, and return when the disk has everything."""
        if self._metadata:
            self._metadata = checksums.metadata({name: self._checksum(name)
                                                 for name in self._entries})
            self._file.seek(0)
            self._file.write(self._header())
        self._file.flush()
        os.fsync(self._file.fileno())

    def _checksum(self, name: str) -> int:
        """Return the checksum of what was written, read back if it did not come in order."""
        n_bytes = self._specs[name].nbytes
        crc = self._running.of(name, n_bytes)
        if crc is None:
            running = checksums.RunningChecksums()
            self._file.seek(self._begin[name])
            for begin in range(0, n_bytes, _BUFFER):
                running.add(name, begin, self._file.read(min(_BUFFER, n_bytes - begin)))
            crc = running.of(name, n_bytes)
        assert crc is not None
        return crc
