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

"""Sizes from params.json: lenient where the published model is a safe guess, else strict."""

import copy
import dataclasses
import json

import pytest
from support import checkpoints

from voxtral_ros.model.config import AudioConfig, ConfigError, ModelConfig, StackConfig

REAL = ModelConfig(
    audio=AudioConfig(sampling_rate=16000, frame_rate=12.5, num_mel_bins=128, hop_length=160,
                      window_size=400, global_log_mel_max=1.5),
    encoder=StackConfig(dim=1280, n_layers=32, n_heads=32, n_kv_heads=32, head_dim=64,
                        hidden_dim=5120, sliding_window=750, rope_theta=1e6, norm_eps=1e-5,
                        use_biases=True),
    decoder=StackConfig(dim=3072, n_layers=26, n_heads=32, n_kv_heads=8, head_dim=128,
                        hidden_dim=9216, sliding_window=8192, rope_theta=1e6, norm_eps=1e-5,
                        use_biases=False),
    vocab_size=131072, downsample_factor=4, ada_dim=32)

REQUIRED = [f'{stack}{key}' for stack in ('', 'encoder.')
            for key in ('dim', 'n_layers', 'n_heads', 'head_dim', 'hidden_dim')] + [
    'vocab_size', 'multimodal', 'multimodal.whisper_model_args', 'encoder']

OPTIONAL = ['sliding_window', 'rope_theta', 'norm_eps', 'use_biases', 'tied_embeddings',
            'causal', 'model_parallel', 'model_max_length', 'ada_rms_norm_t_cond',
            'ada_rms_norm_t_cond_dim', 'downsample', 'downsample.downsample_factor', 'audio'] + [
    'encoder.' + key for key in (
        'n_kv_heads', 'sliding_window', 'rope_theta', 'norm_eps', 'use_biases', 'causal',
        'pos_embed', 'ffn_type', 'norm_type', 'vocab_size', 'use_cache')] + [
    'audio.' + key for key in checkpoints.section(checkpoints.real_params(), 'audio')]


def changed(name, value):
    """Return the real params with one value changed, whatever its kind."""
    return _edit(name, lambda node, key: node.update({key: value}))


def lacking(name):
    """Return the real params without one key."""
    return _edit(name, lambda node, key: node.pop(key))


def _edit(name, edit):
    params = copy.deepcopy(checkpoints.real_params())
    path = checkpoints.SECTIONS.get(name, name)
    parent, _, key = path.rpartition('.')
    edit(checkpoints.section(params, parent) if parent else params, key)
    return params


def last(name):
    return checkpoints.SECTIONS.get(name, name).rpartition('.')[2]


def test_the_published_file_gives_the_published_sizes():
    config = ModelConfig.from_params(checkpoints.real_params())
    assert config == REAL
    assert (config.audio.samples_per_token, config.audio.frames_per_token) == (1280, 8)


@pytest.mark.parametrize('name', OPTIONAL)
def test_what_may_be_left_out_has_the_published_value(name):
    assert ModelConfig.from_params(lacking(name)) == REAL
    assert ModelConfig.from_params(changed(name, None)) == REAL


@pytest.mark.parametrize('name', REQUIRED)
def test_a_missing_size_is_named(name):
    for params in (lacking(name), changed(name, None)):
        with pytest.raises(ConfigError, match=rf'{last(name)}[^"]*" is missing'):
            ModelConfig.from_params(params)


def test_without_n_kv_heads_every_head_has_its_own_key():
    assert ModelConfig.from_params(lacking('n_kv_heads')).decoder.n_kv_heads == 32


def test_every_value_is_taken_from_the_file():
    params = checkpoints.tiny_params(
        rope_theta=5e5, norm_eps=1e-6, ada_rms_norm_t_cond_dim=7,
        encoder={'n_kv_heads': 2, 'rope_theta': 1e4, 'norm_eps': 1e-3, 'use_biases': False},
        downsample={'downsample_factor': 2},
        audio={'frame_rate': 25.0, 'num_mel_bins': 80, 'global_log_mel_max': 2.0})
    params['confidence_exponent'] = 2.5
    assert ModelConfig.from_params(params) == ModelConfig(
        audio=AudioConfig(16000, 25.0, 80, 160, 400, 2.0),
        encoder=StackConfig(48, 2, 4, 2, 16, 80, 16, 1e4, 1e-3, False),
        decoder=StackConfig(64, 3, 8, 2, 16, 96, 24, 5e5, 1e-6, False),
        vocab_size=1305, downsample_factor=2, ada_dim=7, confidence_exponent=2.5)


def test_whole_numbers_may_be_written_either_way():
    assert ModelConfig.from_params(changed('dim', 3072.0)) == REAL
    config = ModelConfig.from_params(changed('rope_theta', 1_000_000))
    assert isinstance(config.decoder.rope_theta, float)


