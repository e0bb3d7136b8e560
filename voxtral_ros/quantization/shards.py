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
"""The files that a large model is cut into, read as one: shards, with or without an index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from voxtral_ros.quantization.tensorfile import Array, CheckpointError, Spec, TensorFile


class ShardedFile:
    """A TensorSource over several files; only the one that was read last has buffers."""

    def __init__(self, paths: Sequence[Path], index: Mapping[str, str] | None = None,
                 verify: bool = False) -> None:
        """
        Open all files.

        :param index: tensor -> name of its file, if the model comes with that
        :param verify: compare what is read with checksums; see TensorFile
        :raises CheckpointError: one of them is unusable, they have a tensor twice, or they are not
            what the index says
        """
        self.path = paths[0].parent
        self._files: dict[str, TensorFile] = {}  # tensor -> where it is
        self._reading: TensorFile | None = None
        self.specs: dict[str, Spec] = {}
        with ExitStack() as opened:
            self._opened = [opened.enter_context(TensorFile(path, verify)) for path in paths]
            for file in self._opened:
                for name, spec in file.specs.items():
                    if name in self._files:
                        raise CheckpointError(
                            f'{self.path}: {name} is in two files, {self._files[name].path.name} '
                            f'and {file.path.name}: they are not of one model')
                    self._files[name], self.specs[name] = file, spec
            if index is not None:
                self._compare(index)
            opened.pop_all()

    def _compare(self, index: Mapping[str, str]) -> None:
        found = {name: file.path.name for name, file in self._files.items()}
        for name in sorted({*index, *found}):
            if found.get(name) != index.get(name):
                raise CheckpointError(
                    f'{self.path}: the index has {name} in {index.get(name, "no file")}, but it '
                    f'is in {found.get(name, "none of them")}: index and files do not belong '
                    'together, download them again')

    def read(self, name: str) -> Array:
        """Read a tensor."""
        return self._file(name).read(name)

    def rows(self, name: str, start: int, stop: int | None) -> Array:
        """Read rows start..stop of the first axis; None is its end."""
        return self._file(name).rows(name, start, stop)

    def pieces(self, name: str) -> Iterator[tuple[int, Array]]:
        """Yield a tensor flat, in pieces that last until the next: number of the first, they."""
        return self._file(name).pieces(name)

    def check(self) -> None:
        """Raise CheckpointError if something that was read is not that of its checksum."""
        for file in self._opened:
            file.check()

    def close(self) -> None:
        for file in self._opened:
            file.close()

    def _file(self, name: str) -> TensorFile:
        file = self._files[name]
        if self._reading not in (None, file):
            self._reading.rest()  # type: ignore[union-attr]
        self._reading = file
        return file
