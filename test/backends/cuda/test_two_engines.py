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

"""Two engines at the same time in one process, on one GPU and on two."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import soundfile

torch = pytest.importorskip('torch')

from voxtral_ros.backends.cuda.library import available  # noqa: E402
from voxtral_ros.recognizer.engines import load_engines  # noqa: E402
from voxtral_ros.recognizer.events import Transcript  # noqa: E402
from voxtral_ros.resources import demo_model  # noqa: E402

pytestmark = pytest.mark.skipif(
    not available(), reason='no GPU: needs one of SM87 or newer, and the CUDA toolkit')
BLOCK = 1280
ORDERS = Path(__file__).resolve().parents[2] / 'data' / 'orders.flac'


@pytest.fixture(scope='module')
def audio():
    return soundfile.read(ORDERS, dtype='float32')[0]


def transcribe(engine, audio, block):
    """Return the final texts of audio that comes in such blocks."""
    stream = engine.open()
    events = []
    for start in range(0, len(audio), block):
        stream.feed(audio[start:start + block])
        events += stream.poll()
    events += stream.close()
    return [event.text for event in events
            if isinstance(event, Transcript) and event.is_final]


@pytest.mark.parametrize('devices', [
    ('cuda:0', 'cuda:0'),
    pytest.param(('cuda:0', 'cuda:1'), marks=pytest.mark.skipif(
        torch.cuda.device_count() < 2, reason='no GPU: needs two'))])
def test_each_writes_what_it_writes_alone(audio, devices):
    """While both capture the graphs of sizes that come up only now, too."""
    blocks = BLOCK, 3 * BLOCK, len(audio)
    alone = load_engines(demo_model(), devices[:1], max_streams=1)[devices[0]]
    expected = [transcribe(alone, audio, block) for block in blocks]
    alone.close()
    assert all(texts for texts in expected)
    engines = load_engines(demo_model(), devices, max_streams=1)
    with ThreadPoolExecutor(len(devices)) as threads:
        runs = [threads.submit(lambda engine: [
            transcribe(engine, audio, block) for block in blocks], engine)
            for engine in engines.values()]
        assert [run.result() for run in runs] == [expected] * len(devices)
    for device, engine in zip(devices, engines.values(), strict=True):
        assert engine.backend.device == device
        engine.close()
