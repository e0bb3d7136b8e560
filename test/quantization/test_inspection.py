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

"""`voxtral verify`: what is wrong with a file, tensor by tensor, and checksums beside it."""

import pytest
from quantization import packable
from safetensors.torch import load_file, save_file
import torch

from voxtral_ros.cli.main import main
from voxtral_ros.model.checkpoint import WEIGHTS
from voxtral_ros.quantization.format import Recipe
from voxtral_ros.quantization.inspection import inspect
from voxtral_ros.quantization.quantizer import quantize
from voxtral_ros.resources import demo_model

NORM = 'layers.0.ffn_norm.weight'
CODES = packable.ENCODER_LINEARS[0] + '_int8'
SCALES = packable.ENCODER_LINEARS[0] + '_scale'
INT4_SCALES = 'layers.0.self_attn.q_proj.s'


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    root = tmp_path_factory.mktemp('models')
    quantize(packable.write(root / 'dense'), root / 'small', Recipe('mse', 8, 8))
    return root / 'small'


@pytest.fixture
def folder(tmp_path, model):
    """Return a model without checksums."""
    for name in ('params.json', 'tekken.json'):
        (tmp_path / name).write_bytes((model / name).read_bytes())
    save_file(load_file(model / WEIGHTS), tmp_path / WEIGHTS)
    return tmp_path


def change(folder, name, index, value):
    tensors = load_file(folder / WEIGHTS)
    tensors[name].view(-1)[index] = value
    save_file(tensors, folder / WEIGHTS)


def damage(folder):
    path = folder / WEIGHTS
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_file_as_it_was_written(model, capsys):
    assert main(['verify', str(model)]) == 0
    assert 'as their checksums say' in capsys.readouterr().out
    damage(model)
    assert main(['verify', str(model)]) == 1
    captured = capsys.readouterr()
    assert 'its checksum is' in captured.out
    assert 'is damaged: download' in captured.err
    damage(model)  # once more, and it is as it was


def test_without_checksums_it_says_how_to_have_some(folder, capsys):
    assert main(['verify', str(folder)]) == 0
    assert f'voxtral verify --write {folder}' in capsys.readouterr().out
    assert not (folder / f'{WEIGHTS}.crc32').exists()


def test_checksums_are_written_beside_it_and_compared_from_then_on(folder, capsys):
    assert main(['verify', '--write', str(folder)]) == 0
    assert f'{WEIGHTS}.crc32' in capsys.readouterr().out
    assert main(['verify', str(folder)]) == 0
    damage(folder)
    assert main(['verify', str(folder)]) == 1
    # Somebody has put another model into its place, and says so.
    assert main(['verify', '--write', str(folder)]) == 0
    assert main(['verify', str(folder)]) == 0


@pytest.mark.parametrize(('name', 'index', 'value', 'message'), [
    (NORM, 3, float('nan'), f'{NORM}: 1 of 128 numbers are NaN or infinite'),
    (NORM, slice(None), float('-inf'), f'{NORM}: 128 of 128 numbers are NaN or infinite'),
    (NORM, 0, -2.0 ** 100, f'{NORM}: 1.26765e+30 is larger than any weight is'),
    (NORM, slice(None), 0.0, f'{NORM}: all of it is zero'),
    (SCALES, 5, float('inf'), f'{SCALES}: 1 of'),
    (INT4_SCALES, 5, 300.0, f'{INT4_SCALES}: 300 is larger than'),
    (CODES, slice(0, 4), -128, f'{CODES}: 4 codes are -128')])
def test_what_no_weight_is_gets_named(folder, capsys, name, index, value, message):
    change(folder, name, index, value)
    assert main(['verify', str(folder)]) == 1
    assert message in capsys.readouterr().out
    assert main(['verify', '--write', str(folder)]) == 1
    assert not (folder / f'{WEIGHTS}.crc32').exists()


def test_what_is_no_model_is_wrong_use(folder, capsys):
    (folder / 'tekken.json').unlink()
    assert main(['verify', str(folder)]) == 2
    assert 'tekken.json does not exist' in capsys.readouterr().err
    assert main(['verify', str(folder / 'nothing')]) == 2


def test_the_model_of_the_package_is_what_its_checksums_say():
    found = inspect(demo_model() / WEIGHTS)
    assert found.compared
    assert not found.problems


def test_all_of_it_is_read_once(folder):
    read = []
    found = inspect(folder / WEIGHTS, progress=read.append)
    assert sum(read) == found.n_bytes
    assert found.checksums.keys() == load_file(folder / WEIGHTS).keys()
    assert not found.problems


FLOATS = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize('dtype', FLOATS)
@pytest.mark.parametrize('bad', [float('nan'), float('-nan'), float('inf'), float('-inf')])
def test_of_every_type_numbers_are_read_as_they_are(tmp_path, dtype, bad):
    numbers = torch.tensor([0.0, -0.0, bad, 2.5, bad, -20000.0, 12000.0], dtype=dtype)
    save_file({'layer.weight': numbers}, tmp_path / 'a')
    largest = f'{float(numbers[5].abs()):g}'
    assert inspect(tmp_path / 'a').problems == [
        'layer.weight: 2 of 7 numbers are NaN or infinite',
        f'layer.weight: {largest} is larger than any weight is']


@pytest.mark.parametrize('dtype', FLOATS)
def test_of_every_type_small_numbers_are_right(tmp_path, dtype):
    smallest = torch.finfo(dtype).smallest_normal / 4  # subnormal
    numbers = torch.tensor([smallest, -smallest, 9984.0, -9984.0, 0.0], dtype=dtype)
    save_file({'norm.weight': numbers, 'other.norm.weight': numbers[:2].clone()}, tmp_path / 'a')
    assert not inspect(tmp_path / 'a').problems


@pytest.mark.parametrize('dtype', FLOATS)
def test_of_every_type_the_largest_number_is_finite(tmp_path, dtype):
    largest = torch.finfo(dtype).max
    save_file({'layer.weight': torch.tensor([1.0, -largest], dtype=dtype)}, tmp_path / 'a')
    assert inspect(tmp_path / 'a').problems == [
        f'layer.weight: {largest:g} is larger than any weight is']
