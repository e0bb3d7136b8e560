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
Tekken tokenizer: `tekken.json` to text, and the streaming constants that stand in it.

Ids below the number of special tokens are special; id - n_special is the rank of a piece of bytes,
which may be a part of a character. Source: mistral_common `tokens/tokenizers/tekken.py`.
"""

from __future__ import annotations

import base64
import binascii
import codecs
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from voxtral_ros.model.bpe import BytePairEncoder, DEFAULT_PATTERN
from voxtral_ros.model.folder import read_json, snapshot_of

_MOST = 10_000  # ms or tokens in the section "audio"


class TokenizerError(ValueError):
    """A `tekken.json` that cannot be used; the message says why."""


@dataclass(frozen=True)
class StreamingConstants:
    """The section `audio` of tekken.json, as far as the streaming protocol needs it."""

    transcription_delay_ms: int = 480
    n_left_pad_tokens: int = 32


class Tokenizer:
    """Vocabulary of a checkpoint."""

    # Ids of the model as published, used when the file does not list its special tokens.
    _DEFAULT_SPECIALS: ClassVar = {
        '<s>': 1, '</s>': 2, '[STREAMING_PAD]': 32, '[STREAMING_WORD]': 33}

    def __init__(self, pieces: list[bytes], n_special: int = 1000,
                 specials: dict[str, int] | None = None,
                 streaming: StreamingConstants | None = None,
                 pattern: str = DEFAULT_PATTERN) -> None:
        """
        Take the byte pieces in the order of their ranks.

        :param specials: name -> id; the four names that the protocol needs have defaults
        :param pattern: what text is split by before it is encoded
        """
        self._pattern = pattern
        self.pieces = pieces
        self.n_special = n_special
        self.streaming = streaming or StreamingConstants()
        self.specials = self._DEFAULT_SPECIALS | (specials or {})
        self.bos = self.specials['<s>']
        self.eos = self.specials['</s>']
        self.pad = self.specials['[STREAMING_PAD]']
        self.word = self.specials['[STREAMING_WORD]']

    @classmethod
    def load(cls, folder: str | Path, vocab_size: int | None = None) -> Tokenizer:
        """
        Read `folder/tekken.json`.

        :param vocab_size: of the network; must be covered by the file, ids beyond are left out
        :raises TokenizerError: the file is missing, damaged or too small
        """
        path = snapshot_of(Path(folder)) / 'tekken.json'
        content = read_json(path, TokenizerError)
        try:
            return cls._from_content(content, vocab_size)
        except TokenizerError as error:
            raise TokenizerError(f'{path}: {error}') from None
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError,
                binascii.Error) as error:
            raise TokenizerError(f'{path} is not a tekken vocabulary: {type(error).__name__} '
                                 f'{str(error)[:200]}') from error

    @classmethod
    def _from_content(cls, content: dict[str, Any], vocab_size: int | None) -> Tokenizer:
        config = content['config']
        n_special = int(config['default_num_special_tokens'])
        size = vocab_size if vocab_size is not None else int(config['default_vocab_size'])
        if not 0 <= n_special < size:
            raise TokenizerError(f'it has {n_special} special tokens, '
                                 f'the network has {size} in all')
        entries = content['vocab'][:size - n_special]
        if len(entries) < size - n_special:
            raise TokenizerError(f'it has {len(entries)} text and {n_special} special tokens, '
                                 f'the network has {size} in all')
        pieces = []
        for rank, entry in enumerate(entries):
            if entry['rank'] != rank:
                raise TokenizerError(f'rank {rank} of the vocabulary is out of order')
            piece = base64.b64decode(entry['token_bytes'], validate=True)
            text = entry.get('token_str')  # the same once more, where it is text
            if isinstance(text, str) and text != piece.decode('utf-8', 'replace'):
                raise TokenizerError(f'the bytes and the text of token {rank} are not the same: '
                                     'it is damaged, download it again')
            pieces.append(piece)
        specials = {entry['token_str']: int(entry['rank'])
                    for entry in content.get('special_tokens') or []}
        audio = content.get('audio') or {}
        default = StreamingConstants()
        streaming = StreamingConstants(
            _count(audio.get('transcription_delay_ms'), default.transcription_delay_ms),
            _count(audio.get('streaming_n_left_pad_tokens'), default.n_left_pad_tokens))
        pattern = config.get('pattern') or DEFAULT_PATTERN
        tokenizer = cls(pieces, n_special, specials, streaming, pattern)
        tokenizer._check()
        return tokenizer

    def _check(self) -> None:
        """Refuse special tokens that would fail or write text in the middle of a stream."""
        needed = {name: self.specials[name] for name in self._DEFAULT_SPECIALS}
        for name, token in needed.items():
            if not 0 <= token < self.n_special:
                raise TokenizerError(f'its special token {name} is {token}, but special tokens '
                                     f'are 0 to {self.n_special - 1}')
        if len({*needed.values()}) < len(needed):
            raise TokenizerError(f'two of its special tokens are the same one: {needed}')

    def is_text(self, token: int) -> bool:
        """Return whether the token writes something."""
        return token >= self.n_special

    @cached_property
    def _encoder(self) -> BytePairEncoder:
        return BytePairEncoder(self.pieces, self._pattern)

    def encode(self, text: str) -> list[int]:
        """
        Return the tokens of a text, as the model writes it.

        :raises ValueError: the pattern of the file is not understood
        """
        return [self.n_special + rank for rank in self._encoder(text)]

    def decode(self, tokens: list[int]) -> str:
        """Return the text of the tokens; special ones write nothing."""
        decoder = TextDecoder(self)
        return ''.join(decoder.push(token) for token in tokens) + decoder.flush()


def _count(value: Any, default: int) -> int:
    """Return a number that may be missing."""
    count = default if value is None else int(value)
    if not 0 <= count <= _MOST:
        raise TokenizerError(f'{str(count)[:40]} in its section "audio" is not 0 to {_MOST}')
    return count


class TextDecoder:
    """Tokens to text one by one: a character appears with the last of its bytes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder('utf-8')('replace')

    def copy(self) -> TextDecoder:
        """Return another one that goes on from here."""
        other = TextDecoder(self._tokenizer)
        other._utf8.setstate(self._utf8.getstate())
        return other

    @property
    def inside_character(self) -> bool:
        """Return whether the last token has left a character unfinished."""
        return bool(self._utf8.getstate()[0])

    def push(self, token: int) -> str:
        """Return what the token adds. Special tokens may stand between bytes of a character."""
        if not self._tokenizer.is_text(token):
            return ''
        return self._utf8.decode(self._tokenizer.pieces[token - self._tokenizer.n_special])

    def flush(self) -> str:
        """Return what an unfinished character at the end leaves: nothing or U+FFFD."""
        text = self._utf8.decode(b'', final=True)
        self._utf8.reset()
        return text
