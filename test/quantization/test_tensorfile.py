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

"""Safetensors in pieces: the same bytes as the library, in any order, through any buffer."""

import ctypes
import json
import mmap
import os
import sys

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
from safetensors.torch import load_file, save, save_file
import torch

from voxtral_ros.quantization import tensorfile
from voxtral_ros.quantization.tensorfile import CheckpointError, Spec, TensorFile, TensorWriter
from voxtral_ros.quantization.tensors import as_array, as_tensor, NAMES, read_tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.int8, torch.int32, torch.int64,
          torch.uint8, torch.float64, torch.int16)
TENSORS = st.dictionaries(
    st.text('ab.wé"\\\n', min_size=1, max_size=6),
    st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 5), max_size=3)),
    max_size=6)


def filled(specs):
    """Return tensors of these (dtype, shape) that are all different."""
    return {name: (torch.arange(torch.Size(shape).numel()) + 7 * number).reshape(shape).to(dtype)
            for number, (name, (dtype, shape)) in enumerate(specs.items())}


def write(path, tensors):
    specs = {name: Spec(NAMES[tensor.dtype], tuple(tensor.shape))
             for name, tensor in tensors.items()}
    with TensorWriter(path, specs) as writer:
        for name in reversed(list(tensors)):
            writer.write(name, as_array(tensors[name]))
        writer.sync()


@given(TENSORS)
def test_the_bytes_are_those_of_the_library(tmp_path_factory, specs):
    path = tmp_path_factory.mktemp('file') / 'a.safetensors'
    tensors = filled(specs)
    write(path, tensors)
    assert path.read_bytes() == save(tensors)


@given(TENSORS)
def test_what_the_library_wrote_is_read(tmp_path_factory, specs):
    path = tmp_path_factory.mktemp('file') / 'a.safetensors'
    tensors = filled(specs)
    save_file(tensors, path)
    with TensorFile(path) as file:
        assert set(file.specs) == set(tensors)
        for name, tensor in tensors.items():
            for found in (as_tensor(file.read(name), file.specs[name].dtype),
                          read_tensor(file, name)):
                assert found.dtype == tensor.dtype
                assert torch.equal(found, tensor)


@pytest.mark.parametrize('buffer', [8, 24, 1 << 20])
def test_large_tensors_go_through_a_small_buffer(tmp_path, monkeypatch, buffer):
    monkeypatch.setattr(tensorfile, '_BUFFER', buffer)
    tensor = torch.randn(37, 11)
    save_file({'first': torch.zeros(3), 'matrix': tensor}, tmp_path / 'a')
    with TensorFile(tmp_path / 'a') as file:
        assert np.array_equal(file.read('matrix'), tensor)
        assert np.array_equal(file.rows('matrix', 5, 36), tensor[5:36])
        assert file.rows('matrix', 4, 4).shape == (0, 11)
        half = read_tensor(file, 'matrix', dtype=torch.bfloat16)
        assert torch.equal(half, tensor.bfloat16())


def test_rows_are_written_in_any_order(tmp_path):
    tensor = torch.arange(60.0).reshape(20, 3)
    specs = {'x': Spec('F32', (20, 3)), 'y': Spec('I8', (2,))}
    with TensorWriter(tmp_path / 'a', specs) as writer:
        for start in (15, 0, 5, 10):
            writer.write('x', tensor[start:start + 5].numpy(), start)
    found = load_file(tmp_path / 'a')
    assert torch.equal(found['x'], tensor)
    assert found['y'].tolist() == [0, 0]


@pytest.mark.parametrize('wrong', [np.zeros((2, 3), np.float32), np.zeros((2, 4), np.int8)])
def test_what_was_not_announced_is_not_written(tmp_path, wrong):
    with TensorWriter(tmp_path / 'a', {'x': Spec('F32', (2, 4))}) as writer, \
            pytest.raises(ValueError, match='x is .*F32'):
        writer.write('x', wrong)


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
    save_file({'x': torch.zeros(1000)}, tmp_path / 'a')
    with TensorFile(tmp_path / 'a') as file:
        with (tmp_path / 'a').open('r+b') as same:
            same.truncate(2000)
        with pytest.raises(CheckpointError, match='became shorter'):
            file.read('x')


@pytest.mark.parametrize('places', [
    [(0, 8), (4, 12)], [(0, 8), (0, 8)], [(0, 8), (12, 20)], [(4, 12), (12, 20)],
    [(0, 4), (4, 12)], [(0, 8), (8, 20)], [(8, 0), (8, 16)]],
    ids=['overlap', 'same', 'gap', 'late', 'small', 'large', 'backwards'])
def test_tensors_must_follow_each_other(tmp_path, places):
    header = json.dumps({name: {'dtype': 'F32', 'shape': [2], 'data_offsets': place}
                         for name, place in zip('ab', places, strict=True)}).encode()
    end = max(place[1] for place in places)
    (tmp_path / 'a').write_bytes(len(header).to_bytes(8, 'little') + header + bytes(end))
    with pytest.raises(CheckpointError, match='header is damaged'):
        TensorFile(tmp_path / 'a')


def resident(path):
    """Return how many bytes of a file are in the page cache."""
    size = path.stat().st_size
    with path.open('rb') as file, mmap.mmap(
            file.fileno(), size, flags=mmap.MAP_PRIVATE,
            prot=mmap.PROT_READ | mmap.PROT_WRITE) as view:
        pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
        start = ctypes.c_char.from_buffer(view)
        result = ctypes.CDLL(None).mincore(
            ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(size), pages)
        del start
        assert result == 0
        return mmap.PAGESIZE * sum(page & 1 for page in pages)


@pytest.mark.skipif(sys.platform != 'linux', reason='asks Linux what is in the page cache')
def test_pages_that_were_read_leave_the_page_cache(tmp_path, monkeypatch):
    """On a board whose GPU shares the memory, a cached file would take the place of weights."""
    monkeypatch.setattr(tensorfile, '_BUFFER', 3 << 20)
    path = tmp_path / 'a'
    numbers = np.zeros(0x155555, np.float32)  # 5.6 MB
    specs = {f'{n:02}': Spec('F32', numbers.shape) for n in range(24)}
    with TensorWriter(path, specs) as writer:
        for name in specs:
            writer.write(name, numbers)
        writer.sync()
    with path.open('rb') as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if resident(path):
        pytest.skip('this file system keeps files in memory')
    with TensorFile(path) as file:
        for name in [f'{n:02}' for n in range(23, 0, -2)]:  # not in the order of the file
            file.read(name)
        assert resident(path) <= 8 << 20  # of 67 MB
    assert resident(path) <= mmap.PAGESIZE


def test_where_the_page_cache_cannot_be_told_a_file_is_read_all_the_same(tmp_path, monkeypatch):
    """As on macOS."""
    monkeypatch.delattr(tensorfile.os, 'posix_fadvise')
    save_file({'x': torch.arange(5.0)}, tmp_path / 'a')
    with TensorFile(tmp_path / 'a') as file:
        assert file.read('x').tolist() == [0, 1, 2, 3, 4]
