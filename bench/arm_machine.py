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

"""Programs for 64-bit ARM on other machines: a cross compiler, and qemu as the processor."""

from __future__ import annotations

from pathlib import Path
import shutil
import subprocess

from bench.replay import Machine

COMPILER = 'aarch64-linux-gnu-g++'
EMULATORS = ('qemu-aarch64', 'qemu-aarch64-static')  # only the first one takes plugins


def missing() -> str | None:
    """Return what is not there and how to get it, None if all is."""
    if shutil.which(COMPILER) and any(map(shutil.which, EMULATORS)):
        return None
    return (f'no {COMPILER} or no {EMULATORS[0]}: apt install g++-aarch64-linux-gnu qemu-user')


class EmulatedArm(Machine):
    """An ARM processor that runs one program."""

    def __init__(self, folder: Path, library: Path) -> None:
        super().__init__(folder, library, COMPILER)
        libc = subprocess.run([COMPILER, '-print-file-name=libc.so.6'], text=True, check=True,
                              stdout=subprocess.PIPE).stdout.strip()
        self._root = Path(libc).resolve().parents[1]
        self._emulator = next(filter(None, map(shutil.which, EMULATORS)))
        self.cpu = 'max'  # all that qemu knows; or a processor of `qemu-aarch64 -cpu help`
        self.options: list[str] = []

    def command(self) -> list[Path | str]:
        return [self._emulator, '-L', self._root, '-cpu', self.cpu, *self.options]
