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

"""`voxtral quantize`: a thin face that says what it did and what was wrong."""

import csv
import json
import os
from pathlib import Path
import subprocess
import sys

import pytest
from quantization import packable

from voxtral_ros.cli.main import main
from voxtral_ros.model.loading import load_network
from voxtral_ros.quantization import quantizer

DATA = Path(__file__).resolve().parents[1] / 'data'
CALIBRATED = ('--method', 'gptq', '--calibration', str(DATA / 'manifest.tsv'),
              '--calibration-count', '2', '--calibration-delays-ms', '480', '80')


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    return packable.write(tmp_path_factory.mktemp('native'))


def voxtral_quantize(source, output, *options):
    return main(['quantize', '--model-dir', str(source), '--output-dir', str(output), *options])


def test_from_the_shell(source, tmp_path):
    run = subprocess.run(
        [sys.executable, '-m', 'voxtral_ros', 'quantize', '--model-dir', str(source),
         '--output-dir', str(tmp_path / 'new' / 'folder'), '--rounding', 'mse',
         '--encoder-bits', '8', '--head-bits', '8', '--verify'], capture_output=True, text=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1'})
    assert run.returncode == 0, run.stderr
    assert 'largest relative error' in run.stderr
    load_network(tmp_path / 'new' / 'folder')


def test_the_report_lists_every_tensor(source, tmp_path, capsys):
    report = tmp_path / 'report.csv'
    options = ('--report', str(report), '--skip', 'layers.0.*', '--skip', 'layers.1.f*')
    assert voxtral_quantize(source, tmp_path / 'out', *options) == 0
    with report.open(newline='') as file:
        rows = {row['tensor']: row for row in csv.DictReader(file)}
    assert rows.keys() == packable.tensors().keys()
    wk = rows['layers.1.attention.wk.weight']
    assert (wk['bits'], wk['shape'], wk['bytes']) == ('4', '64x128', str(64 * 64 + 2 * 64))
    assert 0.08 < float(wk['relative_error']) < 0.12
    assert rows['layers.1.feed_forward.w1.weight']['bits'] == '16'
    assert 'layers.1.attention' in capsys.readouterr().err


def test_verify_is_asked_for(source, tmp_path, monkeypatch, capsys):
    def fail(job, path):
        raise quantizer.QuantizationError('norm.weight was not written as computed')

    monkeypatch.setattr(quantizer._Job, 'verify', fail)
    assert voxtral_quantize(source, tmp_path / 'trusting') == 0
    assert voxtral_quantize(source, tmp_path / 'careful', '--verify') == 2
    assert 'voxtral quantize: norm.weight' in capsys.readouterr().err


def test_what_is_there_is_not_overwritten(source, tmp_path, capsys):
    assert voxtral_quantize(source, tmp_path) == 0
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in os.listdir(tmp_path)}
    assert voxtral_quantize(source, tmp_path) == 2
    assert 'not overwritten' in capsys.readouterr().err
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in os.listdir(tmp_path)} == before


@pytest.mark.parametrize('damage', ['params.json', 'consolidated.safetensors', 'tekken.json'])
def test_a_missing_file_is_named(source, tmp_path, capsys, damage):
    for name in set(os.listdir(source)) - {damage}:
        (tmp_path / name).symlink_to(source / name)
    assert voxtral_quantize(tmp_path, tmp_path / 'out') == 2
    message = capsys.readouterr().err
    assert damage in message
    assert 'Traceback' not in message


def test_another_model_is_refused(source, tmp_path, capsys):
    weights = {name: tensor for name, tensor in packable.tensors().items()
               if not name.startswith('layers.1.')}
    broken = packable.write(tmp_path / 'broken', weights)
    assert voxtral_quantize(broken, tmp_path / 'out') == 2
    assert 'missing: layers.1.' in capsys.readouterr().err


def test_an_output_that_cannot_be_written(source, tmp_path, capsys):
    (tmp_path / 'file').write_text('')
    assert voxtral_quantize(source, tmp_path / 'file') == 1
    assert str(tmp_path / 'file') in capsys.readouterr().err


