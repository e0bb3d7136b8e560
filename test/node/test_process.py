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

"""The process of the node: whenever a signal comes, it ends quietly."""

from pathlib import Path
import signal
import textwrap

from node.driver import ACTIVATE, CONFIGURE, driven
import pytest

ORDERS = Path(__file__).resolve().parents[1] / 'data' / 'orders.flac'

# Says when it is imported, and takes long, at any point of the imports.
SLOW_IMPORT = textwrap.dedent("""
    import sys, time
    class Slow:
        def find_spec(self, name, path=None, target=None):
            if name == '{name}':
                print('importing', flush=True)
                end = time.monotonic() + 60
                while time.monotonic() < end:
                    time.sleep(0.01)
    sys.meta_path.insert(0, Slow())
""")
SLOW_LOADING = textwrap.dedent("""
    import time
    import voxtral_ros.recognizer.engine as engine
    def load(*arguments, **options):
        print('loading', flush=True)
        time.sleep(60)
    engine.Engine.load = load
""")


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('name', ['rclpy', 'voxtral_ros.node.asr'])
def test_during_the_imports(tmp_path, name, number):
    with driven(tmp_path, prelude=SLOW_IMPORT.format(name=name)) as driver:
        driver.wait(lambda: 'importing' in driver.log)
        code, _ = driver.end(number)
        assert code == 0
        assert driver.log == 'importing\n'


def test_while_the_backends_are_imported(tmp_path):
    prelude = SLOW_IMPORT.format(name='voxtral_ros.backends.selection')
    with driven(tmp_path, prelude=prelude, autostart='true') as driver:
        driver.wait(lambda: 'importing' in driver.log)
        code, _ = driver.end()
        assert code == 0
        assert 'Traceback' not in driver.log


def test_while_the_model_is_loading(tmp_path):
    with driven(tmp_path, prelude=SLOW_LOADING, autostart='true') as driver:
        driver.wait(lambda: 'loading' in driver.log)
        code, _ = driver.end()
        assert code == 0
        assert 'Traceback' not in driver.log


def test_the_open_utterance_is_published_first(tmp_path):
    with driven(tmp_path, source='file', file=ORDERS) as driver:
        assert driver.change(CONFIGURE)
        assert driver.change(ACTIVATE)
        driver.wait(lambda: driver.transcripts)
        code, _ = driver.end()
        assert code == 0
        driver.wait(lambda: driver.finals)
        assert driver.finals[0].text.startswith('robot')


def test_a_parameter_file_that_is_none_is_one_line(tmp_path):
    file = tmp_path / 'broken.yaml'
    file.write_text('[this is: no parameter file\n')
    with driven(tmp_path, arguments=['--params-file', str(file)]) as driver:
        assert driver.process.wait(60) == 1
        assert 'asr_node: ' in driver.log
        assert str(file) in driver.log
        assert 'Traceback' not in driver.log
