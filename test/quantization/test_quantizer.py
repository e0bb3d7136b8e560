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

"""The quantizer: what goes where with which options, and that nothing half-done is left."""

from collections import namedtuple
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from quantization import packable
from safetensors.torch import load_file
import torch

from voxtral_ros.quantization import marlin
from voxtral_ros.quantization.format import Recipe
from voxtral_ros.quantization.output import OutputError
from voxtral_ros.quantization.quantizer import QuantizationError, quantize
from voxtral_ros.quantization.tensorfile import CheckpointError, TensorWriter

WEIGHTS = 'consolidated.safetensors'
ENCODER_WQ = packable.ENCODER_LINEARS[0]
DiskUsage = namedtuple('DiskUsage', 'total used free')


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    return packable.write(tmp_path_factory.mktemp('native'))


def bits(records):
    return {record.name: record.bits for record in records}


def test_the_defaults_touch_the_linear_layers_of_the_decoder_alone(source, tmp_path):
    found = bits(quantize(source, tmp_path, Recipe()))
    assert found.keys() == packable.tensors().keys()
    assert {name for name, value in found.items() if value != 16} == set(packable.DECODER_LINEARS)
    written = load_file(tmp_path / WEIGHTS)
    for name, tensor in packable.tensors().items():
        assert (name in written) == (found[name] == 16)
        assert name not in written or torch.equal(written[name], tensor)


def test_the_encoder_in_int8(source, tmp_path):
    found = bits(quantize(source, tmp_path, Recipe(encoder_bits=8)))
    assert {name for name, value in found.items() if value == 8} == set(packable.ENCODER_LINEARS)
    written = load_file(tmp_path / WEIGHTS)
    weight = packable.tensors()[ENCODER_WQ].float()
    codes, scale = written[ENCODER_WQ + '_int8'], written[ENCODER_WQ + '_scale']
    assert (codes.dtype, codes.shape) == (torch.int8, weight.shape)
    assert (scale.dtype, scale.shape) == (torch.float16, (weight.shape[0], 1))
    assert ((codes.float() * scale.float() - weight).abs() <= 0.51 * scale.float()).all()
    assert ENCODER_WQ not in written


