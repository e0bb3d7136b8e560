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
Tokens to words: where words begin, in text that comes piece by piece.

Most languages put spaces between words. Chinese, Japanese, Thai and a few more do not; there the
groups in which the model writes are the words, and punctuation ends one as a space does elsewhere.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import NamedTuple
import unicodedata

from voxtral_ros.model.tokenizer import TextDecoder, Tokenizer
from voxtral_ros.recognizer.slot import Token

# First words of the names of characters in scripts without spaces.
_UNSPACED = ('CJK UNIFIED', 'CJK COMPATIBILITY IDEOGRAPH', 'IDEOGRAPHIC', 'HIRAGANA', 'KATAKANA',
             'HALFWIDTH KATAKANA', 'BOPOMOFO', 'THAI', 'LAO', 'KHMER', 'MYANMAR')
_OPENING = ('Ps', 'Pi')  # categories of punctuation: these belong to the word that follows,
_CLOSING = ('Po', 'Pe', 'Pf')  # these to the word before
# Marks, modifiers, joiners and connectors: never the beginning of a word.
_INSIDE = ('Mn', 'Mc', 'Me', 'Lm', 'Cf', 'Sk', 'Pd', 'Pc')
_MAX_PIECES = 12  # of a word without spaces: nobody takes longer than a second for one


class Part(NamedTuple):
    """Text of one word, or of its beginning or continuation."""

    text: str  # with the space before it
    begins: bool  # a word, rather than going on with the last one


class WordSplitter:
    """Finds the words of a text that grows."""

    def __init__(self) -> None:
        self._space = ''  # after the last word
        self._last = ''  # character
        self._unspaced = False  # the script of the last letter
        self._in_new_group = False
        self._n_pieces = 0  # of the last word

    def push(self, piece: str, in_new_group: bool = False) -> list[Part]:
        """
        Take a piece and return its parts; space at its end is returned with what follows.

        :param in_new_group: the model has paused, or announced a group of words, before this piece
        """
        self._in_new_group = in_new_group
        self._n_pieces += 1
        parts: list[Part] = []
        for character in piece:
            if character.isspace():
                self._space += character
                continue
            begins = self._begins_word(character)
            if begins:
                self._n_pieces = 1
            if begins or not parts:
                parts.append(Part(self._space + character, begins))
            else:
                parts[-1] = parts[-1]._replace(text=parts[-1].text + character)
            self._note(character)
        return parts

    def _note(self, character: str) -> None:
        self._space, self._last, self._in_new_group = '', character, False
        if unicodedata.category(character)[0] == 'L':
            self._unspaced = is_unspaced(character)

    def _begins_word(self, character: str) -> bool:
        if self._space or not self._last:
            return True
        if not (self._unspaced or is_unspaced(character)):
            return False
        before, now = unicodedata.category(self._last), unicodedata.category(character)
        if now in _INSIDE or now in _CLOSING or before in _OPENING or before == 'Cf':
            return False
        if self._last in '·・' or (self._last in '.,:' and character.isdecimal()):
            return False
        return now in _OPENING or before in _CLOSING \
            or self._in_new_group or self._n_pieces > _MAX_PIECES


def normalised(text: str) -> str:
    """Return the letters and digits of a text, without case and accents."""
    folded = unicodedata.normalize('NFKD', text).casefold()
    decomposed = unicodedata.normalize('NFKD', folded)
    return ''.join(character for character in decomposed if character.isalnum())


@lru_cache(1024)
def is_unspaced(character: str) -> bool:
    return unicodedata.name(character, '').startswith(_UNSPACED)


class Written(NamedTuple):
    """What a token has added to a word."""

    text: str  # with the space before it
    begins: bool  # a word, rather than going on with the last one
    in_new_group: bool  # first of what is written without a pause
    end_s: float  # where the word ends if this is its beginning
    probability: float  # of the tokens that spell it, calibrated


class WordReader:
    """Tokens of one stream to words; a character may take several tokens."""

    def __init__(self, tokenizer: Tokenizer, exponent: float = 1.0) -> None:
        """
        Read tokens.

        :param exponent: of their probabilities (ModelConfig.confidence_exponent)
        """
        self._decoder = TextDecoder(tokenizer)
        self._exponent = exponent
        self._splitter = WordSplitter()
        self._in_new_group = True
        self._begun: tuple[float, float] | None = None  # end_s, probability of half a character

    def copy(self) -> WordReader:
        """Return another one that goes on from here."""
        other = copy.copy(self)
        other._decoder, other._splitter = self._decoder.copy(), copy.copy(self._splitter)
        return other

    def start_group(self) -> None:
        """Note that a group of words may begin here; inside a character none does."""
        self._in_new_group |= not self._decoder.inside_character

    def push(self, token: Token, end_s: float) -> list[Written]:
        """
        Take a token of text.

        :param end_s: where a word ends that starts with it
        """
        piece = self._decoder.push(token.id)
        first_s, probability = self._begun or (end_s, 1.0)
        probability *= token.probability ** self._exponent
        self._begun = None
        if self._decoder.inside_character:
            self._begun = (end_s, 1.0) if piece else (first_s, probability)
        parts = self._splitter.push(piece, self._in_new_group)
        written = [Written(*part, self._in_new_group and not n, first_s, probability)
                   for n, part in enumerate(parts)]
        self._in_new_group &= not parts
        return written

    def flush(self) -> str:
        """Return what half a character at the end leaves: nothing or U+FFFD."""
        self._begun = None
        return self._decoder.flush()
