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

"""Numbers, times, dates and amounts of money in the words that people say."""

from __future__ import annotations

from collections.abc import Callable
import re

from training.commands import number_words

_ORDINALS = {
    'one': 'first', 'two': 'second', 'three': 'third', 'five': 'fifth', 'eight': 'eighth',
    'nine': 'ninth', 'twelve': 'twelfth'}
_MONEY = {'$': ('dollar', 'cent'), '\u00a3': ('pound', 'pence'), '\u20ac': ('euro', 'cent')}
_DIGITS = ('zero', *(number_words(n) for n in range(1, 10)))


def ordinal(number: int) -> str:
    """Return first, second, ... for a number from 1 to 9999."""
    head, _, last = number_words(number).rpartition(' ')
    if last not in _ORDINALS:
        last = f'{last[:-1]}ie' if last.endswith('y') else last
    return f'{head} {_ORDINALS.get(last, last + "th")}'.strip()


def year(number: int) -> str:
    """Return a year as two pairs: nineteen eighty four, nineteen oh five, twenty ten."""
    century, rest = divmod(number, 100)
    if rest == 0:
        return f'{number_words(century)} hundred'
    return f'{number_words(century)} {"oh " if rest < 10 else ""}{number_words(rest)}'


def _digits(match: re.Match[str]) -> str:
    return ' '.join(_DIGITS[int(digit)] for digit in match[0] if digit.isdigit())


def _plural(count: int, name: str) -> str:
    return f'{number_words(count)} {name}{"" if count == 1 or name == "pence" else "s"}'


def _money(match: re.Match[str]) -> str:
    whole, part = _MONEY[match[1]]
    said = [_plural(int(match[2]), whole)] if int(match[2]) else []
    if match[3] and int(match[3]):
        said.append(_plural(int(match[3]), part))
    return ' and '.join(said) or f'zero {whole}s'


def _time(match: re.Match[str]) -> str:
    hour, minute, half = int(match[1]), int(match[2]), match[3] or ''
    said = number_words(hour)
    if minute:
        said += f' {"oh " if minute < 10 else ""}{number_words(minute)}'
    elif not half:
        said += " o'clock"
    return f'{said} {half}' if half else said


def _decade(match: re.Match[str]) -> str:
    tens = f'{number_words(int(match[2]))[:-1]}ies'
    return f'{number_words(int(match[1]))} {tens}' if match[1] else tens


_RULES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r'(?<=\d),(?=\d{3}\b)', ''),
    (r'([$\u00a3\u20ac]) ?(\d{1,4})(?:\.(\d\d))?(?![\d.]\d|\d)', _money),
    (r'\b([01]?\d|2[0-3]):([0-5]\d)(?: ?([ap]m)\b)?', _time),
    (r'\b(\d{1,2})([ap]m)\b', r'\1 \2'),
    (r'\b([1-9]\d{0,3})(?:st|nd|rd|th)\b', lambda match: ordinal(int(match[1]))),
    (r"(?:\b|')(1[5-9]|20)?([2-9]0)'?s\b", _decade),
    (r'\b(\d{1,4})\.(\d{1,3})\b', lambda match: (
        f'{number_words(int(match[1]))} point '
        + ' '.join(_DIGITS[int(digit)] for digit in match[2]))),
    (r'(?<=\d) ?%', ' percent'),
    (r'(?<=\d) ?\u00b0 ?[CF]?\b', ' degrees'),
    (r'\b(?:\d{3}[- ])?\d{3}[- ]\d{4}\b|\d{5,}', _digits),
    (r'\b(1[1-9]\d\d|20[1-9]\d)\b', lambda match: year(int(match[1]))),
    (r'(?<=\d)(?=[a-z])', ' '),
)
_COMPILED = [(re.compile(pattern, re.IGNORECASE), words) for pattern, words in _RULES]


def spoken(text: str) -> str:
    """Return a text with times, money, years, ordinals, decimals and long numbers in words."""
    for pattern, words in _COMPILED:
        text = pattern.sub(words, text)
    return text
