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

import base64
from typing import Any

from bench.random_checkpoints import (
    ADA_DIM, BOS, EMBEDDING, ENCODER, EOS, N_SPECIAL, N_TINY_TEXT, PAD, random_tensors,
    real_params, section, SECTIONS, STREAMING_PAD, STREAMING_WORD, tensor_shapes, tiny_params,
    write_checkpoint)

__all__ = [
    'ADA_DIM', 'BOS', 'EMBEDDING', 'ENCODER', 'EOS', 'N_SPECIAL', 'N_TINY_TEXT', 'PAD',
    'SECTIONS', 'STREAMING_PAD', 'STREAMING_WORD', 'random_tensors', 'real_params', 'section',
    'tekken_dict', 'tensor_shapes', 'tiny_params', 'tiny_tekken', 'tiny_vocabulary',
    'write_checkpoint']

# Words of the tiny vocabulary. Prefixes of the Cyrillic one end inside a character, as in the real
# file. The five prefixes of the last word lie beyond N_TINY_TEXT: listed, but not in use.
WORDS = (' the', ' and', ' what', ' are', ' you', ' doing', ' here', ' caf\u00e9', ' \u043d\u0435',
         ' robot', ' stop', ' turn', ' left', ' zebra')
TEKKEN_PATTERN = (
    r'[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+'
    r'|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*'
    r'|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+')
# Names that mistral-common looks up for version v7; the others get its filler name.
SPECIAL_NAMES = dict(enumerate((
    '<unk>', '<s>', '</s>', '[INST]', '[/INST]', '[AVAILABLE_TOOLS]', '[/AVAILABLE_TOOLS]',
    '[TOOL_RESULTS]', '[/TOOL_RESULTS]', '[TOOL_CALLS]', '[IMG]', '<pad>', '[IMG_BREAK]',
    '[IMG_END]', '[PREFIX]', '[MIDDLE]', '[SUFFIX]', '[SYSTEM_PROMPT]', '[/SYSTEM_PROMPT]',
    '[TOOL_CONTENT]')))
SPECIAL_NAMES.update({24: '[AUDIO]', 25: '[BEGIN_AUDIO]',
                      32: '[STREAMING_PAD]', 33: '[STREAMING_WORD]'})


def tiny_vocabulary() -> list[bytes]:
    """Return the 256 single bytes and then every longer prefix of the tiny words."""
    vocabulary = [bytes([value]) for value in range(256)]
    for word in WORDS:
        text = word.encode()
        prefixes = [text[:end] for end in range(2, len(text) + 1)]
        vocabulary += [prefix for prefix in prefixes if prefix not in vocabulary]
    return vocabulary


def tekken_dict(vocab: list[bytes], n_special: int = N_SPECIAL, n_text: int | None = None,
                delay_ms: int = 480, left_pad_tokens: int = 32) -> dict[str, Any]:
    """
    Return a tekken.json with the byte strings `vocab` as text tokens n_special + rank.

    Only the first `n_text` entries are in use (default: all); the real file, too, lists more than
    its `default_vocab_size` admits.
    """
    return {
        'config': {
            'pattern': TEKKEN_PATTERN, 'num_vocab_tokens': len(vocab),
            'default_vocab_size': n_special + (len(vocab) if n_text is None else n_text),
            'default_num_special_tokens': n_special, 'version': 'v7',
        },
        'vocab': [
            {'rank': rank, 'token_bytes': base64.b64encode(text).decode(),
             'token_str': _decode_or_none(text)}
            for rank, text in enumerate(vocab)],
        'special_tokens': [
            {'rank': rank, 'is_control': True,
             'token_str': SPECIAL_NAMES.get(rank, f'<SPECIAL_{rank}>')}
            for rank in range(n_special)],
        'audio': {
            'sampling_rate': 16000, 'frame_rate': 12.5, 'transcription_format': 'streaming',
            'transcription_delay_ms': delay_ms, 'streaming_look_ahead_ms': 2.5,
            'streaming_look_back_ms': 52.5, 'streaming_n_left_pad_tokens': left_pad_tokens,
            'audio_encoding_config': {'num_mel_bins': 128, 'hop_length': 160, 'window_size': 400},
        },
    }


def tiny_tekken(**options: Any) -> dict[str, Any]:
    """Return the tekken.json that belongs to `tiny_params()`; options as for `tekken_dict`."""
    return tekken_dict(tiny_vocabulary(), n_text=N_TINY_TEXT, **options)


def _decode_or_none(text: bytes) -> str | None:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return None
