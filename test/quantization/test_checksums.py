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

"""Checksums of tensors: every changed bit is noticed, whatever way a file is read."""

import json
import zlib

import numpy as np
import pytest
from quantization import packable
from safetensors import safe_open
from safetensors.torch import load_file, save_file
import torch

from voxtral_ros.model.checkpoint import CheckpointError, WEIGHTS
from voxtral_ros.model.loading import load_network
from voxtral_ros.quantization import checksums, tensorfile
from voxtral_ros.quantization.format import Recipe
from voxtral_ros.quantization.inspection import inspect
from voxtral_ros.quantization.quantizer import QuantizationError, quantize
from voxtral_ros.quantization.tensorfile import Spec, TensorFile, TensorWriter
from voxtral_ros.quantization.tensors import as_array, NAMES

TENSORS = {'codes': torch.arange(4000, dtype=torch.int32).reshape(40, 100),
           'empty': torch.zeros(0, 3), 'norm': torch.linspace(0.5, 2.0, 77).bfloat16(),
           'scale': torch.rand(20, 10).half()}
SMALLEST = Recipe('mse', 8, 4)


def write(path, order=1, tensors=TENSORS):
    """Write a file with checksums, in blocks of rows, in this order or from the back."""
    specs = {name: Spec(NAMES[tensor.dtype], tuple(tensor.shape))
             for name, tensor in tensors.items()}
    with TensorWriter(path, specs, with_checksums=True) as writer:
        for name, tensor in tensors.items():
            for row in list(range(0, len(tensor), 7))[::order]:
                writer.write(name, as_array(tensor[row:row + 7]), row)
        writer.sync()
    return path


def read_all(path):
    with TensorFile(path, verify=True) as file:
        for name in file.specs:
            file.read(name)
        file.check()


def refusal(path):
    with pytest.raises(CheckpointError) as error:
        read_all(path)
    return str(error.value)


def data_start(path):
    return 8 + int.from_bytes(path.read_bytes()[:8], 'little')


def flip(path, place, bit=0):
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


@pytest.mark.parametrize('order', [1, -1])
def test_the_metadata_has_the_crc_of_every_tensor(tmp_path, order):
    path = write(tmp_path / 'a', order)
    with safe_open(path, 'pt') as file:
        assert file.metadata() == {
            f'crc32:{name}': f'{zlib.crc32(tensor.view(-1).view(torch.uint8).numpy()):08x}'
            for name, tensor in TENSORS.items()}
    for name, tensor in load_file(path).items():
        assert torch.equal(tensor, TENSORS[name])
    read_all(path)


def test_what_is_never_written_is_zero_and_has_its_checksum(tmp_path):
    with TensorWriter(tmp_path / 'a', {'x': Spec('I8', (9,))}, True) as writer:
        writer.sync()
    read_all(tmp_path / 'a')


@pytest.mark.parametrize('buffer', [8, 24, 1 << 20])
def test_every_changed_byte_is_noticed(tmp_path, monkeypatch, buffer):
    monkeypatch.setattr(tensorfile, '_BUFFER', buffer)
    path = write(tmp_path / 'a')
    content, start = path.read_bytes(), data_start(path)
    rng = np.random.default_rng(0)
    for place in [start, len(content) - 1, *rng.integers(start, len(content), 40)]:
        path.write_bytes(content)
        flip(path, int(place), int(rng.integers(8)))
        assert 'is damaged, its checksum is another' in refusal(path)


def test_the_tensor_is_named(tmp_path):
    path = write(tmp_path / 'a')
    with TensorFile(path) as file:
        place = file._places['norm']
    flip(path, place)
    assert 'norm is damaged' in refusal(path)


def test_a_changed_checksum_is_noticed_too(tmp_path):
    path = write(tmp_path / 'a', tensors={  # of none there is nothing to compare
        name: tensor for name, tensor in TENSORS.items() if name != 'empty'})
    content = path.read_bytes()
    rng = np.random.default_rng(1)
    begin, end = content.index(b'crc32'), content.index(b'}')
    for place in rng.integers(begin, end, 60):
        path.write_bytes(content)
        flip(path, int(place), int(rng.integers(8)))
        refusal(path)


