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
Libraries of compiled kernels: how they are built once, and where they are found.

The flags of all compilers stand in kernels/build.json, which CMakeLists.txt reads as well. A
library lies in a cache, under a name made of all that went into it: sources, flags and compiler. A
build that was killed leaves no lock and no half library behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import fcntl
import hashlib
import json
import os
from pathlib import Path
import subprocess
import tempfile
from typing import Any

from voxtral_ros.resources import share_folder


class BuildError(RuntimeError):
    """Kernels cannot be compiled or found here; the message says what is missing or wrong."""


def definition(kind: str) -> dict[str, Any]:
    """Return what kernels/build.json says of one kind of kernels, 'cpu' or 'cuda'."""
    path = share_folder() / 'kernels' / 'build.json'
    section: dict[str, Any] = json.loads(path.read_text(encoding='utf-8'))[kind]
    return section


def source_files(kind: str) -> list[Path]:
    """
    Return the sources of one kind of kernels, headers included, in the tree or the installation.

    :raises BuildError: there are none
    """
    folder = share_folder() / 'kernels' / kind
    found = sorted(path for path in folder.glob('*') if path.is_file())
    if not found:
        raise BuildError(f'no kernels in {folder}: install the package again')
    return found


def fingerprint(files: Sequence[Path], options: Sequence[str], compiler: Path) -> str:
    """Return the hash of what makes a library: sources, flags and compiler."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b'\0' + path.read_bytes() + b'\0')
    digest.update('\0'.join(options).encode())
    digest.update(subprocess.run([compiler, '--version'], capture_output=True, check=True).stdout)
    return digest.hexdigest()[:16]


def cache_folder() -> Path:
    """Return where libraries are kept: below XDG_CACHE_HOME or ~/.cache."""
    root = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(root) / 'voxtral_ros'


def build_once(library: Path, again: bool, make: Callable[[Path], None]) -> Path:
    """
    Return a library, made if it is not there; one process makes it, others wait.

    :param again: make it even if it is there
    :param make: makes the file that it is given, in a folder of its own
    """
    if not again and library.is_file():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    # The kernel releases the lock of a process that dies.
    with (library.parent / '.lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not again and library.is_file():
            return library
        with tempfile.TemporaryDirectory(dir=library.parent, prefix='.build-') as folder:
            made = Path(folder) / library.name
            make(made)
            os.replace(made, library)
    return library


def named(variable: str) -> Path | None:
    """
    Return the library that a variable of the environment names, None if it is not set.

    :raises BuildError: it names a file that is not there
    """
    value = os.environ.get(variable)
    if value and not Path(value).is_file():
        raise BuildError(f'{variable} is {value}, but there is no such file')
    return Path(value) if value else None


def installed(name: str) -> Path | None:
    """Return a library that colcon has built: lib/voxtral_ros, some folders up from here."""
    for folder in Path(__file__).parents:
        candidate = folder / 'lib' / 'voxtral_ros' / name
        if candidate.is_file():
            return candidate
    return None
