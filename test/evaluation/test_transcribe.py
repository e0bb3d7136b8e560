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

"""Transcripts of a table of recordings are those of single streams, and none is lost."""

from pathlib import Path

import pytest

from voxtral_ros.evaluation.manifest import Recording
from voxtral_ros.evaluation.transcribe import transcribe
from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.resources import demo_model

DATA = Path(__file__).resolve().parents[1] / 'data'
FILES = ('go_forward_ten_meters.flac', 'austen_0880.flac', 'none.wav', 'austen_0930.flac')


@pytest.fixture(scope='module')
def engine():
    return Engine.load(demo_model(), 'cpu', max_streams=3)


@pytest.fixture(scope='module')
def recordings():
    return [Recording(DATA / file, '', {}) for file in FILES]


def test_recordings_side_by_side_are_transcribed_as_one_by_one(engine, recordings):
    alone = list(transcribe(engine, recordings))
    together = list(transcribe(engine, recordings, side_by_side=3))
    assert [result.recording.path.name for result in alone] == list(FILES)
    assert alone[0].transcript == 'go forward ten meters'
    assert alone[0].duration_s == pytest.approx(2.7, abs=0.3)
    assert all(result.transcript for result in alone if not result.error)
    # Side by side, what cannot be read is known first.
    assert [result.recording for result in together] == [recordings[n] for n in (2, 0, 1, 3)]
    assert sorted(result[:3] for result in together) == sorted(result[:3] for result in alone)


def test_what_cannot_be_read_takes_no_stream(engine, recordings):
    for _ in range(3):
        failed, = transcribe(engine, [recordings[2]])
        assert 'none.wav' in str(failed.error)
        assert failed.transcript == ''
    assert len(list(transcribe(engine, recordings[:2], side_by_side=2))) == 2


def test_the_delay_is_that_of_the_caller(engine, recordings):
    with pytest.raises(ValueError, match='delay of 481 ms'):
        next(transcribe(engine, recordings, delay_ms=481))