def test_rows_in_order_are_compared(tmp_path):
    path = write(tmp_path / 'a')
    flip(path, path.stat().st_size - 1)
    last = max(TENSORS, key=lambda name: TensorFile(path)._places[name])
    with TensorFile(path, verify=True) as file:
        n_rows = file.specs[last].shape[0]
        for row in range(n_rows):
            file.rows(last, row, row + 1)
        with pytest.raises(CheckpointError, match=f'{last} is damaged'):
            file.check()


def test_without_checksums_nothing_is_compared(tmp_path):
    save_file(TENSORS, tmp_path / 'a')
    flip(tmp_path / 'a', data_start(tmp_path / 'a'))
    read_all(tmp_path / 'a')


# ---- beside the file ----

@pytest.fixture
def beside(tmp_path):
    """Return a file without checksums, which lie beside it."""
    save_file(TENSORS, tmp_path / 'a')
    with TensorFile(write(tmp_path / 'b')) as file:
        side = checksums.write_side_file(tmp_path / 'a', file.checksums())
    assert side == tmp_path / 'a.crc32'
    return tmp_path / 'a'


def test_checksums_beside_the_file_count_as_well(beside):
    read_all(beside)
    flip(beside, beside.stat().st_size - 1)
    assert 'is damaged' in refusal(beside)


@pytest.mark.parametrize('text', ['', '1234abcd  norm\n', 'no checksums here', '\xff'])
def test_what_is_not_about_this_file_says_what_to_do(beside, text):
    beside.with_name('a.crc32').write_bytes(text.encode('latin-1'))
    message = refusal(beside)
    assert 'a.crc32' in message
    assert 'voxtral verify --write' in message


def test_those_in_the_file_come_first(beside):
    write(beside)
    beside.with_name('a.crc32').write_text('nonsense')
    read_all(beside)


# ---- of a whole model ----

@pytest.fixture(scope='module')
def quantized(tmp_path_factory):
    root = tmp_path_factory.mktemp('models')
    quantize(packable.write(root / 'dense'), root / 'small', SMALLEST)
    return root / 'small'


@pytest.fixture
def folder(tmp_path, quantized):
    for file in quantized.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_damage_anywhere_keeps_a_model_from_loading(folder):
    path = folder / WEIGHTS
    content, start = path.read_bytes(), data_start(path)
    rng = np.random.default_rng(2)
    for place in rng.integers(start, len(content), 30):
        path.write_bytes(content)
        flip(path, int(place), int(rng.integers(8)))
        with pytest.raises(CheckpointError, match='damaged'):
            load_network(folder)
        load_network(folder, verify=False)


def test_damage_in_whatever_is_read_last(folder):
    path = folder / WEIGHTS
    content = path.read_bytes()
    with TensorFile(path) as file:
        places = dict(file._places)
    for name, place in places.items():
        path.write_bytes(content)
        flip(path, place)
        with pytest.raises(CheckpointError, match=f'{name} is damaged'):
            load_network(folder)


@pytest.mark.parametrize('name', ['norm.weight', packable.DECODER_LINEARS[-1], packable.HEAD])
def test_the_quantizer_takes_no_damaged_source(tmp_path, name):
    path = packable.write(tmp_path / 'dense') / WEIGHTS
    with TensorFile(path) as file:
        place = file._places[name]
    checksums.write_side_file(path, inspect(path).checksums)
    flip(path, place)
    with pytest.raises(CheckpointError, match=f'{name} is damaged'):
        quantize(tmp_path / 'dense', tmp_path / 'small', SMALLEST)
    assert not (tmp_path / 'small' / WEIGHTS).exists()
    with pytest.raises(CheckpointError, match=f'{name} is damaged'):
        quantize(tmp_path / 'dense', tmp_path / 'small', SMALLEST, verify=True)


def test_the_quantizer_writes_no_nan(tmp_path):
    weights = dict(packable.tensors())
    weights['norm.weight'] = weights['norm.weight'].clone()
    weights['norm.weight'][3] = float('nan')
    source = packable.write(tmp_path / 'dense', weights)
    with pytest.raises(QuantizationError, match=r'norm\.weight has numbers that are NaN'):
        quantize(source, tmp_path / 'small', SMALLEST)
    assert not (tmp_path / 'small' / WEIGHTS).exists()


def test_the_header_is_json_of_texts(quantized):
    content = (quantized / WEIGHTS).read_bytes()
    values = json.loads(content[8:data_start(quantized / WEIGHTS)])['__metadata__']
    assert all(isinstance(value, str) and len(value) == 8 for value in values.values())
