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
"""`config.json` of Hugging Face as the `params.json` that says the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from voxtral_ros.quantization.foreign import INSTEAD

_TYPE = 'voxtral_realtime'
# Keys that are left out have these values, as in transformers.
_TEXT = {
    'vocab_size': 131072, 'hidden_size': 3072, 'intermediate_size': 9216,
    'num_hidden_layers': 26, 'num_attention_heads': 32, 'num_key_value_heads': 8,
    'head_dim': 128, 'rms_norm_eps': 1e-5, 'sliding_window': 8192, 'rope_theta': 1e6,
    'max_position_embeddings': 131072, 'hidden_act': 'silu'}
_AUDIO = {
    'vocab_size': 131072, 'hidden_size': 1280, 'intermediate_size': 5120,
    'num_hidden_layers': 32, 'num_attention_heads': 32, 'head_dim': 64, 'rms_norm_eps': 1e-5,
    'sliding_window': 750, 'rope_theta': 1e4, 'num_mel_bins': 128, 'hidden_act': 'silu',
    'activation_function': 'gelu'}
_MODEL = {
    'audio_length_per_tok': 8, 'downsample_factor': 4, 'projector_hidden_act': 'gelu',
    'tie_word_embeddings': True}
_STACK = {
    'dim': 'hidden_size', 'n_layers': 'num_hidden_layers', 'head_dim': 'head_dim',
    'hidden_dim': 'intermediate_size', 'n_heads': 'num_attention_heads',
    'norm_eps': 'rms_norm_eps', 'sliding_window': 'sliding_window', 'vocab_size': 'vocab_size'}
_ADA_DIM = 32  # fixed in transformers
_SAMPLING_RATE, _HOP, _WINDOW = 16000, 160, 400  # of its feature extractor


def params_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the content of `params.json` for that of a `config.json`.

    :raises ValueError: it is of another network, or of one that is quantized; numbers are only
        checked when the result is
    """
    _check_kind(config)
    model = _MODEL | {key: config[key] for key in _MODEL if config.get(key) is not None}
    text = _section(config, 'text_config', _TEXT)
    audio = _section(config, 'audio_config', _AUDIO)
    for values, key, only in ((text, 'hidden_act', 'silu'), (audio, 'hidden_act', 'silu'),
                              (audio, 'activation_function', 'gelu'),
                              (model, 'projector_hidden_act', 'gelu'),
                              (model, 'tie_word_embeddings', True)):
        if values[key] != only:
            raise ValueError(f'"{key}" is {repr(values[key])[:40]}; this network has {only!r}')
    per_token = model['audio_length_per_tok']
    if not isinstance(per_token, int) or per_token < 1:
        raise ValueError(f'"audio_length_per_tok" is {repr(per_token)[:40]}, expected a number '
                         'of mel frames')
    encoder = {
        'audio_encoding_args': {
            'sampling_rate': _SAMPLING_RATE, 'frame_rate': _SAMPLING_RATE / _HOP / per_token,
            'num_mel_bins': audio['num_mel_bins'], 'hop_length': _HOP, 'window_size': _WINDOW,
            'chunk_length_s': None, 'global_log_mel_max': 1.5,
            'transcription_format': 'streaming'},
        **_stack(audio), 'n_kv_heads': audio['num_attention_heads'], 'use_biases': True,
        'use_cache': False, 'causal': True, 'pos_embed': 'rope', 'max_source_positions': None,
        'ffn_type': 'swiglu', 'norm_type': 'rms_norm'}
    return {
        **_stack(text), 'n_kv_heads': text['num_key_value_heads'], 'use_biases': False,
        'causal': True, 'model_parallel': 1, 'tied_embeddings': True,
        'model_max_length': text['max_position_embeddings'],
        'multimodal': {'whisper_model_args': {
            'encoder_args': encoder,
            'downsample_args': {'downsample_factor': model['downsample_factor']}}},
        'ada_rms_norm_t_cond': True, 'ada_rms_norm_t_cond_dim': _ADA_DIM}


def _check_kind(config: Mapping[str, Any]) -> None:
    """Raise ValueError unless this is a network of this kind, with its weights as they are."""
    kind = str(config.get('model_type', ''))[:40]
    quantization = config.get('quantization_config')
    method = ''
    if quantization is not None:
        method = quantization.get('quant_method', 'unknown') \
            if isinstance(quantization, Mapping) else quantization
        method = f', quantized as {str(method)[:40]}'
    if kind != _TYPE or method:
        raise ValueError(f'this is a model {f"of type {kind} " if kind else ""}in the layout of '
                         f'Hugging Face{method}, which is not supported: {INSTEAD}')


def _section(config: Mapping[str, Any], key: str,
             defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of one stack, with what is left out."""
    found = config.get(key)
    if found is None:
        found = {}
    if not isinstance(found, Mapping):
        raise ValueError(f'"{key}" is a {type(found).__name__}, expected an object')
    values = {**defaults, **{name: found[name] for name in defaults
                             if found.get(name) is not None}}
    rope = found.get('rope_parameters')
    if isinstance(rope, Mapping):
        if rope.get('rope_type', 'default') != 'default':
            raise ValueError(f'"{key}.rope_parameters.rope_type" is '
                             f'{repr(rope["rope_type"])[:40]}; this network has \'default\'')
        values['rope_theta'] = rope.get('rope_theta', values['rope_theta'])
    return values


def _stack(values: Mapping[str, Any]) -> dict[str, Any]:
    return {ours: values[theirs] for ours, theirs in _STACK.items()} \
        | {'rope_theta': values['rope_theta']}
