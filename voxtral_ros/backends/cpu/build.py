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
Compile kernels/cpu into one library, which chooses its instructions when it is loaded.

The file that computes is compiled once per instruction set, so a library made here runs on any
processor of the same family.
"""

from __future__ import annotations

import os
from pathlib import Path
import shutil
import subprocess

from voxtral_ros.backends.build import (
    build_once, BuildError, cache_folder, definition, fingerprint, source_files)

LIBRARY = 'libvoxtral_cpu.so'


def sources() -> list[Path]:
    """Return the C++ files, headers included."""
    return source_files('cpu')


def instruction_sets(compiler: Path) -> dict[str, list[str]]:
    """Return the further flags of each instruction set that a compiler makes code for."""
    machine = _run(compiler, '-dumpmachine').split('-')[0]  # of x86_64-linux-gnu
    machine = {'amd64': 'x86_64', 'arm64': 'aarch64'}.get(machine, machine)
    return {'baseline': []} | definition('cpu')['instruction_sets'].get(machine, {})


def find_compiler() -> Path:
    """Return the C++ compiler: that of CXX, or g++, c++ or clang++ on PATH."""
    named = os.environ.get('CXX')
    for name in [named] if named else ['g++', 'c++', 'clang++']:
        found = shutil.which(name)
        if found:
            return Path(found)
    raise BuildError(f'CXX is {named}, but there is no such compiler' if named else
                     'no C++ compiler: install one, as `apt install g++`')


def cached() -> Path | None:
    """Return the library that `build` has made, None if it has not."""
    try:
        library = _place(find_compiler())
    except (BuildError, OSError, subprocess.SubprocessError):
        return None
    return library if library.is_file() else None


def build(output: Path | None = None) -> Path:
    """
    Compile the passes, or find them compiled, and return the library.

    With CXX, a cross compiler makes the library of another machine.

    :param output: where to put it; None is the cache
    :raises BuildError: there is no compiler, or it failed
    """
    compiler = find_compiler()
    return build_once(output or _place(compiler), output is not None,
                      lambda library: _compile(compiler, library))


def _place(compiler: Path) -> Path:
    options = [*definition('cpu')['flags'], repr(instruction_sets(compiler))]
    return cache_folder() / fingerprint(sources(), options, compiler) / LIBRARY


def _compile(compiler: Path, library: Path) -> None:
    units = {path.stem: path for path in sources() if path.suffix == '.cpp'}
    flags = definition('cpu')['flags']
    objects: list[Path] = []

    def compile_unit(name: str, *further: str) -> None:
        objects.append(library.parent / f'{len(objects)}.o')
        _run(compiler, *flags, *further, '-c', units[name], '-o', objects[-1])

    compile_unit('library')
    compile_unit('threads')
    for name, further in instruction_sets(compiler).items():
        compile_unit('forward', f'-DVOXTRAL_FORWARD=forward_{name}', *further)
    _run(compiler, '-shared', '-pthread', *objects, '-o', library)


def _run(*command: Path | str) -> str:
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False)
    if done.returncode:
        raise BuildError(f'{command[0]} failed:\n{done.stdout}')
    return done.stdout
