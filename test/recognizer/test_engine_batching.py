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

"""Streams that share an engine never notice each other."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from voxtral_ros.recognizer.engine import Engine, EngineFull

checkpoints = pytest.importorskip('support.checkpoints')

PARAMS = checkpoints.tiny_params()


def audio(n_samples, seed):
    """Return a gliding tone that comes and goes, with some noise: float32 [n_samples]."""
    time_s = np.arange(n_samples) / 16000
    tone = np.sin(1600 * time_s + 300 * np.cos(4 * time_s + seed))
    noise = 0.02 * np.random.default_rng(seed).standard_normal(n_samples)
    return (0.3 * np.clip(np.sin(8 * time_s) + 0.3, 0, 1) * tone + noise).astype(np.float32)


@pytest.fixture(scope='module')
def make_engine(tmp_path_factory):
    """Return a function that makes engines with the same weights."""
    folder = checkpoints.write_checkpoint(
        tmp_path_factory.mktemp('tiny'), PARAMS, checkpoints.random_tensors(PARAMS, 0),
        checkpoints.tiny_tekken())
    return lambda **options: Engine.load(folder, 'cpu', **options)


class Clip:
    """Some audio with a delay, and the ids that it gets in an engine of its own."""

    def __init__(self, engine, seed):
        rng = np.random.default_rng(seed)
        self.delay = int(rng.choice([1, 2, 6, 15, 30]))
        n_samples = int(rng.integers(2000, 50_000))
        tail = np.zeros(engine.protocol.right_pad(n_samples, self.delay), np.float32)
        self.samples = np.concatenate((audio(n_samples, seed), tail))
        slot = engine.take_slot(self.delay)
        slot.feed(self.samples)
        drain(engine)
        engine.release(slot)
        self.ids = ids(slot)


def drain(engine):
    while engine.step():
        pass


def ids(slot):
    return [token.id for token in slot.tokens]


@pytest.fixture(scope='module')
def clips(make_engine):
    clips = [Clip(make_engine(), seed) for seed in range(12)]
    assert len({tuple(clip.ids) for clip in clips}) == len(clips)
    return clips


def run_schedule(engine, n_slots, clips, rng):
    """Open, feed, step and close streams at random moments; return what each clip got."""
    waiting, running, got = list(enumerate(clips)), {}, {}
    while waiting or running:
        action = rng.random()
        if waiting and len(running) < n_slots and action < 0.2:
            number, clip = waiting.pop()
            running[number] = engine.take_slot(clip.delay), clip
        elif running and action < 0.8:
            slot, clip = running[int(rng.choice(list(running)))]
            slot.feed(clip.samples[slot.n_samples:slot.n_samples + int(rng.integers(1, 12_000))])
        else:
            engine.step()
        for number, (slot, clip) in list(running.items()):
            if slot.n_samples == len(clip.samples) and not slot.ready:
                engine.release(slot)
                got[number] = ids(slot)
                del running[number]
    return got


@pytest.mark.parametrize('n_slots', [1, 2, 5])
@pytest.mark.parametrize('seed', range(3))
def test_ids_do_not_depend_on_company(make_engine, clips, n_slots, seed):
    """Different phases, delays and lengths; a slot has several tenants."""
    engine = make_engine(max_streams=n_slots)
    got = run_schedule(engine, n_slots, clips, np.random.default_rng(seed))
    assert got == {number: clip.ids for number, clip in enumerate(clips)}
    assert engine.n_open == 0


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 20))
def test_ids_do_not_depend_on_any_schedule(make_engine, clips, seed, n_slots, max_chunk_tokens):
    engine = make_engine(max_streams=n_slots, max_chunk_tokens=max_chunk_tokens)
    some = clips[seed % 8:][:4]
    got = run_schedule(engine, n_slots, some, np.random.default_rng(seed))
    assert got == {number: clip.ids for number, clip in enumerate(some)}


def test_long_windows_of_old_and_young_streams_share_a_pass(tmp_path):
    """The young one needs little of the rings, the old one has filled them."""
    params = checkpoints.tiny_params(**{'sliding_window': 150, 'encoder.sliding_window': 280})
    checkpoints.write_checkpoint(tmp_path, params, checkpoints.random_tensors(params, 9),
                                 checkpoints.tiny_tekken())
    engine = Engine.load(tmp_path, 'cpu', max_streams=2)
    samples = [audio(16 * 16000, seed) for seed in range(2)]
    alone = []
    for clip in samples:
        slot = engine.take_slot(6)
        slot.feed(clip)
        drain(engine)
        engine.release(slot)
        alone.append(ids(slot))
    old, young = engine.take_slot(6), engine.take_slot(6)
    old.feed(samples[0][:150_000])
    drain(engine)
    old.feed(samples[0][150_000:])
    young.feed(samples[1])
    drain(engine)
    assert [ids(old), ids(young)] == alone
    assert len(set(alone[0])) > 30


def test_equal_streams_in_step_give_equal_ids(make_engine, clips):
    engine = make_engine(max_streams=5)
    slots = [engine.take_slot(clips[0].delay) for _ in range(5)]
    for slot in slots:
        slot.feed(clips[0].samples)
    drain(engine)
    assert [ids(slot) for slot in slots] == [clips[0].ids] * 5


def test_a_step_takes_all_streams_that_have_audio(make_engine, clips):
    engine = make_engine(max_streams=3, max_chunk_tokens=4)
    busy, prompted, idle = (engine.take_slot(6) for _ in range(3))
    drain(engine)
    busy.feed(clips[0].samples[:9000])
    drain(engine)
    positions = busy.position, prompted.position, idle.position
    busy.feed(clips[0].samples[:2560])
    prompted.feed(clips[1].samples[:1280])
    assert engine.step()
    assert (busy.position, prompted.position, idle.position) == \
        (positions[0] + 2, positions[1] + 1, positions[2])
    assert not engine.step()


def test_a_backlog_does_not_hold_up_others(make_engine):
    """Where one stream has a minute to catch up, another one moves with every step."""
    engine = make_engine(max_streams=2)
    late, live = engine.take_slot(6), engine.take_slot(6)
    for slot in (late, live):
        slot.feed(audio(9000, 0))
    drain(engine)
    late.feed(audio(60 * 16000, 1))
    for _ in range(20):
        live.feed(audio(1280, 2))
        before = late.position, live.position
        engine.step()
        assert live.position == before[1] + 1
        assert late.position > before[0]


def test_a_full_engine_says_so_and_takes_the_next_after_a_release(make_engine, clips):
    engine = make_engine(max_streams=2)
    first, second = engine.take_slot(6), engine.take_slot(6)
    for attempt in (lambda: engine.take_slot(6), engine.open):
        with pytest.raises(EngineFull, match='all 2 streams'):
            attempt()
    assert {first.index, second.index} == {0, 1}
    assert engine.n_open == 2
    engine.release(first)
    assert engine.n_open == 1
    assert engine.take_slot(6).index == first.index


def test_an_unsupported_delay_takes_no_slot(make_engine):
    engine = make_engine()
    for delay_ms in (0, -80, 40, 100, 1280, 2480, float('nan'), float('inf')):
        with pytest.raises(ValueError, match='delay'):
            engine.open(delay_ms)
    assert engine.n_open == 0


def test_a_released_slot_starts_anew(make_engine, clips):
    """Whatever moment its predecessor was left at."""
    engine = make_engine()
    for n_samples in (0, 500, 3000, 9000, 30_000):
        for clip in clips[:2]:
            left = engine.take_slot(clips[3].delay)
            left.feed(clips[3].samples[:n_samples])
            drain(engine)
            engine.release(left)
            slot = engine.take_slot(clip.delay)
            slot.feed(clip.samples)
            drain(engine)
            engine.release(slot)
            assert ids(slot) == clip.ids
            assert slot.tokens[0].index == 0


def test_releasing_twice_does_not_evict_the_next_stream(make_engine, clips):
    engine = make_engine(max_streams=2)
    old = engine.take_slot(6)
    engine.release(old)
    new = engine.take_slot(clips[0].delay)
    assert new.index == old.index
    engine.release(old)
    new.feed(clips[0].samples)
    drain(engine)
    assert ids(new) == clips[0].ids
    assert engine.take_slot(6).index != new.index


def test_abandoning_a_closed_stream_does_not_evict_the_next_one(make_engine):
    engine = make_engine()
    old = engine.open()
    old.close()
    new = engine.open()
    old.abandon()
    assert engine.n_open == 1
    with pytest.raises(EngineFull):
        engine.open()
    new.abandon()


def spoil(clip):
    samples = clip.samples.copy()
    samples[len(samples) // 2] = np.nan
    return samples


def test_a_nan_stays_in_its_stream(make_engine, clips):
    """Streams replace NaN by silence; this is about what half precision may bring forth."""
    engine = make_engine(max_streams=3)
    others = [engine.take_slot(clip.delay) for clip in clips[:2]]
    sick = engine.take_slot(6)
    sick.feed(spoil(clips[3]))
    for slot, clip in zip(others, clips, strict=False):
        slot.feed(clip.samples)
    drain(engine)
    assert math.isnan(sick.tokens[-1].probability)
    for slot, clip in zip(others, clips, strict=False):
        assert ids(slot) == clip.ids


def test_a_nan_ends_with_its_stream(make_engine, clips):
    engine = make_engine(max_streams=2)
    sick = engine.take_slot(6)
    sick.feed(spoil(clips[3]))
    drain(engine)
    assert math.isnan(sick.tokens[-1].probability)
    engine.release(sick)
    slot = engine.take_slot(clips[0].delay)
    assert slot.index == sick.index
    slot.feed(clips[0].samples)
    drain(engine)
    assert ids(slot) == clips[0].ids
