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

"""The table of numbers at the beginning of the README says what the measurements say."""

from decimal import Decimal
import re

from docs.pages import links, read, ROOT, rows, sections

NUMBER = re.compile(r'(?<![\d.])\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?')


def in_words(text):
    """Return numbers of a text; those in names, as H200, INT4, p95, x86-64 or 4B, are none."""
    found = []
    for word in re.split(r'[\s|()]+', text):
        word = word.strip('*`_,;:')
        if not re.match(r'[A-Za-z]', word) and not re.fullmatch(r'\d+[BM]', word):
            found += NUMBER.findall(word)
    return found


def values(numbers):
    return {Decimal(number.replace(',', '')).normalize() for number in numbers}


def measured(link):
    """Return all numbers of a page of measurements, or of the part of it that the link names."""
    path, _, name = link.partition('#')
    text = (ROOT / path).read_text(encoding='utf-8')
    if name:
        [text] = [part for _, anchor, part in sections(text) if anchor == name]
    return values(NUMBER.findall(text))


def missing(row):
    """Return what a row says and the page that it names does not, or None where it names none."""
    sources = [link for link in links(row)
               if re.match(r'bench/results/|docs/demo-model\.md', link)]
    if not sources:
        return None
    said = in_words(re.sub(r'\]\([^)]*\)', ']', row))
    known = set().union(*map(measured, sources))
    return [number for number in said if not values([number]) <= known]


def test_numbers_of_the_readme():
    parts = [part for level, name, part in sections(read('README.md'))
             if (level, name) == (2, 'numbers')]
    assert len(parts) == 1, 'README.md has no part "## Numbers"'
    table = rows(parts[0])
    checked = {row: missing(row) for row in table}
    assert sum(absent is not None for absent in checked.values()) >= 3
    wrong = {row: absent for row, absent in checked.items() if absent}
    assert not wrong, 'numbers that are not in the page that their row names'
    assert all(links(row) for row in table), 'a row of numbers names no page'


def test_what_is_a_number():
    assert in_words('| 1,234 ms, an H200 (INT4) | 0.5-0.7 s, **2.30** GB, 16-bit, 4B, x86-64 |') \
        == ['1,234', '0.5', '0.7', '2.30', '16']
    assert values(['1,234', '2.30']) == values(['1234', '2.3'])
