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
import platform
import shutil
import subprocess

from voxtral_ros.ops.build import build_once, BuildError, cache_folder, fingerprint
from voxtral_ros.resources import share_folder

LIBRARY = 'libvoxtral_cpu.so'
# As in CMakeLists.txt. Sums keep their order; of the rest, only multiply-adds are rounded at once.
_FLAGS = ('-std=c++17', '-O3', '-fPIC', '-ffp-contract=fast', '-fno-math-errno',
          '-fno-trapping-math', '-w')
_INSTRUCTIONS: dict[str, tuple[str, ...]] = {'baseline': ()}
if platform.machine() in ('x86_64', 'AMD64'):
    _INSTRUCTIONS |= {
        'avx2': ('-mavx2', '-mfma'),
        'avx512': ('-mavx512f', '-mavx512bw', '-mavx512dq', '-mavx512vl', '-mfma',
                   '-mprefer-vector-width=512')}


def sources() -> list[Path]:
    """Return the C++ files, headers included, of the source tree or the installation."""
    found = sorted((share_folder() / 'kernels' / 'cpu').iterdir())
    if not found:
        raise BuildError(f'no kernels/cpu in {share_folder()}: install the package again')
    return found


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

    :param output: where to put it; None is the cache
    :raises BuildError: there is no compiler, or it failed
    """
    compiler = find_compiler()
    return build_once(output or _place(compiler), output is not None,
                      lambda library: _compile(compiler, library))


def _place(compiler: Path) -> Path:
    options = repr((_FLAGS, _INSTRUCTIONS))
    return cache_folder() / fingerprint(sources(), [options], compiler) / LIBRARY


def _compile(compiler: Path, library: Path) -> None:
    folder, objects = share_folder() / 'kernels' / 'cpu', library.parent
    once = [(name, ()) for name in ('library', 'threads')]
    each = [('passes', (f'-DVOXTRAL_PASSES=passes_{name}', *flags))
            for name, flags in _INSTRUCTIONS.items()]
    made: list[Path] = []
    for name, flags in (*once, *each):
        made.append(objects / f'{len(made)}.o')
        _run(compiler, *_FLAGS, *flags, '-c', folder / f'{name}.cpp', '-o', made[-1])
    _run(compiler, '-shared', '-pthread', *made, '-o', library)


def _run(*command: Path | str) -> None:
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False)
    if done.returncode:
        raise BuildError(f'{command[0]} failed:\n{done.stdout}')
