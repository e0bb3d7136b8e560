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

"""What is played is found where it was played, and the delay of its echo is measured."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from voxtral_ros.audio.echo_meter import best_lag, EchoMeter, FRAME
from voxtral_ros.audio.echo_reference import Drift, Reference

RATE = 16_000
T0 = 1_700_000_000.0


def index(time_s):
    return round(time_s * RATE)


def pulses(n, every=RATE):
    """Return silence with a pulse of two samples every second."""
    samples = np.zeros(n, np.float32)
    samples[::every] = samples[1::every] = 1.0
    return samples


def test_it_is_silence_where_nothing_was_played():
    reference = Reference()
    assert not reference.read(index(T0), 5000).any()
    reference.add(np.ones(1000, np.float32), RATE, T0)
    read = reference.read(index(T0) - 500, 2000)
    assert np.flatnonzero(read).tolist() == list(range(500, 1500))
    assert reference.end == index(T0) + 1000


@pytest.mark.parametrize('ppm', [-100, 100])
def test_over_an_hour_it_stays_where_its_stamps_say(ppm):
    """A clock that is 100 ppm off has gone off by 0.36 s then."""
    reference = Reference()
    block = pulses(RATE)
    for second in range(3600):
        time_s = T0 + second / (1 + ppm * 1e-6)
        reference.add(block, RATE, time_s)
        if second > 10:
            read = reference.read(index(time_s) - 800, 1600)
            found = np.flatnonzero(read)
            assert len(found) and abs(found[0] - 800) < 0.03 * RATE
        reference.forget(index(time_s) - RATE)
    assert len(reference._chunks) < 5


def test_what_comes_of_another_time_replaces_what_was_to_come():
    reference = Reference()
    reference.add(np.full(10 * RATE, 0.5, np.float32), RATE, T0)
    reference.add(np.full(RATE, 0.25, np.float32), RATE, T0 + 3)
    read = reference.read(index(T0), 10 * RATE)
    assert (read[:3 * RATE] == 0.5).all()
    assert (read[3 * RATE:4 * RATE] == 0.25).all()
    assert not read[4 * RATE:].any()


@given(st.lists(st.tuples(st.integers(1, 4000), st.floats(-1e5, 1e5),
                          st.sampled_from([8_000, 16_000, 44_100])), max_size=30))
def test_no_stamp_is_too_strange(blocks):
    reference = Reference()
    for n, offset_s, rate_hz in blocks:
        begin, end = reference.add(np.ones(n, np.float32), rate_hz, T0 + offset_s)
        assert end >= begin
        assert len(reference.read(begin - 10, 50)) == 50
    assert len(reference._chunks) <= 660


def test_a_story_of_hours_does_not_take_all_of_the_memory():
    reference = Reference()
    for minute in range(30):
        reference.add(np.zeros(60 * RATE, np.float32), RATE, T0 + 60 * minute)
    assert len(reference._chunks) <= 660


def test_a_clock_that_jitters_is_not_followed_and_one_that_drifts_is():
    drift = Drift()
    assert [drift.steps(off, 320) for off in (100, -150, 200, -240)] == [0, 0, 0, 0]
    assert sum(drift.steps(300, 320) for _ in range(80)) == 10
    assert sum(drift.steps(-300, 320) for _ in range(80)) == -10


@pytest.mark.parametrize('lag', [-20, 0, 7, 90])
def test_the_delay_of_an_echo_is_found_in_its_level(lag):
    random = np.random.default_rng(0)
    level = np.repeat(random.uniform(-60, -20, 400), 2)
    levels = np.stack((np.roll(level, lag) - 6 + random.normal(0, 2, len(level)), level), axis=1)
    assert best_lag(levels[-730:]) == lag


def test_of_two_strangers_there_is_no_delay():
    random = np.random.default_rng(0)
    assert best_lag(random.uniform(-60, -20, (731, 2))) is None
    assert best_lag(np.full((731, 2), -80.0)) is None


def test_how_much_was_taken_away_is_only_measured_while_something_is_played():
    meter = EchoMeter()
    loud = 0.1 * np.ones(50 * FRAME, np.float32)
    meter.add(loud, 0 * loud, loud)
    assert np.isnan(meter.erle_db)
    meter.add(loud, loud, 0.01 * loud)
    assert meter.erle_db == pytest.approx(40, abs=0.1)
