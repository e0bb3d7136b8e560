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

"""What people give in place of a model folder: one sentence says what it is and what to take."""

import json
import shutil
import struct

import pytest

from voxtral_ros.model.checkpoint import check_folder
from voxtral_ros.model.config import ConfigError
from voxtral_ros.model.layout import find_layout

checkpoints = pytest.importorskip('support.checkpoints')

PARAMS = checkpoints.tiny_params(n_layers=1, **{'encoder.n_layers': 1})
POINTER = b'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 8859462744\n'
PAGE = b'\n<!DOCTYPE html><html><title>Log in</title></html>'
NATIVE = 'params.json, tekken.json and consolidated.safetensors of mistralai/'


@pytest.fixture
def model(tmp_path):
    """Return a good model."""
    return checkpoints.write_checkpoint(
        tmp_path / 'good', PARAMS, checkpoints.random_tensors(PARAMS, 0),
        checkpoints.tiny_tekken())


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'given').mkdir()
    return tmp_path / 'given'


def refusal(folder):
    with pytest.raises(ValueError) as error:  # noqa: PT011 (of any of the kinds)
        check_folder(folder)
    message = str(error.value)
    assert '\n' not in message
    assert message.isprintable()
    return message


def weights(path, tensors):
    """Write a safetensors file of {name: (type, shape, bytes)} of zeros."""
    header, end = {}, 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {'dtype': dtype, 'shape': shape, 'data_offsets': [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack('<Q', len(text)) + text + bytes(end))


def test_a_good_one(model):
    check_folder(model)
    check_folder(str(model))


# ---- a folder that is something else ----

@pytest.mark.parametrize('kind', ['llama', 'voxtral', 'whisper'])
def test_another_model_in_the_layout_of_hugging_face(folder, kind):
    (folder / 'config.json').write_text(json.dumps({'model_type': kind}))
    message = refusal(folder)
    assert f'of type {kind} in the layout of Hugging Face' in message
    assert NATIVE in message


@pytest.mark.parametrize('method', ['awq', 'fp8', 'compressed-tensors', 'modelopt'])
def test_the_layout_of_hugging_face_quantized(folder, method):
    (folder / 'config.json').write_text(
        json.dumps({'model_type': 'voxtral_realtime',
                    'quantization_config': {'quant_method': method}}))
    assert f'quantized as {method}, which is not supported' in refusal(folder)


@pytest.mark.parametrize(('content', 'words'), [
    (b'', 'it is empty'), (b'\xff', 'cannot be read as JSON'), (b'[]', 'not an object'),
    (b'{}', 'the layout of Hugging Face'),
    (b'{"quantization_config": 3}', 'the layout of Hugging Face, quantized as 3')])
def test_a_config_json_that_says_nothing(folder, content, words):
    (folder / 'config.json').write_bytes(content)
    assert words in refusal(folder)


@pytest.mark.parametrize(('name', 'kind'), [
    ('model-Q4_K_M.gguf', 'GGUF'), ('encoder.onnx', 'ONNX'), ('pytorch_model.bin', 'pickles'),
    ('consolidated.00.pth', 'pickles'), ('parakeet.nemo', 'NeMo')])
def test_other_formats(folder, name, kind):
    (folder / name).touch()
    message = refusal(folder)
    assert f'{name} is a model in another format, {kind}' in message or kind in message
    assert NATIVE in message


def test_the_cache_of_hugging_face(folder, model):
    snapshots = folder / 'models--mistralai--Voxtral' / 'snapshots'
    for commit in ('0abc', 'ffff'):
        shutil.copytree(model, snapshots / commit)
    (folder / 'models--mistralai--Voxtral' / 'refs').mkdir()
    (folder / 'models--mistralai--Voxtral' / 'refs' / 'main').write_text('0abc\n')
    assert f'give {snapshots / "0abc"}' in refusal(folder)  # there may be others in it
    (snapshots / 'ffff' / 'params.json').write_text('{}')  # not the one that is read
    for level in (folder / 'models--mistralai--Voxtral', snapshots):
        check_folder(level)
        assert find_layout(level).folder == snapshots / '0abc'


def test_a_model_that_lies_one_folder_further_down(folder, model):
    shutil.copytree(model, folder / 'voxtral')
    assert f'give {folder / "voxtral"}' in refusal(folder)


def test_links_that_lead_nowhere(folder, model):
    """As when a snapshot is copied without the blobs that it links to."""
    for name in ('params.json', 'tekken.json'):
        shutil.copy(model / name, folder)
    (folder / 'consolidated.safetensors').symlink_to('../../blobs/1234')
    assert 'a link to ../../blobs/1234, which is not there' in refusal(folder)
    (folder.parent / 'linked').symlink_to('gone')
    assert 'is a link to gone' in refusal(folder.parent / 'linked')


@pytest.mark.parametrize(('name', 'words'), [
    ('consolidated.safetensors.partial', 'run it again'),
    ('consolidated.safetensors.incomplete', 'a download was not finished'),
    ('notes.txt', 'a model is a folder with')])
def test_what_is_not_finished(folder, model, name, words):
    for small in ('params.json', 'tekken.json'):
        shutil.copy(model / small, folder)
    (folder / name).touch()
    assert words in refusal(folder)


def test_nothing(folder):
    assert 'this one is empty' in refusal(folder)


# ---- no folder at all ----

@pytest.mark.parametrize('name', ['params.json', 'consolidated.safetensors'])
def test_one_file_of_a_model(model, name):
    assert f'give its folder, {model}' in refusal(model / name)


@pytest.mark.parametrize(('content', 'words'), [
    (b'GGUF' + bytes(60), 'GGUF'), (POINTER, 'git lfs pull'), (PAGE, 'web page'),
    (b'PK\x03\x04', 'pickle'), (b'\x1f\x8b\x08', 'unpack'), (b'RIFF', 'give the folder'),
    (b'', 'give the folder'), (b'{"a": 1}', 'give the folder'), (b'Secret', 'give the folder')])
def test_another_file(tmp_path, content, words):
    (tmp_path / 'file').write_bytes(content)
    message = refusal(tmp_path / 'file')
    assert words in message
    assert 'Secret' not in message.replace(str(tmp_path), '')


@pytest.mark.parametrize('name', [
    'mistralai/Voxtral-Mini-4B-Realtime-2602',
    'https://huggingface.co/mistralai/Voxtral-Mini-4B-Realtime-2602'])
def test_the_name_of_a_model_on_the_hub(tmp_path, model, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HF_HOME', str(tmp_path / 'cache'))
    monkeypatch.delenv('HF_HUB_CACHE', raising=False)
    assert 'hf download mistralai/Voxtral-Mini-4B-Realtime-2602' in refusal(name)
    snapshot = tmp_path / 'cache/hub/models--mistralai--Voxtral-Mini-4B-Realtime-2602/snapshots/1'
    shutil.copytree(model, snapshot)
    assert f'here already: give {snapshot}' in refusal(name)


@pytest.mark.parametrize(('name', 'words'), [
    ('~/models', 'write the whole path'), ('s3://bucket/model', 'is an address'),
    ('/nowhere', 'a model is a folder with'), ('given/nowhere', 'a model is a folder with')])
def test_other_names(folder, monkeypatch, name, words):
    monkeypatch.chdir(folder.parent)
    assert words in refusal(name)


# ---- files whose content is another ----

@pytest.mark.parametrize('name', ['params.json', 'tekken.json', 'consolidated.safetensors'])
@pytest.mark.parametrize(('content', 'words'), [
    (POINTER, 'git lfs pull'), (PAGE, 'a saved web page'),
    (b'Entry not found', 'the text "Entry not found"'), (b'GGUF' + bytes(60), 'GGUF'),
    (bytes(400), 'zeros'), (b'', 'again')])
def test_a_file_that_is_something_else(model, name, content, words):
    (model / name).write_bytes(content)
    message = refusal(model)
    assert words in message
    assert name in message


@pytest.mark.parametrize(('tensors', 'words'), [
    ({'layers.0.attention.wq.weight': ('F8_E4M3', [4, 4], 16)}, 'quantized as FP8'),
    ({'layers.0.attention.wq.weight': ('F8_E5M2', [4, 4], 16),
      'layers.0.attention.wq.qscale_weight': ('F32', [], 4)}, 'quantized as FP8'),
    ({'a.weight_packed': ('U8', [4], 4), 'a.weight_scale': ('F8_E4M3', [4], 4),
      'a.weight_global_scale': ('F32', [1], 4)}, 'quantized as NVFP4'),
    ({'a.weight_packed': ('I32', [4], 16), 'a.weight_scale': ('BF16', [4], 8)},
     'quantized as compressed-tensors'),
    ({'a.qweight': ('I32', [4], 16), 'a.qzeros': ('I32', [4], 16), 'a.scales': ('F16', [4], 8)},
     'quantized as AWQ or GPTQ'),
    ({'a.weight': ('U8', [4], 4), 'a.weight.absmax': ('F32', [4], 16)}, 'bitsandbytes'),
    ({'a.weight': ('F4', [4], 2)}, 'quantized as FP4'),
    ({'language_model.model.norm.weight': ('BF16', [4], 8)}, 'the names of Hugging Face')])
def test_weights_of_other_formats(model, tensors, words):
    weights(model / 'consolidated.safetensors', tensors)
    message = refusal(model)
    assert words in message
    assert NATIVE in message


@pytest.mark.parametrize('extra', [
    {'quantization': {'qformat_weight': 'fp8_e4m3', 'qscheme_act': 'TENSOR'}},
    {'quantization_config': {'config_groups': {}, 'quant_method': 'compressed-tensors'}},
    {'quantization_config': {'bits': 4, 'quant_method': 'awq', 'zero_point': True}}])
def test_params_that_speak_of_another_quantization(model, extra):
    (model / 'params.json').write_text(json.dumps(PARAMS | extra))
    message = refusal(model)
    assert 'quantized as ' in message
    assert NATIVE in message


def test_a_file_that_may_not_be_read(model):
    (model / 'params.json').unlink()
    (model / 'params.json').mkdir()
    with pytest.raises(ConfigError, match='cannot be read: Is a directory'):
        check_folder(model)
