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
"""
Layouts: the folders that transformers writes, and shards, hold the same model as Mistral's file.

transformers itself writes them here, of the weights of a native checkpoint.
"""

from copy import deepcopy
import json
import logging
import shutil

import numpy as np
import pytest

torch = pytest.importorskip('torch')
pytest.importorskip('transformers')

from quantization import packable  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from support import checkpoints, hf_reference  # noqa: E402

from voxtral_ros.cli.main import main  # noqa: E402
from voxtral_ros.model.checkpoint import check_folder, WEIGHTS  # noqa: E402
from voxtral_ros.model.config import ModelConfig  # noqa: E402
from voxtral_ros.model.layout import find_layout  # noqa: E402
from voxtral_ros.model.loading import load_network  # noqa: E402
from voxtral_ros.quantization.format import Recipe  # noqa: E402
from voxtral_ros.quantization.quantizer import quantize  # noqa: E402
from voxtral_ros.recognizer.engine import Engine  # noqa: E402

# Heads of another length in each stack.
PARAMS = deepcopy(packable.PARAMS)
checkpoints.section(PARAMS, 'encoder').update(head_dim=16, n_heads=16, n_kv_heads=16)
TENSORS = {name: tensor.bfloat16()
           for name, tensor in checkpoints.random_tensors(PARAMS, seed=0).items()}
N_SHARDS = 40
Q_PROJ = 'language_model.model.layers.0.self_attn.q_proj.weight'


@pytest.fixture(scope='module')
def native(tmp_path_factory):
    return packable.write(tmp_path_factory.mktemp('layouts') / 'native', TENSORS, PARAMS)


@pytest.fixture(scope='module')
def saved(native):
    """Return the folders that transformers writes: in one file, and in many shards."""
    model = hf_reference.load_hf(PARAMS, TENSORS).bfloat16()
    folders = native.with_name('whole'), native.with_name('shards')
    for folder, options in zip(folders, ({}, {'max_shard_size': 100}), strict=True):
        model.save_pretrained(folder, **options)
        shutil.copy(native / 'tekken.json', folder)
    assert len(list(folders[1].glob('model-*.safetensors'))) >= N_SHARDS
    return folders


@pytest.fixture
def whole(saved, tmp_path):
    """Return a folder of one file that a test may change."""
    return shutil.copytree(saved[0], tmp_path / 'folder')


@pytest.fixture
def shards(saved, tmp_path):
    return shutil.copytree(saved[1], tmp_path / 'folder')


def shard_natively(native, folder, n_shards=3, with_index=True):
    """Write a native folder in shards and return it."""
    folder.mkdir()
    tensors = load_file(native / WEIGHTS)
    weight_map = {}
    for index in range(n_shards):
        name = f'consolidated-{index + 1:05}-of-{n_shards:05}.safetensors'
        part = dict(list(tensors.items())[index::n_shards])
        save_file(part, folder / name)
        weight_map.update(dict.fromkeys(part, name))
    if with_index:
        (folder / f'{WEIGHTS}.index.json').write_text(json.dumps({'weight_map': weight_map}))
    for name in ('params.json', 'tekken.json'):
        shutil.copy(native / name, folder)
    return folder


def change(path, **changes):
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps(content))


def same_weights(folder, native):
    found, expected = (dict(load_network(path, dtype=torch.float32).named_parameters())
                       for path in (folder, native))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def refusal(folder):
    with pytest.raises(ValueError) as error:  # noqa: PT011 (of any of the kinds)
        check_folder(folder)
    message = str(error.value)
    assert message.isprintable()
    assert str(folder) in message
    return message


# ---- the same model ----

def test_what_transformers_writes(saved, native):
    for folder in saved:
        check_folder(folder)
        assert ModelConfig.load(folder) == ModelConfig.load(native)
        same_weights(folder, native)


@pytest.mark.parametrize('with_index', [True, False])
def test_native_shards(native, tmp_path, with_index):
    same_weights(shard_natively(native, tmp_path / 'shards', with_index=with_index), native)


def test_shards_of_hugging_face_without_an_index(shards, native):
    (shards / 'model.safetensors.index.json').unlink()
    same_weights(shards, native)


@pytest.mark.parametrize('prefix', ['model.', ''])
def test_the_names_that_modules_have_in_memory(whole, native, prefix):
    tensors = load_file(whole / 'model.safetensors')
    save_file({prefix + name.replace('language_model.model.', 'language_model.'): tensor
               for name, tensor in tensors.items()}, whole / 'model.safetensors')
    same_weights(whole, native)


def test_a_head_that_is_written_beside_the_embedding_it_is_tied_to(whole, native):
    tensors = load_file(whole / 'model.safetensors')
    embedding = tensors['language_model.model.embed_tokens.weight']
    save_file({**tensors, 'lm_head.weight': embedding.clone()}, whole / 'model.safetensors')
    same_weights(whole, native)


