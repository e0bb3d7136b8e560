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

"""capture.folder of the real node: what was published is kept, and nothing else is."""

from contextlib import ExitStack
import json
from pathlib import Path

from node.driver import ACTIVATE, CONFIGURE, DEACTIVATE, driven
from node.orders import first_orders
import numpy as np
import pytest
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
import soundfile

from voxtral_ros.evaluation.manifest import checked, read_manifest
from voxtral_ros.evaluation.transcribe import transcribe
from voxtral_ros.node.health import WARN
from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.resources import demo_model


@pytest.fixture(scope='module')
def engine():
    return Engine.load(demo_model(), 'cpu', threads=1)


def lines(folder):
    return [json.loads(line) for line in
            (Path(folder) / 'transcripts.jsonl').read_text('utf-8').splitlines()]


def played(tmp_path, n_orders, **parameters):
    """Run the node, ready to be activated, on some orders."""
    return driven(tmp_path, source='file', file=first_orders(tmp_path, n_orders),
                  **{'capture__folder': tmp_path / 'capture', **parameters})


def ns(time):
    return time.sec * 10**9 + time.nanosec


def test_what_is_published_is_kept_and_transcribed_again_gives_the_same(tmp_path, engine):
    folder = tmp_path / 'capture'
    with played(tmp_path, 4, file_realtime='false', phrases__list="['red cup']",
                delay_ms=480.0) as driver:
        assert driver.change(CONFIGURE)
        for _ in range(2):  # the second time in a folder that is there
            assert driver.change(ACTIVATE)
            n = len(driver.finals)
            driver.wait(lambda n=n: len(driver.finals) == n + 4)
            driver.wait(lambda: driver.shown('utterances kept') == '4')
            assert driver.change(DEACTIVATE)
        finals = driver.finals
        assert str(folder) in driver.log
    kept = lines(folder)
    assert [line['text'] for line in kept] == [final.text for final in finals]
    for line, final in zip(kept, finals, strict=True):
        assert line['utterance_id'] == final.utterance_id
        assert line['start_ns'] == ns(final.header.stamp)
        assert line['end_ns'] == ns(final.end)
        assert line['confidence'] == pytest.approx(final.confidence, abs=1e-3)
        assert [word['text'] for word in line['words']] == [word.text for word in final.words]
        file_ns = line['start_ns'] - line['start_s'] * 1e9
        for word, published in zip(line['words'], final.words, strict=True):
            assert word['end_s'] == pytest.approx((ns(published.end) - file_ns) / 1e9, abs=2e-3)
        assert line['parameters'].pop('model').startswith(str(demo_model()))
        assert line['parameters'] == {
            'delay_ms': 480.0, 'source': 'file', 'channel': '-1', 'phrases': ['red cup']}
        assert line['node'] == '/asr'
    assert sorted(line['file'] for line in kept) == sorted(
        path.name for path in folder.glob('*.flac'))
    table = folder / 'transcripts.tsv'
    table.write_text(table.read_text('utf-8').replace('\n\t', '\nx\t'), 'utf-8')
    recordings = checked(read_manifest(table))
    assert len(recordings) == 8
    assert [result.transcript for result in transcribe(engine, recordings, 480)] == [
        recording.text for recording in recordings]


def test_what_comes_before_the_echo_canceller_is_kept_beside_what_comes_out(tmp_path):
    pytest.importorskip('pywebrtc_audio', reason='needs voxtral_ros[echo]')
    folder = tmp_path / 'capture'
    with played(tmp_path, 2, file_realtime='false', echo__cancellation='true') as driver:
        assert driver.change(CONFIGURE)
        assert driver.change(ACTIVATE)
        driver.wait(lambda: driver.shown('utterances kept') == '2')
        assert driver.change(DEACTIVATE)
    original, _ = soundfile.read(first_orders(tmp_path, 2), dtype='float32')
    for line in lines(folder):
        before, after = (soundfile.read(folder / line[name], dtype='float32')[0]
                         for name in ('before', 'file'))
        assert len(before) == len(after) > 8000
        # What went in are the very samples of the file; what came out is the same moment.
        begin = round(line['start_s'] * 16000)
        place = np.correlate(original, before[begin:begin + 4000], 'valid').argmax()
        np.testing.assert_allclose(
            original[place:place + 4000], before[begin:begin + 4000], atol=1e-3)
        fits = np.correlate(np.pad(after, 800), before, 'valid')
        assert abs(int(fits.argmax()) - 800) <= 16


def test_two_nodes_share_a_folder(tmp_path):
    both, names = tmp_path / 'both', ('left', 'right')
    with ExitStack() as stack:
        drivers = []
        for name in names:
            (tmp_path / name).mkdir()
            drivers.append(stack.enter_context(played(
                tmp_path / name, 4, file_realtime='false', capture__folder=both,
                autostart='true', arguments=('-r', f'__node:={name}'))))
        table = both / 'transcripts.tsv'
        for driver in drivers:
            driver.wait(lambda: table.exists() and table.read_text('utf-8').count('\n') == 9)
        assert [driver.end()[0] for driver in drivers] == [0, 0]
    kept = lines(both)
    for name in names:
        texts = [line['text'] for line in kept if line['node'] == f'/{name}']
        assert len(texts) == 4
        assert texts[0].startswith('robot go to the kitchen')
    assert sorted(line['file'] for line in kept) == sorted(
        path.name for path in both.glob('*.flac'))


def test_nothing_is_kept_of_what_was_not_for_the_robot(tmp_path):
    with played(tmp_path, 2, file_realtime='false', wake__phrases="['robot']",
                wake__timeout_s=0.5) as driver:
        assert driver.change(CONFIGURE)
        assert driver.change(ACTIVATE)
        driver.wait(lambda: driver.shown('utterances') == '2')
        driver.wait(lambda: driver.finals)
        assert driver.change(DEACTIVATE)
        line, = lines(tmp_path / 'capture')
        assert line['text'] == driver.finals[0].text
        assert 'robot' not in line['text']
        assert line['start_s'] < 0.01, 'the wake phrase is in the audio'


def test_a_folder_that_cannot_be_keeps_nobody_from_listening(tmp_path):
    with played(tmp_path, 1, file_realtime='false',
                capture__folder=tmp_path / 'usb' / 'capture') as driver:
        assert driver.change(CONFIGURE)
        assert driver.change(ACTIVATE)
        driver.wait(lambda: driver.finals)
        driver.wait(lambda: driver.diagnosed(WARN, 'utterances are not kept (1 by now)'))
        assert 'usb/capture: No such file' in driver.diagnostics[-1].message
        assert driver.shown('utterances not kept') == '1'
        assert not (tmp_path / 'usb').exists()


def set_folder(driver, folder):
    value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=str(folder))
    request = SetParameters.Request(parameters=[Parameter(name='capture.folder', value=value)])
    result, = driver.call(SetParameters, 'asr/set_parameters', request).results
    assert result.successful, result.reason


def test_it_is_off_and_can_be_switched_on_and_off_while_people_speak(tmp_path):
    with played(tmp_path, 4, capture__folder="''") as driver:
        assert driver.change(CONFIGURE)
        assert driver.change(ACTIVATE)
        driver.wait(lambda: len(driver.finals) == 1)
        set_folder(driver, tmp_path / 'capture')
        driver.wait(lambda: driver.shown('utterances kept') == '1')
        set_folder(driver, '')
        n = len(driver.finals)
        driver.wait(lambda: len(driver.finals) > n)
        driver.wait(lambda: driver.shown('utterances kept') == '')
    assert len(lines(tmp_path / 'capture')) == 1
