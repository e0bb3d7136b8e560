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

"""The shapes of all weights of a network, known from its sizes: nothing is built for that."""

from __future__ import annotations

from voxtral_ros.model.config import ModelConfig, StackConfig

CONV_KERNEL = 3  # mel frames that a convolution of the stem sees

Shapes = dict[str, tuple[int, ...]]


def weight_shapes(config: ModelConfig) -> Shapes:
    """Return the parameters of a VoxtralRealtime, by their names in it and in its order."""
    encoder, decoder = config.encoder, config.decoder
    shapes: Shapes = {}
    channels = config.audio.num_mel_bins
    for n in range(2):
        shapes[f'encoder.conv_layers.{n}.conv.weight'] = encoder.dim, channels, CONV_KERNEL
        shapes[f'encoder.conv_layers.{n}.conv.bias'] = encoder.dim,
        channels = encoder.dim
    for n in range(encoder.n_layers):
        shapes |= _block(f'encoder.layers.{n}.', encoder)
    shapes['encoder.norm.weight'] = encoder.dim,
    shapes['adapter.0.weight'] = decoder.dim, encoder.dim * config.downsample_factor
    shapes['adapter.2.weight'] = decoder.dim, decoder.dim
    shapes['decoder.tok_embeddings.weight'] = config.vocab_size, decoder.dim
    for n in range(decoder.n_layers):
        path = f'decoder.layers.{n}.'
        shapes |= _block(path, decoder)
        shapes[path + 'ada_rms_norm_t_cond.0.weight'] = config.ada_dim, decoder.dim
        shapes[path + 'ada_rms_norm_t_cond.2.weight'] = decoder.dim, config.ada_dim
    shapes['decoder.norm.weight'] = decoder.dim,
    return shapes


def _block(path: str, config: StackConfig) -> Shapes:
    """Return the parameters of attention and feed-forward of a layer."""
    dim, hidden = config.dim, config.hidden_dim
    q, kv = (heads * config.head_dim for heads in (config.n_heads, config.n_kv_heads))
    linears = {'wq': (q, dim), 'wk': (kv, dim), 'wv': (kv, dim), 'wo': (dim, q)}
    shapes: Shapes = {f'{path}attention_norm.weight': (dim,)}
    for name, shape in linears.items():
        shapes[f'{path}attention.{name}.weight'] = shape
        if config.use_biases and name != 'wk':
            shapes[f'{path}attention.{name}.bias'] = shape[:1]
    shapes[f'{path}ffn_norm.weight'] = dim,
    shapes[f'{path}feed_forward.w1.weight'] = hidden, dim
    shapes[f'{path}feed_forward.w2.weight'] = dim, hidden
    if config.use_biases:
        shapes[f'{path}feed_forward.w2.bias'] = dim,
    shapes[f'{path}feed_forward.w3.weight'] = hidden, dim
    return shapes
