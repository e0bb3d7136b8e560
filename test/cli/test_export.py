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

"""`voxtral export`: a thin face that says what it did and what was wrong."""

import os
import subprocess
import sys

import pytest
from quantization import packable
from safetensors.torch import load_file
import torch

from voxtral_ros.cli.main import main
from voxtral_ros.model.checkpoint import WEIGHTS
from voxtral_ros.quantization.format import Recipe
from voxtral_ros.quantization.quantizer import quantize


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp('models')
    quantize(packable.write(root / 'dense'), root / 'small', Recipe('mse', 8, 4))
    return root / 'small'


def voxtral_export(source, output, *options):
    return main(['export', '--model', str(source), '--output', str(output), *options])


def test_from_the_shell(source, tmp_path):
    output = tmp_path / 'new' / 'folder'
    run = subprocess.run(
        [sys.executable, '-m', 'voxtral_ros', 'export', '--model', str(source), '--output',
         str(output)], capture_output=True, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    assert run.returncode == 0, run.stderr
    nbytes = 2 * sum(tensor.numel() for tensor in packable.tensors().values())
    assert f'{nbytes / 1e6:.1f} MB of weights in bfloat16: {output}' in run.stderr
    assert main(['verify', str(output)]) == 0


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16', 'float32'])
def test_the_type_is_that_of_all_weights(source, tmp_path, dtype):
    assert voxtral_export(source, tmp_path, '--dtype', dtype) == 0
    found = {tensor.dtype for tensor in load_file(tmp_path / WEIGHTS).values()}
    assert found == {getattr(torch, dtype)}


@pytest.mark.parametrize('option', [('--dtype', 'int8'), ('--dtype', 'auto'), ('--bits', '4')])
def test_wrong_options(source, tmp_path, option):
    with pytest.raises(SystemExit) as error:
        voxtral_export(source, tmp_path, *option)
    assert error.value.code == 2


@pytest.mark.parametrize('missing', ['params.json', WEIGHTS, 'tekken.json'])
def test_a_missing_file_is_named_in_one_line(source, tmp_path, capsys, missing):
    for name in set(os.listdir(source)) - {missing}:
        (tmp_path / name).symlink_to(source / name)
    assert voxtral_export(tmp_path, tmp_path / 'out') == 2
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith('voxtral export: ')
    assert missing in line
    assert not (tmp_path / 'out').exists()


def test_what_is_there_is_not_overwritten(source, tmp_path, capsys):
    assert voxtral_export(source, tmp_path) == 0
    before = (tmp_path / WEIGHTS).stat().st_mtime_ns
    assert voxtral_export(source, tmp_path) == 2
    assert 'not overwritten' in capsys.readouterr().err
    assert (tmp_path / WEIGHTS).stat().st_mtime_ns == before


def test_an_output_that_cannot_be_written(source, tmp_path, capsys):
    (tmp_path / 'file').write_text('')
    assert voxtral_export(source, tmp_path / 'file') == 1
    assert str(tmp_path / 'file') in capsys.readouterr().err