def test_the_same_ids(saved, native):
    samples = 0.1 * torch.randn(40000, generator=torch.Generator().manual_seed(3)).numpy()
    ids = []
    for folder in (native, *saved):
        engine = Engine.load(folder, 'cpu', max_streams=1)
        tokens = []
        decode = engine.backend.decode

        def recorded(*arguments, decode=decode, tokens=tokens):
            step = decode(*arguments)
            tokens.append(np.array(step.ids).tolist())
            return step

        engine.backend.decode = recorded
        stream = engine.open()
        stream.feed(samples)
        stream.close()
        ids.append(tokens)
    assert ids[0]
    assert ids[1] == ids[0]
    assert ids[2] == ids[0]


def test_keys_that_are_left_out_mean_what_they_do_in_transformers(tmp_path):
    def load(**content):
        (tmp_path / 'config.json').write_text(json.dumps(
            {'model_type': 'voxtral_realtime', **content}))
        theirs = hf_reference.VoxtralRealtimeForConditionalGeneration.config_class\
            .from_pretrained(tmp_path)
        ours = ModelConfig.load(tmp_path)
        for stack, config in ((ours.decoder, theirs.text_config),
                              (ours.encoder, theirs.audio_config)):
            assert stack.dim == config.hidden_size
            assert stack.hidden_dim == config.intermediate_size
            assert stack.n_layers == config.num_hidden_layers
            assert stack.n_heads == config.num_attention_heads
            assert stack.n_kv_heads == config.num_key_value_heads
            assert stack.head_dim == config.head_dim
            assert stack.sliding_window == config.sliding_window
            assert stack.norm_eps == config.rms_norm_eps
            assert stack.rope_theta == config.rope_parameters['rope_theta']
        assert ours.vocab_size == theirs.text_config.vocab_size
        return ours

    assert load().decoder.dim == 3072
    load(text_config={'model_type': 'voxtral_realtime_text', 'hidden_size': 1024})
    load(text_config={'rope_parameters': {'rope_type': 'default', 'rope_theta': 5000.0}},
         audio_config={'num_hidden_layers': 3})


def test_of_two_layouts_the_native_one_is_read_and_that_is_said(whole, native, caplog):
    for name in ('params.json', WEIGHTS):
        shutil.copy(native / name, whole)
    tensors = load_file(whole / 'model.safetensors')
    save_file({Q_PROJ: tensors[Q_PROJ]}, whole / 'model.safetensors')  # of no use
    with caplog.at_level(logging.INFO):
        same_weights(whole, native)
    assert f'{WEIGHTS} is read, not model.safetensors' in caplog.text


def test_params_of_mistral_serve_where_only_they_are_there(whole, native):
    (whole / 'config.json').unlink()
    shutil.copy(native / 'params.json', whole)
    same_weights(whole, native)


# ---- quantized, verified ----

@pytest.mark.parametrize('recipe', [Recipe(), Recipe('mse', 8, 8)])
@pytest.mark.parametrize('block', [1 << 20, 9000])
def test_quantizing_gives_the_same_file(saved, native, tmp_path, monkeypatch, recipe, block):
    """In blocks of rows, too, that end inside a head."""
    monkeypatch.setattr('voxtral_ros.quantization.weights._BLOCK', block)
    quantize(native, tmp_path / 'expected', recipe)
    for index, folder in enumerate(saved):
        quantize(folder, tmp_path / str(index), recipe, verify=True)
        assert (tmp_path / str(index) / WEIGHTS).read_bytes() \
            == (tmp_path / 'expected' / WEIGHTS).read_bytes()
        assert ModelConfig.load(tmp_path / str(index)) == ModelConfig.load(native)
        check_folder(tmp_path / str(index))


def test_only_one_of_many_shards_has_buffers(saved, monkeypatch):
    layout = find_layout(saved[1])
    with layout.open(layout.params()) as weights:
        shards = weights.file._source
        for name in weights.stored:
            weights.array(name)
            assert sum(bool(file._buffers) for file in shards._opened) == 1


@pytest.mark.parametrize('name', [
    Q_PROJ, 'audio_tower.layers.0.self_attn.k_proj.weight', 'audio_tower.norm.weight'])
@pytest.mark.parametrize('block', [1 << 20, 9000])
def test_damage_is_noticed(shards, tmp_path, monkeypatch, capsys, block, name):
    """Of rows whose order is another, and in blocks that end inside a head, too."""
    monkeypatch.setattr('voxtral_ros.quantization.weights._BLOCK', block)
    assert main(['verify', '--write', str(shards)]) == 0
    weight_map = json.loads((shards / 'model.safetensors.index.json').read_text())['weight_map']
    assert capsys.readouterr().out.count('their checksums are in') == len({*weight_map.values()})
    path = shards / weight_map[name]
    check_folder(shards)
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], 'little')
    begin = json.loads(content[8:start])[name]['data_offsets'][0]
    content[start + begin + 20] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f'{name} is damaged'):
        load_network(shards)
    with pytest.raises(ValueError, match=f'{name} is damaged'):
        quantize(shards, tmp_path / 'out', Recipe(encoder_bits=8))
    assert main(['verify', str(shards)]) == 1
    assert f'{name} is damaged' in capsys.readouterr().out


