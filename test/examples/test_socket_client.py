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

"""The example that talks to a server."""

from examples.example import FIRST_ORDER, ORDERS, run
from support.realtime import ServerProcess


def test_socket_client():
    with ServerProcess() as server:
        code, printed, complaints = run('socket_client.py', server.url, ORDERS)
        assert (code, complaints) == (0, '')
        assert FIRST_ORDER in printed
        assert printed.count('\n') == 1
        code, printed, complaints = run('socket_client.py', server.url, ORDERS, 'another')
        assert (code, printed) == (1, '')
        assert 'the server says: ' in complaints and 'another' in complaints
