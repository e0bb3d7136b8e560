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

"""Names of weights: Mistral's, as in `consolidated.safetensors`, and ours, as in the network."""

from __future__ import annotations

# Prefix in the network -> prefix in the file. The first that fits counts.
_EMBEDDING = 'mm_streams_embeddings.embedding_module.'
_PREFIXES = (
    ('encoder.conv_layers.', _EMBEDDING + 'whisper_encoder.conv_layers.'),
    ('encoder.', _EMBEDDING + 'whisper_encoder.transformer.'),
    ('adapter.', _EMBEDDING + 'audio_language_projection.'),
    ('decoder.tok_embeddings.', _EMBEDDING + 'tok_embeddings.'),
    ('decoder.', ''),
)


def checkpoint_name(name: str) -> str:
    """Return the name in `consolidated.safetensors` of a parameter of VoxtralRealtime."""
    for ours, theirs in _PREFIXES:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise KeyError(name)


def part_of_pass(name: str) -> str | None:
    """
    Return which part of a pass reads a parameter of VoxtralRealtime.

    :return: 'encoder' (with the adapter), 'decoder' or 'head'; None for the delay conditioning,
        which becomes a vector per stream
    """
    if 'ada_rms_norm' in name:
        return None
    if 'tok_embeddings' in name:
        return 'head'
    return 'decoder' if name.startswith('decoder.') else 'encoder'
