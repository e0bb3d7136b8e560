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

"""Finding the library of kernels, and what it says of itself."""

import shutil
import subprocess

import pytest

from voxtral_ros.backends.build import BuildError
from voxtral_ros.backends.cuda import library
from voxtral_ros.backends.cuda.build import flags, sources

NVCC = shutil.which('nvcc') or shutil.which('/usr/local/cuda/bin/nvcc')
needs_nvcc = pytest.mark.skipif(NVCC is None, reason='no nvcc: install the CUDA toolkit')
needs_cc = pytest.mark.skipif(not shutil.which('cc'), reason='no C compiler: apt install gcc')


@pytest.fixture
def use(monkeypatch):
    """Return a function that puts a library in the place of ours."""
    def use_(path):
        monkeypatch.setenv('VOXTRAL_KERNELS', str(path))
        library.load.cache_clear()

    yield use_
    library.load.cache_clear()


@needs_nvcc
@pytest.mark.parametrize('more', [[], [90], [90, 120]])
def test_it_knows_what_it_was_compiled_for(tmp_path, use, more):
    source, = (path for path in sources() if path.name == 'library.cu')
    made = tmp_path / 'library.so'
    subprocess.run([NVCC, *flags(more), '-shared', source, '-o', made], check=True)
    use(made)
    assert library.find() == made
    assert library.architectures() == [87, *more]


@needs_cc
def test_one_from_before_it_knew(tmp_path, use):
    made = tmp_path / 'library.so'
    subprocess.run(['cc', '-shared', '-fPIC', '-x', 'c', '-', '-o', made],
                   input='int other(void) {return 0;}', text=True, check=True)
    use(made)
    assert library.architectures() == []


def test_a_file_that_is_named_and_not_there(tmp_path, use):
    use(tmp_path / 'none.so')
    with pytest.raises(BuildError, match='no such file'):
        library.find()


def test_finding_compiles_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv('VOXTRAL_KERNELS', raising=False)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(library, 'installed', lambda name: None)
    assert library.find() is None
    assert not any(tmp_path.iterdir())
