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

Types have the names of the format. Tensors are arrays of numpy, which has no bfloat16: those are
the uint16 of their bits. For tensors of torch see tensors.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
import json
import math
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from voxtral_ros.quantization import checksums, foreign

Array = npt.NDArray[Any]

# In the order in which safetensors sorts tensors in a file.
DTYPES = {name: np.dtype(kind).newbyteorder('<') for name, kind in {
    'I64': np.int64, 'F64': np.float64, 'F32': np.float32, 'I32': np.int32, 'BF16': np.uint16,
    'F16': np.float16, 'I16': np.int16, 'I8': np.int8, 'U8': np.uint8, 'BOOL': np.bool_,
}.items()}
FLOATS = ('F64', 'F32', 'BF16', 'F16')
_ORDER = {name: index for index, name in enumerate(DTYPES)}
_MAX_HEADER = 16 << 20  # bytes; a header of the 4B model with checksums has 0.3 MB
_MAX_TENSORS = 16_384
_BUFFER = 8 << 20  # bytes read at once


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Spec:
    """Type, by its name in the format, and shape of a tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def itemsize(self) -> int:
        return DTYPES[self.dtype].itemsize

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.itemsize


class TensorSource(Protocol):
    """Where the tensors of a model are: a file, its shards, or either with other names."""

    path: Path  # for messages
    specs: dict[str, Spec]

    def read(self, name: str) -> Array: ...
    def rows(self, name: str, start: int, stop: int | None) -> Array: ...
    def pieces(self, name: str) -> Iterator[tuple[int, Array]]: ...
    def check(self) -> None: ...
    def close(self) -> None: ...


class TensorFile:
    """A safetensors file, open for reading; a context manager and a TensorSource."""

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
            # Tensors are not read in the order of the file: what would be read ahead, up to
            # megabytes behind each, would stay in the page cache.
            self._advise('RANDOM')
            self.specs, self._places, self._metadata = self._read_header()
            expected = self.checksums() if verify else {}
        except BaseException:
            self._file.close()
            raise
        self._verifier = checksums.Verifier(expected) if expected else None
        # In turns: one is compared while the next is read. None before anything is.
        self._buffers: list[Array] = []
        self._in_use: list[Future[None] | None] = [None, None]
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
        if not self._file.closed:
            self._advise('DONTNEED')
            self._file.close()

    def rest(self) -> None:
        """Give the memory of the buffers back until the next tensor is read."""
        for busy in filter(None, self._in_use):
            busy.result()
        self._buffers = []

    def read(self, name: str) -> Array:
        """Read a tensor."""
        return self.rows(name, 0, None)

    def rows(self, name: str, start: int, stop: int | None) -> Array:
        """Read rows start..stop of the first axis; None is its end."""
        spec = self.specs[name]
        shape = spec.shape if stop is None else (stop - start, *spec.shape[1:])
        out = np.empty(shape, DTYPES[spec.dtype])
        flat = out.reshape(-1)
        for begin, part in self._pieces(name, start * math.prod(spec.shape[1:]), len(flat)):
            flat[begin:begin + len(part)] = part
        return out

    def pieces(self, name: str) -> Iterator[tuple[int, Array]]:
        """Yield a tensor flat, in pieces that last until the next: number of the first, they."""
        return self._pieces(name, 0, math.prod(self.specs[name].shape))

    def _pieces(self, name: str, first: int, count: int) -> Iterator[tuple[int, Array]]:
        """Read `count` numbers from number `first` on; the pieces count from there."""
        spec = self.specs[name]
        size = spec.itemsize
        step = _BUFFER // size
        for start in range(0, count, step):
            self._raise_damage()
            if not self._buffers:
                self._buffers = [np.empty(_BUFFER, np.uint8)
                                 for _ in range(2 if self._verifier else 1)]
            turn = self._n_reads % len(self._buffers)
            self._n_reads += 1
            if (busy := self._in_use[turn]) is not None:
                busy.result()
            raw = self._buffers[turn][:min(step, count - start) * size]
            begin = (first + start) * size
            self._pread(raw, self._places[name] + begin)
            if self._verifier is not None:
                self._in_use[turn] = self._verifier.add(name, begin, raw.data, spec.nbytes)
            yield start, raw.view(DTYPES[spec.dtype])

    def _pread(self, raw: Array, offset: int) -> None:
        view, done = raw.data, 0
        while done < len(view):
            try:
                count = os.preadv(self._file.fileno(), [view[done:]], offset + done)
            except OSError as error:
                raise CheckpointError(f'{self.path} cannot be read: {error.strerror}') from error
            if not count:
                raise CheckpointError(f'{self.path} became shorter while it was read')
            done += count
        # Together with what was read before: of a large page that both have a part of, neither
        # call alone would give anything back.
        begin = max(0, offset - _BUFFER)
        self._advise('DONTNEED', begin, offset + done - begin)

    def _advise(self, advice: str, begin: int = 0, count: int = 0) -> None:
        """Advise the kernel about `count` bytes; 0: all the rest of the file."""
        if hasattr(os, 'posix_fadvise'):  # macOS has no such call
            os.posix_fadvise(self._file.fileno(), begin, count,
                             getattr(os, f'POSIX_FADV_{advice}'))

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
            if set(dtypes.values()) - set(DTYPES) and (why := foreign.foreign_tensors(dtypes)):
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
    if entry['dtype'] not in DTYPES:
        raise ValueError(f'{entry["dtype"]!r} is no type')
    return Spec(entry['dtype'], tuple(entry['shape'])), begin, end


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
            self._entries[name] = {'dtype': spec.dtype, 'shape': list(spec.shape),
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

    def write(self, name: str, array: Array, first_row: int = 0) -> None:
        """Write a tensor, or some of its rows, of the type that was announced."""
        spec = self._specs[name]
        if array.dtype != DTYPES[spec.dtype] or array.shape[1:] != spec.shape[1:]:
            raise ValueError(f'{name} is {array.dtype} {array.shape}, not {spec}')
        begin = first_row * math.prod(spec.shape[1:]) * spec.itemsize
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
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
