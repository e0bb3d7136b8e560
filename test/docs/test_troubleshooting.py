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

"""What docs/troubleshooting.md quotes is what the code prints."""

import ast
import re

from docs.pages import read, ROOT
import pytest

SOURCES = (*sorted((ROOT / 'voxtral_ros').rglob('*.py')), ROOT / 'launch' / 'asr.launch.py')


def texts():
    """Return every text of the code; what it puts into one is a line break."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.JoinedStr):
                yield ''.join(part.value if isinstance(part, ast.Constant) else '\n'
                              for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r'%[.\w]+', '\n', node.value)


CODE = '\n'.join(texts())
QUOTES = re.findall(r'(?<![\w*])\*([a-zA-Z.][^*|]{8,}?)\*(?![\w*])',
                    read('docs/troubleshooting.md'))


@pytest.mark.parametrize('quote', QUOTES)
def test_a_message_is_one_of_the_code(quote):
    quote = re.sub('^(configure|activate) ', '... ', ' '.join(quote.split()))
    pieces = [piece.strip() for piece in re.split(r'\.\.\.|\bN\b|[:;]', quote)]
    missing = [piece for piece in pieces if len(piece) > 3 and piece not in CODE]
    assert not missing


def test_there_are_messages():
    assert len(QUOTES) > 60
