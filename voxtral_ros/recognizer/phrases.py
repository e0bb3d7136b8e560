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
Phrases to expect: the names of rooms, things and people that a robot has to do with.

    phrases = PhraseList.parse(['conservatory', 'Magdalena Kowalski :3'])
    stream = engine.open(phrases=phrases)

They are more likely to be written than they would be otherwise; see docs/phrases.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
import math
import os
from pathlib import Path
import re
import unicodedata

MAX_PHRASES = 1000
MAX_CHARACTERS = 200  # of a phrase
MAX_BOOST = 10.0
DEFAULT_BOOST = 2.0  # logits per letter

# A phrase and, after a colon that stands by itself, its boost: the format of sherpa-onnx.
_LINE = re.compile(r'(?P<text>.*?)(?:\s+:\s*(?P<boost>\S*))?', re.DOTALL)


class PhraseError(ValueError):
    """Phrases that cannot be used; the message says which, and why."""


@dataclass(frozen=True)
class Phrase:
    """Words to expect one after the other, and how much more likely they are."""

    text: str  # in Unicode's form NFC, words separated by one space
    boost: float = DEFAULT_BOOST  # logits per letter; 0: not at all

    def __post_init__(self) -> None:
        """
        Check it.

        :raises PhraseError: this is no phrase, or no boost
        """
        text = ' '.join(unicodedata.normalize('NFC', self.text).split())
        object.__setattr__(self, 'text', text)
        if len(text) > MAX_CHARACTERS:
            raise PhraseError(f'the phrase {text[:40]!r}... has {len(text)} characters: at most '
                              f'{MAX_CHARACTERS} are possible')
        if not any(character.isalnum() for character in text):
            raise PhraseError(f'the phrase {self.text[:40]!r} has no letters: nobody can say it')
        if any(unicodedata.category(character) in ('Cc', 'Cs') for character in text):
            raise PhraseError(f'the phrase {text!r} has control characters in it: remove them')
        if not 0 <= self.boost <= MAX_BOOST:  # so NaN is refused, too
            raise PhraseError(f'the boost {self.boost} of the phrase {text!r} is not 0 to '
                              f'{MAX_BOOST:g}')


@dataclass(frozen=True)
class PhraseList:
    """Phrases, each of them once; of equal ones the largest boost counts."""

    phrases: tuple[Phrase, ...] = ()

    def __post_init__(self) -> None:
        """
        Keep each phrase once.

        :raises PhraseError: there are too many
        """
        kept: dict[str, Phrase] = {}
        for phrase in self.phrases:
            other = kept.setdefault(phrase.text, phrase)
            if other.boost < phrase.boost:
                kept[phrase.text] = phrase
        if len(kept) > MAX_PHRASES:
            raise PhraseError(f'there are {len(kept)} phrases: at most {MAX_PHRASES} are '
                              'possible, leave out those that are understood anyway')
        object.__setattr__(self, 'phrases', tuple(kept.values()))

    def __len__(self) -> int:
        return len(self.phrases)

    def __add__(self, other: PhraseList) -> PhraseList:
        """Return the phrases of both."""
        return PhraseList(self.phrases + other.phrases)

    @classmethod
    def parse(cls, lines: Iterable[str], boost: float = DEFAULT_BOOST) -> PhraseList:
        """
        Read phrases, one per line, as 'living room' or, with an own boost, 'Kowalski :2.5'.

        Empty lines and lines that begin with # do not count.

        :param boost: of the phrases that have none of their own
        :raises PhraseError: a line is no phrase
        """
        phrases = []
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.lstrip().startswith('#'):
                continue
            try:
                # One space each: otherwise a long gap would take the expression very long.
                phrases.append(_parse_line(' '.join(line.split()), boost))
            except PhraseError as error:
                raise PhraseError(f'phrase {number}: {error}') from None
        return cls(tuple(phrases))

    def lines(self, boost: float | None = None) -> list[str]:
        """
        Return what `parse` reads as these phrases, each with its boost.

        :param boost: phrases with this boost are written without
        """
        return [phrase.text if phrase.boost == boost and ' :' not in phrase.text
                else f'{phrase.text} :{phrase.boost!r}' for phrase in self.phrases]

    @classmethod
    def load(cls, path: str | os.PathLike[str], boost: float = DEFAULT_BOOST) -> PhraseList:
        """
        Read a file of phrases in UTF-8; see `parse`.

        :raises PhraseError: it cannot be read, or a line is no phrase
        """
        try:
            text = Path(path).read_text(encoding='utf-8-sig')
        except (OSError, UnicodeDecodeError) as error:
            raise PhraseError(f'the phrases in {path} cannot be read: {error}') from None
        try:
            return cls.parse(text.splitlines(), boost)
        except PhraseError as error:
            raise PhraseError(f'{path}: {error}') from None


NO_PHRASES = PhraseList()


def _parse_line(line: str, boost: float) -> Phrase:
    match = _LINE.fullmatch(line)
    assert match
    if match['boost'] is None:
        return Phrase(line, boost)
    try:
        own = float(match['boost'])
    except ValueError:
        own = math.nan
    if math.isnan(own):
        raise PhraseError(f'in {line[:80]!r} the boost after the colon is no number')
    return Phrase(match['text'], own)
