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
Checksums of tensors: CRC-32 of their bytes, in the metadata of the file or in a file beside it.

Cards and disks change bits without saying so, and a weight that has changed is a number like any
other. A file whose metadata has `crc32:<name>` for one tensor has it for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
import re
from typing import Any
import zlib

PREFIX = 'crc32:'  # and the name of a tensor: a key of the metadata
_SIDE_SUFFIX = '.crc32'
_CRC = re.compile('[0-9a-f]{8}')


class ChecksumError(ValueError):
    """Checksums that cannot be used; the message says why."""


class RunningChecksums:
    """CRC-32 of tensors whose bytes come in pieces; only pieces in order, from 0 on, count."""

    def __init__(self) -> None:
        self._state: dict[str, tuple[int, int]] = {}  # bytes so far, their CRC

    def add(self, name: str, begin: int, data: Any) -> None:
        """Take bytes `begin`.. of a tensor, as a buffer; 0 starts anew."""
        done, crc = self._state.get(name, (0, 0)) if begin else (0, 0)
        if begin == done:
            self._state[name] = begin + memoryview(data).nbytes, zlib.crc32(data, crc)

    def of(self, name: str, n_bytes: int) -> int | None:
        """Return the CRC of a tensor of so many bytes, None if they did not come in order."""
        done, crc = self._state.get(name, (0, 0))
        return crc if done == n_bytes else None


class Verifier:
    """Compares what is read with checksums, in a thread of its own, so that reading goes on."""

    def __init__(self, expected: Mapping[str, int]) -> None:
        self.damaged: list[str] = []  # names of tensors, in the order of reading
        self._expected = expected
        self._running = RunningChecksums()
        # One thread: the pieces of a tensor have to come in order.
        self._thread = ThreadPoolExecutor(1, 'checksums')

    def add(self, name: str, begin: int, data: Any, n_bytes: int) -> Future[None]:
        """
        Take bytes `begin`.. of a tensor of `n_bytes`.

        :return: done when `data` is not needed any more
        """
        return self._thread.submit(self._add, name, begin, data, n_bytes)

    def _add(self, name: str, begin: int, data: Any, n_bytes: int) -> None:
        self._running.add(name, begin, data)
        if begin + memoryview(data).nbytes == n_bytes \
                and self._running.of(name, n_bytes) not in (None, self._expected[name]):
            self.damaged.append(name)

    def close(self) -> None:
        """Wait for what is being compared, and end the thread."""
        self._thread.shutdown()


def metadata(checksums: Mapping[str, int]) -> dict[str, str]:
    """Return what the metadata of a file says about these tensors."""
    return {PREFIX + name: f'{crc:08x}' for name, crc in checksums.items()}


def from_metadata(values: Any, names: Iterable[str]) -> dict[str, int]:
    """
    Return the checksums in the metadata of a file, none or those of all tensors.

    :param names: of the tensors
    :raises ChecksumError: not all tensors have one
    """
    lines = values.items() if isinstance(values, Mapping) else ()
    return _complete({key.removeprefix(PREFIX): value for key, value in lines
                      if key.startswith(PREFIX)}, names)


def side_file(path: Path) -> Path:
    """Return where the checksums of a file are that has none itself."""
    return path.with_name(path.name + _SIDE_SUFFIX)


def read_side_file(path: Path, names: Iterable[str]) -> dict[str, int]:
    """
    Return the checksums beside a file, none if there is no such file.

    :raises ChecksumError: it cannot be read, or not all tensors have one
    """
    try:
        text = side_file(path).read_text(encoding='utf-8')
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ChecksumError(f'cannot be read: {error}') from None
    lines = [line.partition('  ') for line in text.splitlines()]
    found = _complete({name: crc for crc, _, name in lines}, names)
    if not found:
        raise ChecksumError('is empty')
    return found


def write_side_file(path: Path, checksums: Mapping[str, int]) -> Path:
    """Write the checksums of a file beside it; raise OSError where that is impossible."""
    target = side_file(path)
    target.write_text(''.join(f'{crc:08x}  {name}\n' for name, crc in checksums.items()),
                      encoding='utf-8')
    return target


def _complete(texts: Mapping[str, Any], names: Iterable[str]) -> dict[str, int]:
    """Return checksums as numbers; raise ChecksumError unless none or all of `names` have one."""
    if texts and (other := {*names} ^ {*texts}):
        raise ChecksumError(f'has no checksum for {min(other)}, or one for no tensor')
    if not all(isinstance(text, str) and _CRC.fullmatch(text) for text in texts.values()):
        raise ChecksumError('has a checksum that is no number')
    return {name: int(text, 16) for name, text in texts.items()}
