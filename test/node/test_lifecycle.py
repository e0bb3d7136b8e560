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

"""Through the lifecycle with a file as the source: real words, finals, exit codes."""

from itertools import pairwise, product
from pathlib import Path
import signal
import textwrap

from lifecycle_msgs.msg import Transition
from node.driver import ACTIVATE, CLEANUP, CONFIGURE, DEACTIVATE, driven
import pytest
from support.slow import slow_but

from voxtral_ros.node.health import OK, WARN

DATA = Path(__file__).resolve().parents[1] / 'data'
ORDERS = DATA / 'orders.flac'
SHUTDOWN = Transition.TRANSITION_ACTIVE_SHUTDOWN


@pytest.fixture(scope='module')
def transcribed(tmp_path_factory):
    """Return the driver of a node that has processed four orders and is gone."""
    with driven(tmp_path_factory.mktemp('processed'), source='file', file=ORDERS,
                file_realtime='false') as driver:
        assert driver.change(CONFIGURE)
        assert driver.change(ACTIVATE)
        driver.wait(lambda: len(driver.finals) == 4)
        driver.wait(lambda: len(driver.texts) == 4)
    return driver


def test_a_file_becomes_transcripts(transcribed):
    assert transcribed.texts[0] == 'robot go to the kitchen and bring me the red cup'
    assert transcribed.texts == [final.text for final in transcribed.finals]
    assert True in transcribed.speech
    partials = [message for message in transcribed.transcripts if not message.is_final]
    assert len(partials) > 12
    for number, final in enumerate(transcribed.finals, 1):
        assert final.utterance_id == number
        ends = [word.end.sec + word.end.nanosec / 1e9 for word in final.words]
        start = final.header.stamp.sec + final.header.stamp.nanosec / 1e9
        assert start <= ends[0]
        assert ends == sorted(ends)
        assert ' '.join(word.text for word in final.words) == final.text
        assert 0 < final.confidence <= 1


def test_a_partial_is_the_beginning_of_the_next(transcribed):
    for number in range(1, 5):
        published = sorted((message for message in transcribed.transcripts
                            if message.utterance_id == number),
                           key=lambda message: message.revision)
        for before, after in pairwise(published):
            assert after.text == before.text + after.delta
        finals = [message.is_final for message in published]
        assert finals == [False] * (len(published) - 1) + [True]


def test_deactivating_reports_the_open_utterance(tmp_path):
    with driven(tmp_path, source='file', file=ORDERS) as driver:
        assert driver.change(CONFIGURE)
        assert driver.change(ACTIVATE)
        driver.wait(lambda: len(driver.transcripts) >= 3)
        assert driver.change(DEACTIVATE)
        driver.wait(lambda: driver.finals)
        assert driver.finals[0].text.startswith('robot go to')
        assert driver.state == 'inactive'
        assert driver.change(CLEANUP)
        assert driver.state == 'unconfigured'


def test_while_a_model_is_loaded_the_state_and_diagnostics_are_published(tmp_path):
    prelude = textwrap.dedent("""
        import time
        from voxtral_ros.recognizer.engine import Engine
        def warm_up(self, warm_up=Engine.warm_up):
            from pathlib import Path
            while not Path('go').exists():
                time.sleep(0.05)
        Engine.warm_up = warm_up
    """)
    with driven(tmp_path, prelude=prelude, source='file', file=ORDERS, autostart='true') as driver:
        driver.wait(lambda: driver.diagnosed(OK, 'loading '))
        assert driver.state == 'configuring'
        first = driver.diagnostics[-1].message
        driver.wait(lambda: driver.diagnostics[-1].message != first)
        (tmp_path / 'go').touch()
        driver.wait(lambda: driver.diagnosed(OK, 'listening'))
        assert driver.state == 'active'
        assert driver.change(SHUTDOWN)
        driver.wait(lambda: driver.diagnosed(WARN, 'finalized'))
        assert 'shut down' in driver.log


@pytest.mark.parametrize(('transitions', 'number'), slow_but(
    ((), signal.SIGINT), ((CONFIGURE, ACTIVATE), signal.SIGTERM), of=product(
        [(), (CONFIGURE,), (CONFIGURE, ACTIVATE)], [signal.SIGINT, signal.SIGTERM])))
def test_a_signal_ends_the_node_with_code_zero(tmp_path, transitions, number):
    with driven(tmp_path, source='file', file=ORDERS) as driver:
        assert driver.state == 'unconfigured'  # it is up
        for transition in transitions:
            assert driver.change(transition)
        code, _ = driver.end(number)
        assert code == 0, driver.log


def test_a_wrong_model_says_why_and_may_be_corrected(tmp_path):
    from rcl_interfaces.msg import Parameter, ParameterValue
    from rcl_interfaces.srv import SetParameters
    with driven(tmp_path, source='file', file=ORDERS, model=tmp_path / 'none') as driver:
        assert not driver.change(CONFIGURE)
        assert driver.state == 'unconfigured'
        driver.wait(lambda: 'does not exist: a model is a folder with' in driver.log)
        right = Parameter(name='model', value=ParameterValue(type=4, string_value=''))
        results = driver.call(SetParameters, 'asr/set_parameters',
                              SetParameters.Request(parameters=[right])).results
        assert results[0].successful
        assert driver.change(CONFIGURE)
        other = Parameter(name='model', value=ParameterValue(type=4, string_value='other'))
        results = driver.call(SetParameters, 'asr/set_parameters',
                              SetParameters.Request(parameters=[other])).results
        assert not results[0].successful
        assert 'clean up first' in results[0].reason


def test_a_missing_file_fails_activation_and_leaves_the_node_inactive(tmp_path):
    with driven(tmp_path, source='file', file=tmp_path / 'none.wav') as driver:
        assert driver.change(CONFIGURE)
        assert not driver.change(ACTIVATE)
        assert driver.state == 'inactive'
        driver.wait(lambda: driver.log.count('no such file') == 1)
        assert not driver.change(ACTIVATE)  # the model is still there, the file is not
        driver.wait(lambda: driver.log.count('no such file') == 2)
        assert driver.change(CLEANUP)


def test_a_transition_that_is_not_allowed_is_refused_and_survived(tmp_path):
    with driven(tmp_path, source='file', file=ORDERS) as driver:
        assert driver.change(CONFIGURE)
        assert not driver.change(CONFIGURE)
        assert not driver.change(CLEANUP + 90)
        assert driver.state == 'inactive'


def test_the_node_starts_itself_when_published_so(tmp_path):
    with driven(tmp_path, source='file', file=ORDERS, file_realtime='false',
                autostart='true') as driver:
        driver.wait(lambda: 'listening to file' in driver.log)
        assert driver.state == 'active'


def test_a_source_that_is_none_is_refused_by_name(tmp_path):
    with driven(tmp_path, source='radio') as driver:
        assert not driver.change(CONFIGURE)
        driver.wait(lambda: "source is 'radio'" in driver.log)
