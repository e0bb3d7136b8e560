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
The tensors of a model in the layout of Hugging Face, as if they were those of Mistral's file.

Names differ, and the order of rows of the queries and keys: Mistral's stand in pairs that RoPE
rotates, (2j, 2j + 1) of a head, those of Hugging Face in halves, (j, j + head_dim / 2). Source:
transformers, `models/voxtral_realtime`; files as its `save_pretrained` writes them, and with the
names that its modules have in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
import re

import numpy as np

from voxtral_ros.quantization.format import CHECKPOINT_LINEARS
from voxtral_ros.quantization.tensorfile import Array, CheckpointError, Spec, TensorSource
from voxtral_ros.quantization.weights import interleaved

_EMBEDDING = 'mm_streams_embeddings.embedding_module.'
_ENCODER = _EMBEDDING + 'whisper_encoder.'
_OUTSIDE_LAYERS = {
    'language_model.embed_tokens': _EMBEDDING + 'tok_embeddings',
    'language_model.norm': 'norm',
    'multi_modal_projector.linear_1': _EMBEDDING + 'audio_language_projection.0',
    'multi_modal_projector.linear_2': _EMBEDDING + 'audio_language_projection.2',
    'audio_tower.embedder.conv1': _ENCODER + 'conv_layers.0.conv',
    'audio_tower.embedder.conv2': _ENCODER + 'conv_layers.1.conv',
    'audio_tower.norm': _ENCODER + 'transformer.norm',
}
_LAYERS = {'audio_tower': _ENCODER + 'transformer.layers.', 'language_model': 'layers.'}
_INSIDE_LAYERS = {
    'audio_tower': CHECKPOINT_LINEARS | {
        'self_attn_layer_norm': 'attention_norm', 'final_layer_norm': 'ffn_norm'},
    'language_model': CHECKPOINT_LINEARS | {
        'input_layernorm': 'attention_norm', 'post_attention_layernorm': 'ffn_norm',
        'ada_rms_norm.linear1': 'ada_rms_norm_t_cond.0',
        'ada_rms_norm.linear2': 'ada_rms_norm_t_cond.2'},
}
# The head is the token embedding; files of untied models are refused by their config.json.
_TIED = 'lm_head.weight', 'language_model.lm_head.weight'


def checkpoint_name(name: str) -> str | None:
    """Return the checkpoint name of a tensor in their layout, None if there is no such tensor."""
    module, _, kind = name.removeprefix('model.').rpartition('.')
    if module.startswith('language_model.model.'):
        module = 'language_model.' + module.removeprefix('language_model.model.')
    if module in _OUTSIDE_LAYERS:
        return f'{_OUTSIDE_LAYERS[module]}.{kind}'
    match = re.fullmatch(r'(audio_tower|language_model)\.layers\.(\d+)\.(.+)', module)
    part = _INSIDE_LAYERS[match[1]].get(match[3]) if match else None
    return f'{_LAYERS[match[1]]}{match[2]}.{part}.{kind}' if match and part else None


class HuggingFaceTensors:
    """A TensorSource with checkpoint names and order of rows, over one that has the others."""

    def __init__(self, source: TensorSource, encoder_head_dim: int,
                 decoder_head_dim: int) -> None:
        """
        Take over a source, which is closed with this one.

        :raises CheckpointError: it has a tensor twice, or queries that are no whole heads
        """
        self.path, self._source = source.path, source
        self._head_dims = encoder_head_dim, decoder_head_dim
        self._names: dict[str, str] = {}  # checkpoint name -> name in the source
        for name in source.specs:
            if name.removeprefix('model.') in _TIED:
                continue
            weight_name = checkpoint_name(name) or name
            if weight_name in self._names:
                raise CheckpointError(f'{self.path}: {weight_name} is in it twice, as '
                                      f'{self._names[weight_name]} and as {name}')
            self._names[weight_name] = name
            head_dim = self._head_dim(weight_name)
            if head_dim and source.specs[name].shape[0] % head_dim:
                raise CheckpointError(f'{self.path}: {name} has {source.specs[name].shape[0]} '
                                      f'rows, which are no whole heads of {head_dim}')
        self.specs: dict[str, Spec] = {
            weight_name: source.specs[name] for weight_name, name in self._names.items()}
        # The head that the last block of rows ended in, as it is in the source: what is read twice
        # is not compared with its checksum.
        self._last: tuple[str, int, Array] | None = None

    def check(self) -> None:
        """Raise CheckpointError if something that was read is not that of its checksum."""
        self._source.check()

    def close(self) -> None:
        self._source.close()

    def read(self, name: str) -> Array:
        """Read a tensor."""
        return self.rows(name, 0, None)

    def rows(self, name: str, start: int, stop: int | None) -> Array:
        """Read rows start..stop of the first axis; None is its end."""
        if not (head_dim := self._head_dim(name)):
            return self._source.rows(self._names[name], start, stop)
        stop = self.specs[name].shape[0] if stop is None else stop
        first = start // head_dim * head_dim
        last = -(-stop // head_dim) * head_dim
        heads = self._heads(name, first, last, head_dim)
        self._last = (name, last - head_dim, heads[-head_dim:].copy()) if stop < last else None
        return interleaved(heads, head_dim)[start - first:stop - first]

    def pieces(self, name: str) -> Iterator[tuple[int, Array]]:
        """Yield a tensor flat, in pieces that last until the next: number of the first, they."""
        if not (head_dim := self._head_dim(name)):
            yield from self._source.pieces(self._names[name])
            return
        done = 0
        for start in range(0, self.specs[name].shape[0], head_dim):
            part = self.rows(name, start, start + head_dim).reshape(-1)
            yield done, part
            done += len(part)

    def _heads(self, name: str, first: int, last: int, head_dim: int) -> Array:
        """Read the rows of whole heads in the order of the source."""
        rows = self._source.rows
        if self._last and self._last[:2] == (name, first):
            more = rows(self._names[name], first + head_dim, last)
            return np.concatenate([self._last[2], more])
        return rows(self._names[name], first, last)

    def _head_dim(self, weight_name: str) -> int:
        """Return the length of the heads whose rows have another order here, 0 if none have."""
        if '.attention.wq.' not in weight_name and '.attention.wk.' not in weight_name:
            return 0
        return self._head_dims[0 if weight_name.startswith(_ENCODER) else 1]
