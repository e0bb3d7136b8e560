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

"""What `voxtral export` writes: the weights of any checkpoint, dense, and nothing half-done."""

from collections import namedtuple
import json
import os
from pathlib import Path
import shutil

import pytest
from quantization import packable
from safetensors.torch import load_file
import soundfile
from support.cpu import EagerBackend
from support.scripted import feed, texts
import torch

from voxtral_ros.model.checkpoint import CheckpointError, open_weights, WEIGHTS
from voxtral_ros.model.config import ModelConfig
from voxtral_ros.model.export import export, ExportError
from voxtral_ros.model.loading import checkpoint_parameters, load_network
from voxtral_ros.model.tokenizer import Tokenizer, TokenizerError
from voxtral_ros.quantization.format import Recipe
from voxtral_ros.quantization.inspection import inspect
from voxtral_ros.quantization.output import OutputError
from voxtral_ros.quantization.quantizer import quantize
from voxtral_ros.quantization.tensorfile import TensorWriter
from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.recognizer.options import offline_options
from voxtral_ros.resources import demo_model

RECIPES = {
    'original': Recipe(),
    'compact': Recipe('mse', 8, 8),
    'smallest': Recipe('mse', 8, 4),
    'small': Recipe('mse', 4, 4),
    'half of it': Recipe('mse', 8, skip=('layers.0.*',)),
}
DTYPES = [torch.bfloat16, torch.float16, torch.float32]
WO = 'layers.1.attention.wo.weight'
DiskUsage = namedtuple('DiskUsage', 'total used free')


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Return the folder of every recipe's result, and of the source as 'dense'."""
    return packable.quantized_folders(tmp_path_factory.mktemp('folders'), RECIPES)


def loaded(folder, dtype=torch.float32):
    return dict(checkpoint_parameters(load_network(folder, dtype=dtype)))


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('name', ['dense', *RECIPES])
def test_the_weights_are_those_that_the_network_gets(folders, tmp_path, monkeypatch, name, dtype):
    """In one block each, and in blocks, as large weights are."""
    expected = loaded(folders[name], dtype)
    for size in (1 << 20, 9000):
        monkeypatch.setattr('voxtral_ros.quantization.weights._BLOCK', size)
        output = tmp_path / str(size)
        nbytes = export(folders[name], output, dtype)
        written = load_file(output / WEIGHTS)
        assert written.keys() == packable.tensors().keys()
        assert {tensor.dtype for tensor in written.values()} == {dtype}
        assert sum(tensor.nbytes for tensor in written.values()) == nbytes
        assert_equal(written, expected)
        assert_equal(loaded(output, dtype), expected)
        assert not inspect(output / WEIGHTS).problems
        assert inspect(output / WEIGHTS).checksums


def test_a_dense_checkpoint_in_its_own_type_stays_what_it_is(folders, tmp_path):
    export(folders['dense'], tmp_path)
    assert_equal(load_file(tmp_path / WEIGHTS), packable.tensors())


def test_what_was_exported_can_be_quantized_again(folders, tmp_path):
    """The nearest code to code times scale is the code, if the scale is found again."""
    export(folders['dense'], tmp_path / 'dense')
    quantize(tmp_path / 'dense', tmp_path / 'again', RECIPES['compact'])
    assert (tmp_path / 'again' / WEIGHTS).read_bytes() == \
        (folders['compact'] / WEIGHTS).read_bytes()


@pytest.mark.parametrize('name', ['dense', 'compact'])
def test_params_say_nothing_of_what_is_not_there_any_more(folders, tmp_path, name):
    export(folders[name], tmp_path)
    before = json.loads((folders[name] / 'params.json').read_text())
    after = json.loads((tmp_path / 'params.json').read_text())
    before.pop('quantization_config', None)
    assert after.pop('max_position_embeddings') == before['model_max_length']
    assert after == before
    assert (tmp_path / 'tekken.json').read_bytes() == \
        (folders[name] / 'tekken.json').read_bytes()
    assert sorted(os.listdir(tmp_path)) == [WEIGHTS, 'params.json', 'tekken.json']


def test_the_longest_text_that_a_file_names_itself_is_kept(tmp_path):
    source = packable.write(tmp_path / 'source')
    params = json.loads((source / 'params.json').read_text())
    (source / 'params.json').write_text(json.dumps(params | {'max_position_embeddings': 4096}))
    export(source, tmp_path / 'out')
    written = json.loads((tmp_path / 'out' / 'params.json').read_text())
    assert written['max_position_embeddings'] == 4096


def test_transformers_computes_the_same_from_it(folders, tmp_path):
    hf_reference = pytest.importorskip('support.hf_reference')
    export(folders['smallest'], tmp_path, torch.float32)
    params = json.loads((tmp_path / 'params.json').read_text())
    hf = hf_reference.load_hf(params, load_file(tmp_path / WEIGHTS))
    mel = torch.randn(128, 80, generator=torch.Generator().manual_seed(7))
    ids = list(range(1000, 1010))
    ours = load_network(folders['smallest'], dtype=torch.float32)(
        mel[None], torch.tensor([ids]), torch.tensor([6.0]))[0]
    torch.testing.assert_close(ours, hf_reference.hf_logits(hf, mel, ids, 6), rtol=0, atol=1e-3)


