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
Compile kernels/cuda into one library without a trace of torch or Python in it.

It holds machine code for SM87 and PTX of compute_87, which newer GPUs can translate, and machine
code for the GPU of this machine if that is another one.
"""

from __future__ import annotations

from collections.abc import Sequence
import os
from pathlib import Path
import shutil
import subprocess
import sys

from voxtral_ros.backends.build import (
    build_once, BuildError, cache_folder, definition, fingerprint, source_files)

__all__ = ['BuildError', 'build', 'cached', 'find_nvcc', 'flags', 'native_architecture', 'sources']

LIBRARY = 'libvoxtral_kernels.so'
_USUAL_NVCC = Path('/usr/local/cuda/bin/nvcc')


def sources() -> list[Path]:
    """Return the CUDA files, headers included."""
    return source_files('cuda')


def find_nvcc() -> Path:
    """Return CUDA's compiler: that of CUDA_HOME, on PATH, or in /usr/local/cuda."""
    homes = [os.environ[name] for name in ('CUDA_HOME', 'CUDA_PATH') if os.environ.get(name)]
    on_path = shutil.which('nvcc')
    candidates = [Path(home, 'bin', 'nvcc') for home in homes] \
        + ([Path(on_path)] if on_path else []) + [_USUAL_NVCC]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise BuildError('no nvcc, the compiler of CUDA: install the CUDA toolkit (on a Jetson, '
                     'nvidia-jetpack) or point CUDA_HOME at it')


def native_architecture() -> int | None:
    """Return the compute capability of the first GPU as 10 * major + minor, None without one."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability(0)
    return 10 * major + minor


def flags(architectures: Sequence[int] = ()) -> list[str]:
    """Return the flags of nvcc for SM87 and, as machine code, further architectures."""
    extra = [f'-gencode=arch=compute_{arch},code=sm_{arch}'
             for arch in sorted({*architectures} - {87})]
    return [*definition('cuda')['flags'], *extra]


def default_jobs() -> int:
    """Return how many compilers may run at once: each wants up to a gigabyte."""
    try:
        free = os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    except (OSError, ValueError):
        free = 1 << 30
    return max(1, min(4, os.cpu_count() or 1, free >> 30))


def cached() -> Path | None:
    """Return the library that `build` has made for this machine, None if it has not."""
    try:
        library = _place(flags(_native()), find_nvcc())
    except (BuildError, OSError, subprocess.SubprocessError):
        return None
    return library if library.is_file() else None


def _place(options: Sequence[str], nvcc: Path) -> Path:
    return cache_folder() / fingerprint(sources(), options, nvcc) / LIBRARY


def _native() -> list[int]:
    native = native_architecture()
    return [] if native is None else [native]


def build(output: Path | None = None, jobs: int | None = None,
          architectures: Sequence[int] | None = None, verbose: bool = False) -> Path:
    """
    Compile the kernels, or find them compiled, and return the library.

    :param output: where to put it; None is the cache
    :param architectures: to add to SM87, as 90 for compute capability 9.0; None is that of the
        GPU of this machine
    :raises BuildError: there is no compiler, or it failed
    """
    nvcc = find_nvcc()
    options = flags(_native() if architectures is None else architectures)
    return build_once(
        output or _place(options, nvcc), output is not None,
        lambda library: _compile(nvcc, options, library, jobs or default_jobs(), verbose))


def _compile(nvcc: Path, options: Sequence[str], library: Path, jobs: int, verbose: bool) -> None:
    """Run nvcc through ninja, a few at a time."""
    folder = library.parent
    units = [path for path in sources() if path.suffix == '.cu']
    lines = [
        f'nvcc = {_escape(nvcc)}', f'flags = {" ".join(map(_quote, options))}',
        'rule compile', '  command = $nvcc $flags -MD -MF $out.d -c $in -o $out',
        '  depfile = $out.d', '  description = nvcc $in',
        'rule link', '  command = $nvcc $flags -shared $in -o $out', '  description = link $out']
    objects = [f'{path.stem}.o' for path in units]
    for path, made in zip(units, objects, strict=True):
        lines.append(f'build {made}: compile {_escape(path)}')
    lines.append(f'build {_escape(library.name)}: link ' + ' '.join(objects))
    (folder / 'build.ninja').write_text('\n'.join(lines) + '\n', encoding='utf-8')
    command = [*_ninja(), '-C', str(folder), '-j', str(jobs)]
    done = subprocess.run(command, text=True, stdout=None if verbose else subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise BuildError(f'nvcc failed:\n{done.stdout or "see above"}')


def _ninja() -> list[str]:
    on_path = shutil.which('ninja')
    if on_path:
        return [on_path]
    try:
        import ninja  # noqa: F401
    except ImportError:
        raise BuildError('no ninja: install it with `pip install ninja` or '
                         '`apt install ninja-build`') from None
    return [sys.executable, '-m', 'ninja']


def _escape(path: Path | str) -> str:
    """Write a path for build.ninja."""
    return str(path).replace('$', '$$').replace(' ', '$ ').replace(':', '$:')


def _quote(flag: str) -> str:
    """Protect the brackets of a flag from the shell."""
    return f"'{flag}'" if '[' in flag else flag