@pytest.mark.parametrize('option', [('--encoder-bits', '5'), ('--head-bits', '5'),
                                    ('--rounding', 'gptq'), ('--method', 'awq'),
                                    ('--calibration-count', '0')])
def test_wrong_options(source, tmp_path, option):
    with pytest.raises(SystemExit) as error:
        voxtral_quantize(source, tmp_path, *option)
    assert error.value.code == 2


@pytest.mark.slow
def test_gptq_from_the_shell(source, tmp_path):
    output = tmp_path / 'gptq'
    command = [sys.executable, '-m', 'voxtral_ros', 'quantize', '--model-dir', str(source),
               '--output-dir', str(output), *CALIBRATED, '--encoder-bits', '4', '--head-bits', '8',
               '--verify']
    run = subprocess.run(command, capture_output=True, text=True,
                         env={**os.environ, 'OMP_NUM_THREADS': '1'})
    assert run.returncode == 0, run.stderr
    packable.logits(load_network(output))
    config = json.loads((output / 'params.json').read_text())['quantization_config']
    assert (config['quant_method'], config['rounding']) == ('voxtral_ros_gptq', 'mse')
    assert (config['encoder_bits'], config['head_bits']) == (4, 8)
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 2
    assert 'not overwritten' in again.stderr


@pytest.mark.parametrize(('options', 'rounding'), [
    ((), 'seed'), (CALIBRATED, 'mse'), ((*CALIBRATED, '--rounding', 'seed'), 'seed')])
def test_every_method_has_its_own_rule_for_scales(source, tmp_path, options, rounding):
    assert voxtral_quantize(source, tmp_path, *options) == 0
    config = json.loads((tmp_path / 'params.json').read_text())['quantization_config']
    assert config.get('rounding', 'seed') == rounding
    assert config['quant_method'] == ('voxtral_ros_gptq' if options else 'rtn')


def test_encoder_and_decoder_are_calibrated_on_the_same_recordings(source, tmp_path, capsys):
    assert voxtral_quantize(source, tmp_path, *CALIBRATED, '--encoder-bits', '4', '--head-bits',
                            '4', '--skip', '*.layers.0.*.wo.weight', '--verify') == 0
    packable.logits(load_network(tmp_path))
    config = json.loads((tmp_path / 'params.json').read_text())['quantization_config']
    assert (config['encoder_bits'], config['head_bits']) == (4, 4)
    assert main(['verify', str(tmp_path)]) == 0


def test_layers_that_are_skipped_are_not_calibrated(source, tmp_path):
    assert voxtral_quantize(source, tmp_path, *CALIBRATED, '--skip', 'layers.0.*', '--verify') == 0
    load_network(tmp_path)


@pytest.mark.parametrize(('options', 'message'), [
    (('--method', 'gptq'), '--calibration MANIFEST'),
    (('--encoder-bits', '4'), '--encoder-bits 4 needs --method gptq'),
    (('--calibration', str(DATA / 'manifest.tsv')), 'rtn needs none'),
    ((*CALIBRATED, '--calibration-delays-ms', '481'), 'delay of 481 ms'),
    (('--method', 'gptq', '--calibration', 'none.tsv'), 'none.tsv cannot be read: No such file'),
    (('--method', 'gptq', '--calibration', 'wrong.tsv'), 'wrong.tsv needs a first line'),
    (('--method', 'gptq', '--calibration', 'empty.tsv'), 'empty.tsv names no recording'),
    (('--method', 'gptq', '--calibration', 'gone.tsv'), 'gone.wav: no such file'),
])
def test_what_cannot_be_calibrated_on_is_said_in_one_line(
        source, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    for name, text in (('wrong', 'text\n'), ('empty', 'file\n'), ('gone', 'file\ngone.wav\n')):
        Path(f'{name}.tsv').write_text(text)
    assert voxtral_quantize(source, tmp_path / 'out', *options) == 2
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith('voxtral quantize: ')
    assert message in line
    assert not (tmp_path / 'out').exists()
