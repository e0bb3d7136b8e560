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

"""The worker thread: nothing that was recognised is lost, whatever happens to its stream."""

from pathlib import Path

import pytest
from voxtral_ros.audio.files import read_file
from voxtral_ros.node.worker import Worker
from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.recognizer.events import Transcript
from voxtral_ros.recognizer.stream import Stream, StreamOptions
from voxtral_ros.resources import demo_model

ORDERS = Path(__file__).resolve().parents[1] / 'data' / 'orders.flac'


class Told(list):
    """What the worker tells."""

    def __call__(self, events, origin):
        self.extend(event for event in events if isinstance(event, Transcript))

    @property
    def finals(self):
        return [event for event in self if event.is_final]


@pytest.fixture(scope='module')
def engine():
    return Engine.load(demo_model(), 'cpu', threads=1)


@pytest.fixture
def blocks():
    return list(read_file(ORDERS, block_s=0.5))


def hear(worker, blocks):
    """Let the worker hear blocks and wait until it has."""
    for block in blocks:
        worker.put(block, 0)
    worker.flush()


def test_ids_go_on_in_the_next_worker(engine, blocks):
    told = Told()
    first = Worker(engine, 480, StreamOptions(), told)
    hear(first, blocks)
    first.stop(60)
    second = Worker(engine, 480, StreamOptions(), told, n_utterances=first.n_utterances)
    hear(second, blocks)
    second.stop(60)
    assert [final.utterance_id for final in told.finals] == list(range(1, 9))


def test_an_exception_loses_no_transcript_and_not_the_ears(engine, blocks, monkeypatch):
    told = Told()
    poll, calls = Stream.poll, []

    def failing(stream):
        events = poll(stream)
        calls.append(events)
        if len(calls) == 6:  # 3 s in: in the middle of the first order
            raise RuntimeError('the engine has a bad day')
        return events

    monkeypatch.setattr(Stream, 'poll', failing)
    worker = Worker(engine, 480, StreamOptions(), told)
    hear(worker, blocks)
    worker.stop(60)
    assert worker.stats.failures == 1
    finals = told.finals
    assert finals[0].text.startswith('robot go')
    assert finals[-1].text == 'stop following me and return to the charging station'
    assert [final.utterance_id for final in finals] == list(range(1, len(finals) + 1))
    # Every utterance that was begun was also ended.
    assert {event.utterance_id for event in told} == {final.utterance_id for final in finals}
