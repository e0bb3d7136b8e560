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
Text to pieces of bytes, as the model writes it: byte pair encoding by the ranks of the vocabulary.

The text is first split by the pattern of tekken.json; of each part, the two neighbours whose
concatenation has the lowest rank are merged until none has a rank. Source: openai/tiktoken.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import groupby, pairwise
import re
import unicodedata

# Of the published model.
DEFAULT_PATTERN = (
    r'[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+'
    r'|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*'
    r'|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+')
_MAX_BYTES = 512  # of a part: what is longer is no word
# Where Unicode has letters, numbers and marks; the planes between are empty, the last private.
_ASSIGNED = range(0x34000), range(0xe0000, 0xe0200)


class BytePairEncoder:
    """Encodes text with one vocabulary."""

    def __init__(self, pieces: Sequence[bytes], pattern: str = DEFAULT_PATTERN) -> None:
        r"""
        Take the pieces in the order of their ranks.

        :param pattern: a regular expression; \p{...} stands for a category of Unicode
        :raises ValueError: the pattern is no regular expression that is understood here
        """
        self._ranks: dict[bytes, int] = {}
        for rank, piece in enumerate(pieces):
            self._ranks.setdefault(piece, rank)
        try:
            self._pattern = re.compile(_with_categories(pattern))
        except (re.error, IndexError, KeyError) as error:
            raise ValueError(f'the pattern {pattern[:80]!r} of the vocabulary is not understood: '
                             f'{error}') from None

    def __call__(self, text: str) -> list[int]:
        """
        Return the ranks of the pieces of a text.

        :raises ValueError: the vocabulary lacks a byte of it
        """
        return [rank for part in self._pattern.finditer(text)
                for rank in self._encode(part[0].encode()[:_MAX_BYTES])]

    def _encode(self, part: bytes) -> list[int]:
        ranks = self._ranks
        pieces = [part] if part in ranks else [bytes([byte]) for byte in part]
        none = len(ranks)
        while len(pieces) > 1:
            merged = [ranks.get(a + b, none) for a, b in pairwise(pieces)]
            best = min(merged)
            if best == none:
                break
            at = merged.index(best)
            pieces[at:at + 2] = [pieces[at] + pieces[at + 1]]
        try:
            return [ranks[piece] for piece in pieces]
        except KeyError as error:
            raise ValueError(f'the vocabulary has no piece for the byte {error}') from None


def _with_categories(pattern: str) -> str:
    r"""Return a pattern with the members of each category \p{...} in its place."""
    parts, in_set = [], False
    for token in re.finditer(r'\\p\{(\w+)\}|\\.|.', pattern, re.DOTALL):
        if token[1]:
            members = _members(token[1])
            parts.append(members if in_set else f'[{members}]')
        else:
            in_set = (in_set or token[0] == '[') and token[0] != ']'
            parts.append(token[0])
    return ''.join(parts)


@cache
def _categories() -> dict[str, list[tuple[int, int]]]:
    """Return the first and last code point of all runs of each category."""
    runs: dict[str, list[tuple[int, int]]] = {}
    for block in _ASSIGNED:
        for category, points in groupby(block, lambda point: unicodedata.category(chr(point))):
            run = list(points)
            runs.setdefault(category, []).append((run[0], run[-1]))
    return runs


@cache
def _members(category: str) -> str:
    """Return a category, or all that begin with it, as what stands between brackets."""
    return ''.join(f'\\U{first:08x}-\\U{last:08x}' for name, runs in _categories().items()
                   if name.startswith(category) for first, last in runs)
