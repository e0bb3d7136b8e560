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

"""Building the kernels: with the real compiler if it is here, and the cache with a stand-in."""

from functools import cache
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from voxtral_ros.backends.cuda import build as building
from voxtral_ros.backends.cuda.build import (
    build, BuildError, cached, find_nvcc, flags, LIBRARY, sources)

NVCC = shutil.which('nvcc') or shutil.which('/usr/local/cuda/bin/nvcc')
NVDISASM = shutil.which('nvdisasm') or next((
    path for folder in sys.path for path in [Path(folder, 'nvidia', 'cu13', 'bin', 'nvdisasm')]
    if path.is_file()), None)
needs_nvcc = pytest.mark.skipif(NVCC is None, reason='no nvcc: install the CUDA toolkit')

# Writes what it is asked for; counts its calls, and takes its time if it is asked to.
STAND_IN = """#!/bin/sh
if [ "$1" = --version ]; then echo "stand-in $VERSION"; exit; fi
echo call >> "$CALLS"
[ -n "$FAIL" ] && { echo "error: no such intrinsic" >&2; exit 2; }
sleep "${SLEEP:-0}"
while [ $# -gt 0 ]; do [ "$1" = -o ] && echo made > "$2"; [ "$1" = -MF ] && : > "$2"; shift; done
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Put a compiler that compiles nothing in place; return the file that counts its calls."""
    home = tmp_path / 'cuda'
    (home / 'bin').mkdir(parents=True)
    (home / 'bin' / 'nvcc').write_text(STAND_IN)
    (home / 'bin' / 'nvcc').chmod(0o755)
    monkeypatch.setenv('CUDA_HOME', str(home))
    monkeypatch.setenv('CXX', str(home / 'bin' / 'nvcc'))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('CALLS', str(tmp_path / 'calls'))
    (tmp_path / 'calls').touch()
    return tmp_path / 'calls'


def n_calls(file):
    return len(file.read_text().splitlines())