# ---- refused ----

def test_a_shard_that_is_missing(shards):
    name = sorted(path.name for path in shards.glob('model-*'))[6]
    (shards / name).unlink()
    message = refusal(shards)
    assert f'{name} does not exist' in message
    assert 'shard' in message
    (shards / 'model.safetensors.index.json').unlink()
    assert 'number 7 is missing' in refusal(shards)


def test_shards_of_two_models(shards):
    (shards / 'model.safetensors.index.json').unlink()
    shutil.copy(shards.glob('model-00001*').__next__(),
                shards / 'model-00001-of-00002.safetensors')
    assert 'shards of several models' in refusal(shards)


def test_an_index_that_lies(shards):
    index = shards / 'model.safetensors.index.json'
    weight_map = json.loads(index.read_text())['weight_map']
    v_proj = Q_PROJ.replace('q_proj', 'v_proj')
    first, other = weight_map[Q_PROJ], weight_map[v_proj]
    assert first != other
    change(index, weight_map={**weight_map, Q_PROJ: other, v_proj: first})
    assert f'has {Q_PROJ} in {other}, but it is in {first}' in refusal(shards)
    change(index, weight_map={**weight_map, 'another': other})
    assert f'has another in {other}, but it is in none' in refusal(shards)


def test_an_index_that_lacks_a_tensor(native, tmp_path):
    folder = shard_natively(native, tmp_path / 'folder')
    index = folder / f'{WEIGHTS}.index.json'
    weight_map = json.loads(index.read_text())['weight_map']
    name = weight_map.pop('layers.0.attention.wq.weight')
    change(index, weight_map=weight_map)
    assert f'has layers.0.attention.wq.weight in no file, but it is in {name}' in refusal(folder)


@pytest.mark.parametrize('content', [
    '{}', '{"weight_map": {}}', '{"weight_map": []}', '[]', '', '{"weight_map": {"a": 3}}',
    '{"weight_map": {"a": "../model.safetensors"}}', '{"weight_map": {"a": "/etc/passwd"}}'])
def test_an_index_that_is_none(shards, content):
    (shards / 'model.safetensors.index.json').write_text(content)
    assert 'index' in refusal(shards)


def test_a_tensor_that_is_there_twice(shards):
    first, second = sorted(shards.glob('model-*.safetensors'))[:2]
    name, tensor = next(iter(load_file(first).items()))
    save_file({**load_file(second), name: tensor}, second)
    (shards / 'model.safetensors.index.json').unlink()
    assert f'{name} is in two files, {first.name} and {second.name}' in refusal(shards)


def test_a_tensor_that_is_there_under_two_names(whole):
    tensors = load_file(whole / 'model.safetensors')
    save_file({**tensors, 'model.' + Q_PROJ: tensors[Q_PROJ].clone()}, whole / 'model.safetensors')
    assert 'twice, as' in refusal(whole)


def test_names_that_are_unknown_or_missing(whole):
    tensors = load_file(whole / 'model.safetensors')
    tensors['vision_tower.norm.weight'] = tensors.pop(Q_PROJ)
    save_file(tensors, whole / 'model.safetensors')
    message = refusal(whole)
    assert 'missing: layers.0.attention.wq.weight' in message
    assert 'unknown: vision_tower.norm.weight' in message


@pytest.mark.parametrize(('key', 'changes', 'words'), [
    (None, {'tie_word_embeddings': False}, '"tie_word_embeddings" is False'),
    (None, {'projector_hidden_act': 'relu'}, '"projector_hidden_act" is \'relu\''),
    (None, {'audio_length_per_tok': 0}, '"audio_length_per_tok" is 0'),
    (None, {'audio_config': 3}, '"audio_config" is a int'),
    ('text_config', {'hidden_size': 'wide'}, '"dim" is \'wide\''),
    ('text_config', {'hidden_act': 'gelu'}, '"hidden_act" is \'gelu\''),
    ('text_config', {'hidden_size': 64}, 'config.json makes it'),
    ('text_config', {'rope_parameters': {'rope_type': 'yarn'}}, "rope_type\" is 'yarn'"),
    ('audio_config', {'head_dim': 48}, 'no whole heads of 48')])
def test_a_config_of_another_network(whole, key, changes, words):
    path = whole / 'config.json'
    if key:
        changes = {key: json.loads(path.read_text())[key] | changes}
    change(path, **changes)
    assert words in refusal(whole)


def test_a_model_without_its_tokenizer_says_where_that_is(whole):
    (whole / 'tekken.json').unlink()
    (whole / 'tokenizer.json').touch()
    message = refusal(whole)
    assert 'tekken.json does not exist' in message
    assert 'hf download mistralai/Voxtral-Mini-4B-Realtime-2602 tekken.json' in message


def test_tensors_with_names_of_hugging_face_in_a_native_file(whole, native):
    (whole / 'model.safetensors').rename(whole / WEIGHTS)
    (whole / 'config.json').unlink()
    shutil.copy(native / 'params.json', whole)
    assert 'names of Hugging Face' in refusal(whole)
