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
Tiny random checkpoints: sizes and weights as in bench/, and tokenizers that belong to them.

`checkpoints.write_checkpoint(folder, params, tensors, tekken)` makes a folder of them.
"""

from typing import Any

from bench.random_checkpoints import (
    ADA_DIM, BOS, EMBEDDING, ENCODER, EOS, N_SPECIAL, N_TINY_TEXT, PAD, random_tensors,
    real_params, section, SECTIONS, STREAMING_PAD, STREAMING_WORD, tekken_dict, tensor_shapes,
    tiny_params, write_checkpoint)

__all__ = [
    'ADA_DIM', 'BOS', 'EMBEDDING', 'ENCODER', 'EOS', 'N_SPECIAL', 'N_TINY_TEXT', 'PAD',
    'SECTIONS', 'STREAMING_PAD', 'STREAMING_WORD', 'random_tensors', 'real_params', 'section',
    'tekken_dict', 'tensor_shapes', 'tiny_params', 'tiny_tekken', 'tiny_vocabulary',
    'write_checkpoint']

# Words of the tiny vocabulary. Prefixes of the Cyrillic one end inside a character, as in the real
# file. The five prefixes of the last word lie beyond N_TINY_TEXT: listed, but not in use.
WORDS = (' the', ' and', ' what', ' are', ' you', ' doing', ' here', ' caf\u00e9', ' \u043d\u0435',
         ' robot', ' stop', ' turn', ' left', ' zebra')


def tiny_vocabulary() -> list[bytes]:
    """Return the 256 single bytes and then every longer prefix of the tiny words."""
    vocabulary = [bytes([value]) for value in range(256)]
    for word in WORDS:
        text = word.encode()
        prefixes = [text[:end] for end in range(2, len(text) + 1)]
        vocabulary += [prefix for prefix in prefixes if prefix not in vocabulary]
    return vocabulary


def tiny_tekken(**options: Any) -> dict[str, Any]:
    """Return the tekken.json that belongs to `tiny_params()`; options as for `tekken_dict`."""
    return tekken_dict(tiny_vocabulary(), n_text=N_TINY_TEXT, **options)