@pytest.fixture(scope='module')
def compiled(tmp_path_factory):
    """Return a function: name of a source to its files for SM87 and what the compiler said."""
    folder = tmp_path_factory.mktemp('cubin')

    @cache
    def compile_(source):
        path = next(path for path in sources() if path.name == source)
        cubin = folder / f'{path.stem}.cubin'
        done = subprocess.run(
            [NVCC, '-std=c++17', '-O3', '-Xptxas', '-v', '-cubin', '-arch=sm_87', '--keep',
             '--keep-dir', folder, path, '-o', cubin], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return cubin, cubin.with_suffix('.ptx'), done.stderr

    return compile_


@pytest.mark.slow
@needs_nvcc
@pytest.mark.parametrize('source', [
    path.name for path in sources() if path.suffix == '.cu' and '__global__' in path.read_text()])
def test_compiles_for_orin_without_spills(compiled, source):
    *_, said = compiled(source)
    assert 'warning' not in said
    spills = re.findall(r'(\d+) bytes spill stores, (\d+) bytes spill loads', said)
    assert spills
    assert all(spill == ('0', '0') for spill in spills)


def loops(code):
    """Return the loops of a disassembled kernel: what lies between a label and a jump back."""
    lines, labels = code.splitlines(), {}
    for number, line in enumerate(lines):
        if label := re.match(r'(\.L_x_\d+):', line):
            labels[label[1]] = number
        elif (jump := re.search(r'BRA.* `\((\.L_x_\d+)\)', line)) and jump[1] in labels:
            yield '\n'.join(lines[labels[jump[1]]:number])


@pytest.mark.slow
@needs_nvcc
@pytest.mark.skipif(NVDISASM is None, reason='no nvdisasm: install the CUDA toolkit')
def test_the_main_loop_of_the_gemm_loads_128_bits(compiled):
    cubin, *_ = compiled('gemm.cu')
    code = subprocess.run([NVDISASM, cubin], capture_output=True, text=True, check=True).stdout
    kernels = [part for part in re.split(r'^\.text\.', code, flags=re.M)[1:]
               if 'gemm_kernel' in part.splitlines()[0]]
    assert len(kernels) > 50
    for kernel in kernels:
        main = min((loop for loop in loops(kernel) if 'HMMA' in loop and 'LDGSTS' in loop),
                   key=len)
        copies = re.findall(r'LDGSTS\S*', main)  # from global to shared memory
        assert len(copies) >= 8 and set(copies) == {'LDGSTS.E.BYPASS.128'}
        assert not re.search(r'LDG\.', main)
        assert main.count('LDS.128') >= 2 and main.count('HMMA') >= 4


@pytest.mark.slow
@needs_nvcc
def test_the_gemm_copies_128_bits_and_gives_no_cache_hints(compiled):
    _, ptx, _ = compiled('gemm.cu')
    kernels = ptx.read_text().split('.entry ')[1:]
    assert len(kernels) > 50
    for kernel in kernels:
        copies = re.findall(r'cp\.async\.\S+ \[\S+\], \[\S+\], 16', kernel)
        assert len(copies) >= 16  # eight before the loop and eight in it
        assert kernel.count('ld.shared.v4.u32') >= 2
        assert kernel.count('mma.sync') >= 4
    assert 'createpolicy' not in ''.join(kernels)


def test_a_library_is_built_once(stand_in):
    first = build(architectures=[])
    assert first.is_file()
    calls = n_calls(stand_in)
    assert calls == 1 + sum(path.suffix == '.cu' for path in sources())
    assert build(architectures=[]) == first
    assert n_calls(stand_in) == calls
    if building.native_architecture() is None:
        assert cached() == first


def test_another_compiler_or_target_is_another_library(stand_in, monkeypatch):
    first = build(architectures=[])
    assert build(architectures=[90]) != first
    monkeypatch.setenv('VERSION', '2')
    assert build(architectures=[]) != first


def test_a_killed_build_leaves_nothing_that_hangs_the_next(stand_in, monkeypatch):
    script = 'from voxtral_ros.backends.cuda.build import build; build(architectures=[], jobs=1)'
    environment = dict(os.environ, SLEEP='60')
    process = subprocess.Popen([sys.executable, '-c', script], env=environment,
                               start_new_session=True)
    while n_calls(stand_in) == 0:
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert cached() is None
    assert build(architectures=[]).read_text() == 'made\n'


def test_the_message_of_the_compiler_is_passed_on(stand_in, monkeypatch):
    monkeypatch.setenv('FAIL', '1')
    with pytest.raises(BuildError, match='no such intrinsic'):
        build(architectures=[])
    assert cached() is None


def test_without_a_compiler_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.delenv('CUDA_HOME', raising=False)
    monkeypatch.delenv('CUDA_PATH', raising=False)
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.setattr(building, '_USUAL_NVCC', tmp_path / 'nvcc')
    with pytest.raises(BuildError, match='install the CUDA toolkit'):
        find_nvcc()


def test_a_library_can_be_put_elsewhere(stand_in, tmp_path):
    wanted = tmp_path / 'lib' / 'a name of its own.so'
    assert build(wanted, architectures=[]) == wanted
    assert wanted.is_file()


def test_orin_is_always_among_the_targets():
    assert flags() == flags([87])
    joined = ' '.join(flags([90]))
    assert 'compute_87,code=[sm_87,compute_87]' in joined
    assert 'code=sm_90' in joined


def test_the_command_says_what_is_wrong(stand_in, monkeypatch, capsys):
    from voxtral_ros.cli.main import main
    assert main(['build-kernels', '--arch', '90']) == 0
    assert capsys.readouterr().out.strip().endswith(LIBRARY)
    monkeypatch.setenv('FAIL', '1')
    assert main(['build-kernels', '--arch', '89']) == 1
    assert 'no such intrinsic' in capsys.readouterr().err


def test_named_library_must_be_there(monkeypatch, tmp_path):
    from voxtral_ros.backends.cuda import library
    monkeypatch.setenv('VOXTRAL_KERNELS', str(tmp_path / 'none.so'))
    library.load.cache_clear()
    with pytest.raises(BuildError, match='no such file'):
        library.load()
    (tmp_path / 'none.so').write_text('no library')
    with pytest.raises(BuildError, match='voxtral build-kernels'):
        library.load()
    library.load.cache_clear()