def test_the_encoder_in_int4(source, tmp_path):
    """Under its checkpoint names, rows in order: only the decoder's q and k are reordered."""
    found = bits(quantize(source, tmp_path, Recipe(encoder_bits=4, skip=('layers.*',))))
    assert {name for name, value in found.items() if value != 16} == {*packable.ENCODER_LINEARS}
    assert {found[name] for name in packable.ENCODER_LINEARS} == {4}
    written = load_file(tmp_path / WEIGHTS)
    weight, module = packable.tensors()[ENCODER_WQ].float(), ENCODER_WQ.removesuffix('.weight')
    words, scales = written[module + '.B'], written[module + '.s']
    n, k = weight.shape
    assert (words.dtype, words.shape) == (torch.int32, (k // 16, 2 * n))
    assert (scales.dtype, scales.shape) == (torch.float16, (k // 128, n))
    rounded = torch.from_numpy(marlin.dequantize(words.numpy(), scales.numpy())).T
    assert ((rounded - weight).square().sum(1) / weight.square().sum(1)).sqrt().max() < 0.2
    assert ENCODER_WQ not in written


@pytest.mark.parametrize(('head_bits', 'names'), [(8, ('weight_int8', 'weight_scale')),
                                                  (4, ('B', 's'))])
def test_the_head_replaces_the_embedding(source, tmp_path, head_bits, names):
    found = bits(quantize(source, tmp_path, Recipe(head_bits=head_bits)))
    assert found[packable.HEAD] == head_bits
    prefix = packable.HEAD.removesuffix('weight')
    written = {name for name in load_file(tmp_path / WEIGHTS) if name.startswith(prefix)}
    assert written == {prefix + name for name in names}


def test_patterns_are_left_alone(source, tmp_path):
    recipe = Recipe(encoder_bits=8, skip=('layers.0.*', '*.attention.w[kv].weight'))
    found = bits(quantize(source, tmp_path, recipe))
    quantized = {name for name, value in found.items() if value != 16}
    assert 'layers.1.attention.wq.weight' in quantized
    assert ENCODER_WQ in quantized
    assert not any(name.startswith('layers.0.') or '.wk.' in name or '.wv.' in name
                   for name in quantized)


def test_params_say_what_is_not_as_in_the_original(source, tmp_path):
    recipe = Recipe('mse', 8, 4, ('layers.0.*',))
    quantize(source, tmp_path, recipe)
    config = json.loads((tmp_path / 'params.json').read_text())['quantization_config']
    assert list(config)[:7] == ['quant_method', 'bits', 'group_size', 'sym', 'checkpoint_format',
                                'pack_dtype', 'encoding']
    assert {key: config[key] for key in list(config)[7:]} == {
        'rounding': 'mse', 'encoder_bits': 8, 'head_bits': 4, 'skip': ['layers.0.*']}


def test_records_publish_bytes_and_errors(source, tmp_path):
    records = {record.name: record for record in quantize(source, tmp_path, Recipe('mse', 8))}
    total = sum(record.nbytes for record in records.values())
    header = int.from_bytes((tmp_path / WEIGHTS).read_bytes()[:8], 'little')
    assert total == (tmp_path / WEIGHTS).stat().st_size - 8 - header
    assert records['norm.weight'].relative_error == 0
    w2 = records['layers.0.feed_forward.w2.weight']
    assert w2.nbytes == 128 * 384 // 2 + 2 * 3 * 128
    assert w2.shape == (128, 384)
    assert 0.08 < w2.relative_error < 0.10
    assert 0.003 < records[ENCODER_WQ].relative_error < 0.01


def test_mse_makes_smaller_errors(source, tmp_path):
    seed, mse = (quantize(source, tmp_path / rule, Recipe(rule)) for rule in ('seed', 'mse'))
    for first, second in zip(seed, mse, strict=True):
        assert first.bits == 16 or second.relative_error < first.relative_error


def test_training_checkpoints_are_narrowed(tmp_path):
    source = packable.write(tmp_path / 'fp32', packable.tensors(torch.float32))
    records = quantize(source, tmp_path / 'out', Recipe(), verify=True)
    written = load_file(tmp_path / 'out' / WEIGHTS)
    assert {tensor.dtype for tensor in written.values()} == {
        torch.bfloat16, torch.float16, torch.int32}
    error = next(record for record in records if record.name == ENCODER_WQ).relative_error
    assert 1e-3 < error < 2e-3


def test_progress_counts_every_weight_once_and_twice_with_verify(source, tmp_path):
    total = sum(tensor.numel() for tensor in packable.tensors().values())
    for verify in (False, True):
        counted = []
        quantize(source, tmp_path / str(verify), Recipe('seed', 8, 4), verify, counted.append)
        assert sum(counted) == total * (1 + verify)


def test_what_is_there_is_not_overwritten(source, tmp_path):
    (tmp_path / WEIGHTS).write_text('precious')
    with pytest.raises(OutputError, match='not overwritten'):
        quantize(source, tmp_path, Recipe())
    assert os.listdir(tmp_path) == [WEIGHTS]
    assert (tmp_path / WEIGHTS).read_text() == 'precious'
    with pytest.raises(OutputError, match='not overwritten'):
        quantize(source, source, Recipe())


def test_too_little_disk_is_published_before_anything_is_written(source, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: DiskUsage(10**9, 10**9, 60 << 20))
    with pytest.raises(OutputError, match=r'needs 0\.00 GB.* 0\.06 GB free'):
        quantize(source, tmp_path, Recipe())
    assert not os.listdir(tmp_path)
    # What a killed run has left will be used again.
    (tmp_path / (WEIGHTS + '.partial')).write_bytes(bytes(10 << 20))
    quantize(source, tmp_path, Recipe())
    assert (tmp_path / WEIGHTS).exists()


def test_a_full_disk_leaves_nothing_behind(source, tmp_path, monkeypatch):
    def fail(writer, name, array, first_row=0):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(TensorWriter, 'write', fail)
    with pytest.raises(OSError, match='No space left'):
        quantize(source, tmp_path, Recipe())
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(('name', 'encoder_bits'), [
    ('norm.weight', 8), ('layers.1.attention.wq.weight', 8), (ENCODER_WQ, 8), (ENCODER_WQ, 4),
    (packable.HEAD, 8)])
def test_verify_notices_a_single_wrong_bit(source, tmp_path, monkeypatch, name, encoder_bits):
    original, done = TensorWriter.write, []

    def damage(writer, written, array, first_row=0):
        ours = written.replace('.self_attn.q_proj.B', '.attention.wq.weight') \
            .replace('.attention.wq.B', '.attention.wq.weight')
        if ours.removesuffix('_int8') == name and not done:
            done.append(name)
            array = np.array(array, order='C')
            array.reshape(-1)[7:8].view(np.uint8)[0] ^= 1
        original(writer, written, array, first_row)

    monkeypatch.setattr(TensorWriter, 'write', damage)
    with pytest.raises(QuantizationError, match=f'{name} was not written as computed'):
        quantize(source, tmp_path, Recipe('mse', encoder_bits, 8), verify=True)
    assert done
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize('recipe', [
    Recipe(), Recipe('mse', 8, 8), Recipe('mse', 8, 4), Recipe('mse', 4, 4)])
def test_verify_is_content_with_a_good_result(source, tmp_path, recipe):
    quantize(source, tmp_path, recipe, verify=True)
    assert (tmp_path / WEIGHTS).exists()


def test_blocks_change_nothing(source, tmp_path, monkeypatch):
    """The test weights fit into one block each; the real ones do not."""
    recipe = Recipe('mse', 4, 4)
    quantize(source, tmp_path / 'whole', recipe)
    for module in ('weights', 'quantizer'):
        monkeypatch.setattr(f'voxtral_ros.quantization.{module}._BLOCK', 9000)
    quantize(source, tmp_path / 'blocks', recipe, verify=True)
    assert (tmp_path / 'whole' / WEIGHTS).read_bytes() == \
        (tmp_path / 'blocks' / WEIGHTS).read_bytes()


def test_a_quantized_source_is_refused(source, tmp_path):
    quantize(source, tmp_path / 'once', Recipe())
    with pytest.raises(QuantizationError, match='quantized already'):
        quantize(tmp_path / 'once', tmp_path / 'twice', Recipe())
    assert not (tmp_path / 'twice').exists()


def test_sizes_that_cannot_be_packed_are_published_at_once(tmp_path):
    weights = dict(packable.tensors())
    weights['layers.1.feed_forward.w2.weight'] = torch.zeros(128, 100)
    source = packable.write(tmp_path / 'source', weights)
    with pytest.raises(QuantizationError, match=r'layers\.1\.feed_forward\.w2.* 100 inputs.*skip'):
        quantize(source, tmp_path / 'out', Recipe())
    assert not (tmp_path / 'out').exists()
    quantize(source, tmp_path / 'out', Recipe(skip=('layers.1.feed_forward.w2.weight',)))


def test_weights_beyond_fp16_are_named(tmp_path):
    weights = dict(packable.tensors())
    weights['layers.1.attention.wo.weight'] = weights['layers.1.attention.wo.weight'] * 1e30
    source = packable.write(tmp_path / 'source', weights)
    with pytest.raises(QuantizationError, match=r'layers\.1\.attention\.wo\.weight: .*fp16'):
        quantize(source, tmp_path / 'out', Recipe())
    assert not os.listdir(tmp_path / 'out')


def test_a_pattern_without_a_tensor_is_a_mistake(source, tmp_path):
    with pytest.raises(QuantizationError, match=r'decoder\.\*'):
        quantize(source, tmp_path, Recipe(skip=('layers.0.*', 'decoder.*')))


@pytest.mark.parametrize(('key', 'value'), [
    ('rounding', 'gptq'), ('encoder_bits', 2), ('head_bits', 3)])
def test_a_recipe_that_does_not_exist(key, value):
    with pytest.raises(ValueError, match=f'{key} is {value!r}'):
        Recipe(**{key: value})


def test_a_cut_off_source(source, tmp_path):
    broken = tmp_path / 'broken'
    shutil.copytree(source, broken)
    with (broken / WEIGHTS).open('r+b') as file:
        file.truncate(100_000)
    with pytest.raises(CheckpointError, match='cut off'):
        quantize(broken, tmp_path / 'out', Recipe())


KILLED = """
import sys, time
import torch
from voxtral_ros.quantization import quantizer
torch.set_num_threads(1)
quantizer.quantize(sys.argv[1], sys.argv[2], quantizer.Recipe('mse'),
                   progress=lambda count: time.sleep(0.01))
"""


@pytest.mark.parametrize('delay_s', [0.0, 0.1, 0.3])
def test_killed_at_any_time_and_run_again(source, tmp_path, delay_s):
    partial = tmp_path / (WEIGHTS + '.partial')
    process = subprocess.Popen([sys.executable, '-c', KILLED, str(source), str(tmp_path)])
    deadline = time.monotonic() + 60
    while not partial.exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert os.listdir(tmp_path) == [partial.name]
    quantize(source, tmp_path, Recipe('mse'), verify=True)
    assert sorted(os.listdir(tmp_path)) == [WEIGHTS, 'params.json', 'tekken.json']


@pytest.mark.parametrize('n_done', [0, 1, 2])
def test_killed_while_the_files_get_their_names(source, tmp_path, monkeypatch, n_done):
    """The weights come last: a folder that has them has everything."""
    class Killed(BaseException):
        pass

    original, done = os.replace, []

    def replace(*names):
        if len(done) == n_done:
            raise Killed
        done.append(names)
        original(*names)

    monkeypatch.setattr(os, 'replace', replace)
    with pytest.raises(Killed):
        quantize(source, tmp_path, Recipe())
    assert not (tmp_path / WEIGHTS).exists()
    monkeypatch.undo()
    quantize(source, tmp_path, Recipe())


def test_a_stale_longer_file_does_not_show_through(source, tmp_path):
    (tmp_path / (WEIGHTS + '.partial')).write_bytes(b'\xff' * 5_000_000)
    quantize(source, tmp_path, Recipe(), verify=True)
    load_file(tmp_path / WEIGHTS)


def test_a_source_without_vocabulary(source, tmp_path):
    lone = tmp_path / 'lone'
    lone.mkdir()
    for name in ('params.json', WEIGHTS):
        shutil.copy(source / name, lone)
    with pytest.raises(FileNotFoundError, match='tekken'):
        quantize(lone, tmp_path / 'out', Recipe())
    assert not (tmp_path / 'out').exists()