@pytest.mark.parametrize(('name', 'value'), [
    ('dim', '3072'), ('dim', 3072.5), ('dim', True), ('dim', [3072]), ('dim', 0), ('dim', -1),
    ('dim', float('inf')), ('dim', float('nan')),
    ('vocab_size', 0), ('vocab_size', -5), ('vocab_size', '131072'),
    ('ada_rms_norm_t_cond_dim', 0), ('confidence_exponent', 0), ('confidence_exponent', '2'),
    ('use_biases', 0), ('use_biases', 'no'), ('encoder.use_biases', 1),
    ('rope_theta', '1e6'), ('rope_theta', 0), ('rope_theta', -1.0),
    pytest.param('rope_theta', 10**400, id='rope_theta-huge'),
    ('norm_eps', -1e-5),
    ('multimodal', 3), ('multimodal.whisper_model_args', [1]), ('encoder', 'whisper'),
    ('audio', [1]), ('audio', 'mel'), ('downsample', [4]), ('downsample', 4),
    ('audio.sampling_rate', 16000.5), ('audio.num_mel_bins', 0), ('audio.window_size', 0),
    ('audio.frame_rate', 0), ('audio.hop_length', 0),
])
def test_a_wrong_value_is_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=last(name)):
        ModelConfig.from_params(changed(name, value))


@pytest.mark.parametrize(('name', 'value'), [
    ('n_layers', 10**6), ('encoder.n_layers', 10**9), ('dim', 10**12), ('hidden_dim', 10**15),
    ('encoder.dim', 10**300), ('head_dim', 10**7), ('vocab_size', 10**10),
    ('sliding_window', 10**9), ('encoder.sliding_window', 10**18), ('rope_theta', 1e300),
    ('norm_eps', 5.0), ('audio.num_mel_bins', 10**7), ('audio.window_size', 10**9),
    ('audio.hop_length', 10**6), ('audio.frame_rate', 1e9), ('audio.global_log_mel_max', 1e30),
    ('downsample.downsample_factor', 10**6), ('ada_rms_norm_t_cond_dim', 10**12)])
def test_a_huge_value_is_refused_by_name(name, value):
    """Before memory is asked for, or a network built, that could not be."""
    with pytest.raises(ConfigError, match=f'{last(name)}" is .*, expected at most'):
        ModelConfig.from_params(changed(name, value))


def test_a_number_of_thousands_of_digits(tmp_path):
    text = json.dumps(checkpoints.real_params()).replace('131072', '9' * 5000)
    (tmp_path / 'params.json').write_text(text)
    with pytest.raises(ConfigError, match=r'params\.json') as error:
        ModelConfig.load(tmp_path)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(('name', 'value', 'message'), [
    ('n_kv_heads', 5, 'n_kv_heads" is 5, which does not divide n_heads 32'),
    ('encoder.n_kv_heads', 64, 'n_kv_heads" is 64, which does not divide'),
    ('head_dim', 127, 'head_dim" is 127'),
    ('encoder.head_dim', 63, 'encoder_args.head_dim" is 63'),
    ('tied_embeddings', False, 'tied_embeddings" is False'),
    ('ada_rms_norm_t_cond', False, 'ada_rms_norm_t_cond" is False'),
    ('use_biases', True, 'use_biases" is true'),
    ('encoder.causal', False, 'causal" is False'),
    ('encoder.pos_embed', 'sinusoidal', "pos_embed\" is 'sinusoidal'"),
    ('encoder.ffn_type', 'gelu', "ffn_type\" is 'gelu'"),
    ('encoder.norm_type', 'layer_norm', "norm_type\" is 'layer_norm'"),
    ('downsample.downsample_factor', 2, 'downsample_factor" is 2'),
    ('audio.frame_rate', 25.0, 'downsample_factor" is 4'),
    ('audio.sampling_rate', 8000, 'sampling_rate" is 8000 Hz; this network has 16000'),
    ('audio.window_size', 100, 'window_size" is 100, less than "hop_length", 160'),
    ('audio.hop_length', 170, 'hop_length 170'),
])
def test_a_relative_of_this_network_is_refused(name, value, message):
    with pytest.raises(ConfigError) as error:
        ModelConfig.from_params(changed(name, value))
    assert message in str(error.value)


def test_load_names_the_file(tmp_path):
    path = tmp_path / 'params.json'
    path.write_text(json.dumps(checkpoints.real_params()))
    assert ModelConfig.load(tmp_path) == REAL
    path.write_text(json.dumps(lacking('n_layers')))
    with pytest.raises(ConfigError, match=f'^{path}: "n_layers" is missing$'):
        ModelConfig.load(str(tmp_path))


def test_a_missing_file_says_what_a_model_is(tmp_path):
    with pytest.raises(ConfigError, match='does not exist: a model is a folder with params.json'):
        ModelConfig.load(tmp_path)


@pytest.mark.parametrize('content', [
    b'', b'{"dim": ', b'\xff\xfe\x00', b'[]', b'null', b'7',
    pytest.param(b'[' * 100_000, id='deep')])
def test_a_file_that_is_no_json_object_is_refused(tmp_path, content):
    (tmp_path / 'params.json').write_bytes(content)
    with pytest.raises(ConfigError, match=r'params\.json'):
        ModelConfig.load(tmp_path)


def test_a_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        REAL.decoder.dim = 1
