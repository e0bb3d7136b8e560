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
From phrases to tokens: all the ways in which a model may write them, and what each token gains.

The more letters a phrase has, the less likely it is that something else sounds like it. So a
phrase may be less likely than what would be written otherwise by so many logits per letter, and so
may the beginning of a phrase, with two letters on credit. And the more phrases there are, the less
each of them is expected: with ten times as many, each has a tenth of the probability.
"""

from __future__ import annotations

import math

from voxtral_ros.backends.biasing import Expected, TokenTrie
from voxtral_ros.model.tokenizer import Tokenizer
from voxtral_ros.recognizer.phrases import PhraseList
from voxtral_ros.recognizer.words import is_unspaced

_FEW = 10  # phrases: a list that is no reason for doubt
_CREDIT = 2  # letters that a beginning may be short of
_TRANSPARENT = (',',)  # may stand between the words of a phrase: 'Hey, robot'


def compile_phrases(phrases: PhraseList, tokenizer: Tokenizer) -> TokenTrie | None:
    """Return the trie of all spellings of the phrases, None if there is nothing to expect."""
    transparent = [token for text in _TRANSPARENT for token in tokenizer.encode(text)]
    expected = [phrase for phrase in phrases.phrases if phrase.boost > 0]
    doubt = math.log(max(1.0, len(expected) / _FEW))
    return TokenTrie.build(
        (expected_tokens(spelling, phrase.boost, doubt, tokenizer) for phrase in expected
         for spelling in spellings(phrase.text)), tokenizer.n_special, transparent)


def spellings(text: str) -> list[str]:
    """Return a phrase in all cases that it may be written in, as the continuation of a text."""
    cased = dict.fromkeys((text, text.lower(), text[:1].upper() + text[1:],
                           ' '.join(word[:1].upper() + word[1:] for word in text.split(' ')),
                           text.upper()))
    # Scripts that put no spaces between words do so after other scripts, and at the beginning.
    return [space + spelling for spelling in cased
            for space in ((' ', '') if is_unspaced(spelling[0]) else (' ',))]


def expected_tokens(spelling: str, boost: float, doubt: float, tokenizer: Tokenizer,
                    ) -> list[Expected]:
    """
    Return the tokens of a phrase in one spelling, and what each of them gains.

    :param boost: logits per letter
    :param doubt: logits less, because there are many phrases
    """
    tokens = tokenizer.encode(spelling)
    pieces = [tokenizer.decode([token]) for token in tokens]
    n_letters, so_far = _n_letters(spelling), 0
    expected = []
    for n, (token, piece) in enumerate(zip(tokens, pieces, strict=True)):
        so_far += _n_letters(piece)
        ends = n == len(tokens) - 1
        n_paid = n_letters if ends else min(n_letters, so_far + _CREDIT)
        budget = max(0.0, boost * n_paid - doubt)
        inside = not ends and not pieces[n + 1].startswith(' ')
        expected.append(Expected(token, budget, inside, ends))
    return expected


def _n_letters(text: str) -> int:
    """Return how many letters a text is worth; a Chinese character says as much as three."""
    return sum(3 if is_unspaced(character) else 1 for character in text if character.isalnum())
