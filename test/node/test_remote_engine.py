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

"""The node with the recogniser of a server: the same topics, no torch, outages survived."""

from pathlib import Path

from node.driver import ACTIVATE, CONFIGURE, driven
from node.orders import first_orders
import pytest
from support.realtime import ServerProcess

from voxtral_ros.node.health import ERROR, OK
from voxtral_ros.resources import demo_model


def words(driver):
    return ' '.join(text for text in driver.texts)


def test_the_words_of_the_server_come_out_of_the_node(tmp_path):
    with ServerProcess('--model', demo_model()) as server, driven(
            tmp_path, engine__url=server.url, source='file',
            file=first_orders(tmp_path, 2)) as driver:
        assert driver.change(CONFIGURE)
        assert driver.change(ACTIVATE)
        driver.wait(lambda: 'three meters' in words(driver))
        assert 'kitchen' in words(driver)
        driver.wait(lambda: driver.diagnostics and driver.shown('link') == 'connected')
        libraries = Path(f'/proc/{driver.process.pid}/maps').read_text(encoding='utf-8')
        assert 'libtorch' not in libraries
        begun = {message.utterance_id for message in driver.transcripts}
        assert sorted(begun) == sorted(message.utterance_id for message in driver.finals)


@pytest.mark.slow
def test_a_server_that_comes_back_gets_what_was_said_meanwhile(tmp_path):
    with ServerProcess('--model', demo_model()) as server:
        port = server.port
    with driven(tmp_path, engine__url=f'ws://127.0.0.1:{port}/v1/realtime', source='file',
                file=first_orders(tmp_path, 2)) as driver:
        assert driver.change(CONFIGURE)
        assert driver.change(ACTIVATE)
        driver.wait(lambda: driver.diagnosed(ERROR, 'no connection'))
        assert driver.texts == []
        with ServerProcess('--model', demo_model(), port=port):
            driver.wait(lambda: 'three meters' in words(driver))
            assert 'kitchen' in words(driver)
            driver.wait(lambda: driver.diagnosed(OK, 'listening'))


def test_an_address_that_is_none_is_refused(tmp_path):
    with driven(tmp_path, engine__url='http://somewhere') as driver:
        assert not driver.change(CONFIGURE)
        assert driver.state == 'unconfigured'
        assert 'expected an address that begins with ws://' in driver.log