@pytest.mark.parametrize('options', [{}, {'max_shard_size': 100_000}], ids=['whole', 'shards'])
def test_what_transformers_saved_becomes_the_native_file(folders, tmp_path, monkeypatch, options):
    hf_reference = pytest.importorskip('support.hf_reference')
    monkeypatch.setattr('voxtral_ros.quantization.weights._BLOCK', 9000)
    source = tmp_path / 'source'
    model = hf_reference.load_hf(packable.PARAMS, packable.tensors()).bfloat16()
    model.save_pretrained(source, **options)
    shutil.copy(folders['dense'] / 'tekken.json', source)
    export(source, tmp_path / 'out')
    assert_equal(load_file(tmp_path / 'out' / WEIGHTS), packable.tensors())
    assert ModelConfig.load(tmp_path / 'out') == ModelConfig.load(folders['dense'])
    with pytest.raises(OutputError, match='give another folder'):
        export(source, source)


def spoken(folder):
    """Return ids and texts of a recording, by the network as it is, in float32."""
    with open_weights(folder) as (config, _):
        pass
    network = load_network(folder, dtype=torch.float32)
    tokenizer = Tokenizer.load(folder, config.vocab_size)
    engine = Engine(EagerBackend(network, tokenizer.pad, 1, 8), tokenizer, config.audio)
    path = Path(__file__).resolve().parents[1] / 'data' / 'orders.flac'
    samples, _ = soundfile.read(path, dtype='float32')
    ids = []
    stream = engine.open(options=offline_options(lambda token: ids.append(token.id)))
    return ids, texts(feed(stream, samples, len(samples)) + stream.close())


@pytest.mark.slow
def test_the_demo_model_writes_the_same_ids(tmp_path):
    ids, said = spoken(demo_model())
    assert len(said) == 4
    export(demo_model(), tmp_path / 'exact', torch.float32)
    assert spoken(tmp_path / 'exact') == (ids, said)
    export(demo_model(), tmp_path / 'rounded')
    assert spoken(tmp_path / 'rounded')[1] == said


def test_progress_counts_every_weight_once(folders, tmp_path):
    counted = []
    export(folders['smallest'], tmp_path, progress=counted.append)
    assert sum(counted) == sum(tensor.numel() for tensor in packable.tensors().values())


# ---- what is refused, and what is left ----

@pytest.mark.parametrize('name', [
    WEIGHTS, 'model.safetensors', 'consolidated-00001-of-00002.safetensors'])
def test_weights_that_are_there_are_not_overwritten(folders, tmp_path, name):
    """Nor are others put beside them: nobody would know which of the two is read."""
    (tmp_path / name).write_text('precious')
    with pytest.raises(OutputError, match=f'{name} exists and is not overwritten'):
        export(folders['dense'], tmp_path)
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_text() == 'precious'


def test_a_model_is_not_exported_onto_itself(folders):
    before = sorted(os.listdir(folders['dense']))
    with pytest.raises(OutputError, match='give another folder'):
        export(folders['dense'], folders['dense'])
    assert sorted(os.listdir(folders['dense'])) == before


def test_too_little_disk_is_said_before_anything_is_written(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: DiskUsage(10**9, 10**9, 60 << 20))
    with pytest.raises(OutputError, match=r'needs 0\.00 GB.* 0\.06 GB free'):
        export(folders['smallest'], tmp_path)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize('error', [OSError(28, 'No space left on device'), KeyboardInterrupt()])
def test_a_full_disk_and_an_interrupt_leave_nothing(folders, tmp_path, monkeypatch, error):
    original, done = TensorWriter.write, []

    def write(writer, name, array, first_row=0):
        done.append(name)
        if len(done) == 20:
            raise error
        original(writer, name, array, first_row)

    monkeypatch.setattr(TensorWriter, 'write', write)
    with pytest.raises(type(error)):
        export(folders['compact'], tmp_path)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize('name', ['compact', 'smallest'])
def test_a_damaged_source_leaves_nothing(folders, tmp_path, name):
    source = tmp_path / 'source'
    shutil.copytree(folders[name], source)
    content = bytearray((source / WEIGHTS).read_bytes())
    content[-2] ^= 1
    (source / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match='is damaged, its checksum is another'):
        export(source, tmp_path / 'out')
    assert not os.listdir(tmp_path / 'out')


@pytest.mark.parametrize('factor', [1e6, -1e6])
def test_weights_beyond_a_type_are_named(tmp_path, factor):
    weights = dict(packable.tensors())
    weights[WO] = weights[WO] * factor
    source = packable.write(tmp_path / 'source', weights)
    with pytest.raises(ExportError, match=rf'{WO} .*beyond the range of float16: take bfloat16'):
        export(source, tmp_path / 'half', torch.float16)
    assert not os.listdir(tmp_path / 'half')
    export(source, tmp_path / 'out', torch.bfloat16)


def test_a_source_without_vocabulary(folders, tmp_path):
    for name in ('params.json', WEIGHTS):
        (tmp_path / name).symlink_to(folders['dense'] / name)
    with pytest.raises(TokenizerError, match='tekken'):
        export(tmp_path, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
