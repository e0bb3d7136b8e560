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

from node.driver import ACTIVATE, CONFIGURE, DEACTIVATE, driven
import pytest
from std_srvs.srv import Trigger

from voxtral_ros.node.health import ERROR, OK

ORDERS = Path(__file__).resolve().parents[1] / 'data' / 'orders.flac'

# Steps of the engine fail when the file `fail` is there.
FAILING_ENGINE = textwrap.dedent("""
    import os
    from voxtral_ros.recognizer.engine import Engine
    step = Engine.step
    def failing(engine, *only):
        if os.path.exists('fail'):
            raise RuntimeError('the GPU has fallen off the bus')
        return step(engine, *only)
    Engine.step = failing
""")
SHORT_PAUSES = textwrap.dedent("""
    from voxtral_ros.node import supervisor
    assert supervisor._ENGINE_S[:2] == (2.0, 10.0)
    supervisor._ENGINE_S = (0.5, 2.0)
""")
ONE_FAILURE = textwrap.dedent("""
    from voxtral_ros.recognizer.engine import Engine
    step, calls = Engine.step, []
    def failing(engine, *only):
        calls.append(0)
        if len(calls) == 60:
            raise RuntimeError('one bad step')
        return step(engine, *only)
    Engine.step = failing
""")
# One step never returns, once: what follows it is another process.
HANGING_STEP = textwrap.dedent("""
    import os, threading
    from voxtral_ros.recognizer.engine import Engine
    step, calls = Engine.step, []
    def hanging(engine, *only):
        calls.append(0)
        if len(calls) > 60 and not os.path.exists('hung'):
            open('hung', 'w').close()
            threading.Event().wait()
        return step(engine, *only)
    Engine.step = hanging
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
        driver.wait(lambda: driver.state == 'unconfigured')
        driver.wait(lambda: driver.finals)  # the open utterance was ended
        assert not driver.change(CONFIGURE)  # the warm-up fails, too
        assert driver.state == 'unconfigured'
        (tmp_path / 'fail').unlink()
        published = len(driver.finals)
        assert driver.change(CONFIGURE)
        assert driver.change(ACTIVATE)
        driver.wait(lambda: driver.diagnosed(OK, 'listening') and len(driver.finals) > published)
        assert driver.finals[-1].utterance_id > driver.finals[published - 1].utterance_id


@pytest.mark.slow
def test_a_node_that_started_itself_starts_again_when_the_engine_breaks(tmp_path):
    with driven(tmp_path, prelude=FAILING_ENGINE + SHORT_PAUSES, source='file', file=ORDERS,
                autostart='true') as driver:
        driver.wait(lambda: driver.transcripts)
        (tmp_path / 'fail').touch()
        driver.wait(lambda: 'starting again in 0.5 s' in driver.log)
        driver.wait(lambda: 'starting again in 2 s' in driver.log)  # the first try has failed
        (tmp_path / 'fail').unlink()
        published = len(driver.finals)
        driver.wait(lambda: len(driver.finals) > published)
        assert driver.state == 'active'


def test_an_exception_in_a_callback_does_not_end_the_node(tmp_path):
    with driven(tmp_path, prelude=FAILING_CALLBACK, source='file', file=ORDERS) as driver:
        client = driver.client.create_client(Trigger, 'asr/flush')
        assert client.wait_for_service(60)
        client.call_async(Trigger.Request())
        driver.wait(lambda: 'a bug in a callback' in driver.log)
        assert driver.state == 'unconfigured'
        assert driver.change(CONFIGURE)


@pytest.mark.slow
def test_a_step_that_never_returns_is_shown_as_what_it_is(tmp_path):
    with driven(tmp_path, prelude=HANGING_STEP, source='file', file=ORDERS, file_realtime='false',
                watchdog__step_s=1.0) as driver:
        assert driver.change(CONFIGURE)
        assert driver.change(ACTIVATE)
        driver.wait(lambda: driver.diagnosed(ERROR, 'a step of the recogniser has not returned'))
        status = driver.diagnostics[-1].message
        assert 'compiled for the CPU' in status
        assert 'end the process and start it again' in status
        assert not driver.change(DEACTIVATE)
        driver.wait(lambda: driver.diagnosed(ERROR, 'the recogniser hangs'))


@pytest.mark.slow
def test_an_autostarted_node_survives_a_step_that_never_returns(tmp_path):
    """It publishes what was recognised and starts its process anew, with the same arguments."""
    # In real time: who begins to listen to the new process must not miss its texts.
    with driven(tmp_path, prelude=HANGING_STEP, source='file', file=ORDERS,
                watchdog__step_s=1.0, autostart='true') as driver:
        driver.wait(lambda: 'starting the process anew' in driver.log)
        driver.wait(lambda: driver.texts
                    and driver.texts[-1].endswith('return to the charging station'))
        assert (tmp_path / 'hung').exists()
        assert driver.process.poll() is None  # the same process id
        begun = {message.utterance_id for message in driver.transcripts}
        assert begun == {final.utterance_id for final in driver.finals}
        driver.wait(lambda: driver.diagnosed(OK, 'listening'))
        assert driver.end()[0] == 0
