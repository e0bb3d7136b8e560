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

"""The example that needs neither ROS nor torch."""

import ast

from examples.example import EXAMPLES, FIRST_ORDER, ORDERS, run
from node.orders import first_orders


def test_transcribe():
    code, printed, complaints = run('transcribe.py', ORDERS)
    assert (code, complaints) == (0, '')
    assert printed.splitlines()[0] == FIRST_ORDER
    assert len(printed.splitlines()) == 4


def test_the_last_words_of_a_recording(tmp_path):
    """Without a pause after them."""
    assert run('transcribe.py', first_orders(tmp_path, 1)) == (0, f'{FIRST_ORDER}\n', '')


def test_transcribe_is_ten_lines():
    """Without its imports."""
    code = ast.parse((EXAMPLES / 'transcribe.py').read_text(encoding='utf-8'))
    lines = {node.lineno for top in code.body if not isinstance(top, (ast.Import, ast.ImportFrom))
             for node in ast.walk(top) if isinstance(node, ast.stmt)}
    assert len(lines) - 1 <= 10  # but for the docstring
