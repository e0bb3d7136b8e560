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

"""Heard time to fed time: silence that flushes put in never counts."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
import pytest

from voxtral_ros.recognizer.stream_clock import StreamClock

RATE = 100
STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 300)), max_size=30)


def brute_force(steps: list[tuple[bool, int]]) -> list[int]:
    """Return how many fed samples lie before each processed sample and before the end."""
    n_fed, before = 0, []
    for inserted, n_samples in steps:
        for _ in range(n_samples):
            before.append(n_fed)
            n_fed += not inserted
    return [*before, n_fed]


def run(steps: list[tuple[bool, int]]) -> StreamClock:
    clock = StreamClock(RATE)
    for inserted, n_samples in steps:
        (clock.insert if inserted else clock.feed)(n_samples)
    return clock


def test_without_flushes_both_times_are_the_same():
    clock = run([(False, 500)])
    assert [clock.fed_s(t) for t in (0.0, 1.23, 5.0)] == [0.0, 1.23, 5.0]


def test_inserted_silence_counts_as_the_moment_before_it():
    clock = run([(False, 200), (True, 100), (False, 200)])
    assert [clock.fed_s(t) for t in (1.9, 2.0, 2.5, 3.0, 3.5, 5.0)] == pytest.approx(
        [1.9, 2.0, 2.0, 2.0, 2.5, 4.0])


def test_insertions_add_up():
    clock = run([(True, 100), (False, 100), (True, 50), (True, 50), (False, 100)])
    assert [clock.fed_s(t) for t in (0.5, 1.5, 2.5, 3.5)] == pytest.approx([0.0, 0.5, 1.0, 1.5])


@given(STEPS)
def test_agrees_with_counting_sample_by_sample(steps):
    clock, expected = run(steps), brute_force(steps)
    fed = [clock.fed_s(n / RATE) * RATE for n in range(len(expected))]
    assert fed == pytest.approx(expected, abs=1e-6)


@given(STEPS, st.lists(st.floats(0, 90), min_size=2))
def test_time_never_runs_backwards(steps, times):
    clock = run(steps)
    fed = [clock.fed_s(t) for t in sorted(times)]
    assert all(after >= before - 1e-9 for before, after in pairwise(fed))


@given(STEPS, STEPS)
def test_later_audio_does_not_change_what_was_published(steps, later):
    before, after = run(steps), run(steps + later)
    processed_s = sum(n for _, n in steps) / RATE
    for t in (0.0, processed_s / 3, processed_s):
        assert after.fed_s(t) == pytest.approx(before.fed_s(t))


def test_flushes_of_hours_leave_no_error():
    clock = run([(False, 1000), (True, 144)] * 2000)
    processed_s = 2000 * 11.44
    assert clock.fed_s(processed_s) == pytest.approx(20_000.0, abs=1e-6)
    assert clock.fed_s(processed_s - 100.0) == pytest.approx(20_000.0 - 100.0 + 9 * 1.44, abs=1e-6)


def test_what_was_skipped_counts_for_ever():
    """Skip ten seconds after every second, for hours; the last minutes of slot time are asked."""
    clock = StreamClock(RATE)
    for n in range(1, 3000):
        clock.skip(n * RATE, 10 * RATE)
        assert clock.processed_s(n) == pytest.approx(n + 10 * (n - 1), abs=1e-6)
        assert clock.processed_s(n + 0.5) == pytest.approx(n + 0.5 + 10 * n, abs=1e-6)
    assert clock.processed_s(2950.5) == pytest.approx(2950.5 + 10 * 2950, abs=1e-6)
    assert len(clock._skips) < 130
    clock.begin_slot(7.0)
    assert clock.processed_s(3000.0) == 3007.0
