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

"""Failures injected into a running node: it says so, and goes on."""

from pathlib import Path
import textwrap

from node.driver import ACTIVATE, CONFIGURE, driven
from std_srvs.srv import Trigger
from voxtral_ros.node.diagnostics import ERROR, OK

ORDERS = Path(__file__).resolve().parents[1] / 'data' / 'orders.flac'

# Steps of the engine fail when the file `fail` is there.
FAILING_ENGINE = textwrap.dedent("""
    import os
    from voxtral_ros.recognizer.engine import Engine
    step = Engine.step
    def failing(engine):
        if os.path.exists('fail'):
            raise RuntimeError('the GPU has fallen off the bus')
        return step(engine)
    Engine.step = failing
""")
SHORT_PAUSES = textwrap.dedent("""
    from voxtral_ros.node import asr
    assert asr._REVIVE_S[:2] == (2.0, 10.0)
    asr._REVIVE_S = (0.5, 2.0)
""")
ONE_FAILURE = textwrap.dedent("""
    from voxtral_ros.recognizer.engine import Engine
    step, calls = Engine.step, []
    def failing(engine):
        calls.append(0)
        if len(calls) == 60:
            raise RuntimeError('one bad step')
        return step(engine)
    Engine.step = failing
""")
FAILING_CALLBACK = textwrap.dedent("""
    from voxtral_ros.node.asr import AsrNode
    def failing(*arguments):
        raise RuntimeError('a bug in a callback')
    AsrNode._on_flush = failing
""")


def test_a_step_that_raises_costs_one_stream(tmp_path):
    with driven(tmp_path, prelude=ONE_FAILURE, source='file', file=ORDERS,
                file_realtime='false') as driver:
        assert driver.change(CONFIGURE)
        assert driver.change(ACTIVATE)
        driver.wait(lambda: driver.texts
                    and driver.texts[-1].endswith('return to the charging station'))
        assert 'one bad step' in driver.log
        # What was begun was ended, once each.
        begun = {message.utterance_id for message in driver.transcripts}
        ended = [message.utterance_id for message in driver.finals]
        assert sorted(ended) == sorted(begun)
        driver.wait(lambda: driver.shown('failures of the recogniser') == '1')
        assert driver.state == 'active'


def test_a_broken_engine_is_freed_and_may_be_configured_again(tmp_path):
    with driven(tmp_path, prelude=FAILING_ENGINE, source='file', file=ORDERS) as driver:
        assert driver.change(CONFIGURE)
        assert driver.change(ACTIVATE)
        driver.wait(lambda: driver.transcripts)
        (tmp_path / 'fail').touch()
        driver.wait(lambda: driver.diagnosed(
            ERROR, 'failed 3 times in a row: the GPU has fallen off the bus'))
        assert 'configure and activate again' in driver.diagnostics[-1].message
        assert driver.state == 'unconfigured'
        driver.wait(lambda: driver.finals)  # the open utterance was ended
        assert not driver.change(CONFIGURE)  # the warm-up fails, too
        assert driver.state == 'unconfigured'
        (tmp_path / 'fail').unlink()
        told = len(driver.finals)
        assert driver.change(CONFIGURE)
        assert driver.change(ACTIVATE)
        driver.wait(lambda: driver.diagnosed(OK, 'listening') and len(driver.finals) > told)
        assert driver.finals[-1].utterance_id > driver.finals[told - 1].utterance_id


def test_a_node_that_started_itself_starts_again_when_the_engine_breaks(tmp_path):
    with driven(tmp_path, prelude=FAILING_ENGINE + SHORT_PAUSES, source='file', file=ORDERS,
                autostart='true') as driver:
        driver.wait(lambda: driver.transcripts)
        (tmp_path / 'fail').touch()
        driver.wait(lambda: 'starting again in 0.5 s' in driver.log)
        driver.wait(lambda: 'starting again in 2 s' in driver.log)  # the first try has failed
        (tmp_path / 'fail').unlink()
        told = len(driver.finals)
        driver.wait(lambda: len(driver.finals) > told)
        assert driver.state == 'active'


def test_an_exception_in_a_callback_does_not_end_the_node(tmp_path):
    with driven(tmp_path, prelude=FAILING_CALLBACK, source='file', file=ORDERS) as driver:
        client = driver.client.create_client(Trigger, 'asr/flush')
        assert client.wait_for_service(60)
        client.call_async(Trigger.Request())
        driver.wait(lambda: 'a bug in a callback' in driver.log)
        assert driver.state == 'unconfigured'
        assert driver.change(CONFIGURE)
