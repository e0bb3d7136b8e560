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

"""The examples that need no ROS."""

import ast

from examples.example import EXAMPLES, ORDERS, run
from support.realtime import ServerProcess

ORDER = 'robot go to the kitchen and bring me the red cup'


def test_transcribe():
    code, printed, complaints = run('transcribe.py', ORDERS)
    assert (code, complaints) == (0, '')
    assert printed.splitlines()[0] == ORDER
    assert len(printed.splitlines()) == 4


def test_transcribe_is_ten_lines():
    """Without imports and what shows the text."""
    code = ast.parse((EXAMPLES / 'transcribe.py').read_text(encoding='utf-8'))
    statements = [node for node in ast.walk(code) if isinstance(node, ast.stmt)]
    assert len(statements) <= 20
    assert sum(not isinstance(node, (ast.Import, ast.ImportFrom)) for node in code.body) <= 10


def test_socket_client():
    with ServerProcess() as server:
        code, printed, complaints = run('socket_client.py', server.url, ORDERS)
        assert (code, complaints) == (0, '')
        assert ORDER in printed
        assert printed.count('\n') == 1
        code, printed, complaints = run('socket_client.py', server.url, ORDERS, 'another')
        assert (code, printed) == (1, '')
        assert 'the server says: ' in complaints and 'another' in complaints
