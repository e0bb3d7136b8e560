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

import os
from pathlib import Path
import shutil
import subprocess
from unittest import mock

from bench.replay import Machine, Recording

from voxtral_ros.backends.cpu.build import build, find_compiler

PLUGIN = Path(__file__).parent / 'count_instructions.c'
COMPILER = 'aarch64-linux-gnu-g++'
EMULATORS = ('qemu-aarch64', 'qemu-aarch64-static')  # only the first one may take plugins


def missing() -> str | None:
    """Return what is not there and how to get it, None if all is."""
    if shutil.which(COMPILER) and any(map(shutil.which, EMULATORS)):
        return None
    return (f'no {COMPILER} or no {EMULATORS[0]}: apt install g++-aarch64-linux-gnu qemu-user')


def build_library() -> Path:
    """Compile the library for ARM, or find it compiled."""
    with mock.patch.dict(os.environ, CXX=COMPILER):
        return build()


class EmulatedArm(Machine):
    """An ARM processor that runs one program."""

    def __init__(self, folder: Path, library: Path) -> None:
        super().__init__(folder, library, COMPILER)
        libc = subprocess.run([COMPILER, '-print-file-name=libc.so.6'], text=True, check=True,
                              stdout=subprocess.PIPE).stdout.strip()
        self._root = Path(libc).resolve().parents[1]
        self._emulator = next(filter(None, map(shutil.which, EMULATORS)))
        self._options: list[Path | str] = []
        self.processor = 'max'  # all that qemu knows, or one of `qemu-aarch64 -cpu help`

    def command(self) -> list[Path | str]:
        return [self._emulator, '-L', self._root, '-cpu', self.processor, *self._options]


class CountingArm(EmulatedArm):
    """One that counts the instructions it executes."""

    def __init__(self, folder: Path, library: Path) -> None:
        """
        Compile the plugin of the emulator.

        :raises RuntimeError: the emulator takes no plugins, or only newer ones
        """
        super().__init__(folder, library)
        plugin, empty = folder / 'count_instructions.so', Recording()
        subprocess.run([find_compiler(), '-x', 'c', '-shared', '-fPIC', '-O2', PLUGIN,
                        '-o', plugin], check=True)
        self._options = ['-plugin', plugin]
        done = self.run(empty)
        if done.returncode:
            raise RuntimeError(f'{self._emulator} does not count: {done.stderr.strip()}; '
                               'qemu-user of Debian 12 does')

    def count(self, recording: Recording, n_calls: int,
              instructions: str | None = None) -> tuple[str, int]:
        """Return the instruction set and what a program executes that makes the first calls."""
        done = self.run(recording, instructions, n_calls)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.strip(), int(done.stderr.split()[-2])
