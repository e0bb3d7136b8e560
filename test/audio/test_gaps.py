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
"""Timeline: jitter and drift are followed, gaps bridged, jumps seen, stamps never run back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from voxtral_ros.audio.block import AudioError, samples_to_ns
from voxtral_ros.audio.gaps import Kind, Placement, Timeline

MS = 1_000_000
S = 1_000_000_000
T0 = 1_700_000_000 * S
BLOCK = 320  # 20 ms at 16 kHz

BLOCKS = st.lists(st.integers(1, 8_000), min_size=2, max_size=80)
JITTER = st.integers(-50 * MS, 50 * MS)


def _run(timeline: Timeline, n_blocks: int, start_ns: int = T0) -> int:
    """Place perfect blocks of 20 ms; return the stamp of the next one."""
    for i in range(n_blocks):
        placement = timeline.place(BLOCK, start_ns + i * 20 * MS, 0)
        assert (placement.kind, placement.silence) == (Kind.CONTINUOUS, 0)
    return start_ns + n_blocks * 20 * MS


@given(BLOCKS, st.sampled_from([8_000, 16_000, 44_100, 48_000]))
def test_exact_stamps_come_back_exactly(sizes, rate_hz):
    timeline = Timeline(rate_hz)
    done = 0
    for size in sizes:
        stamp_ns = T0 + samples_to_ns(done, rate_hz)
        placement = timeline.place(size, stamp_ns, 0)
        assert (placement.kind, placement.silence) == (Kind.CONTINUOUS, 0)
        assert placement.stamp_ns == stamp_ns  # rounding does not add up
        done += size


@given(BLOCKS, st.data())
def test_jitter_within_the_promise_is_never_a_gap_and_stamps_increase(sizes, data):
    timeline = Timeline(16_000)
    done = 0
    last_ns = 0
    for size in sizes:
        true_ns = T0 + samples_to_ns(done, 16_000)
        placement = timeline.place(size, true_ns + data.draw(JITTER), 0)
        assert placement.kind is Kind.CONTINUOUS
        assert abs(placement.stamp_ns - true_ns) <= 50 * MS + len(sizes)
        assert placement.stamp_ns > last_ns
        last_ns = placement.stamp_ns
        done += size


@pytest.mark.parametrize('ppm', [-500, -100, 100, 500])
def test_drift_of_the_sound_card_does_not_add_up(ppm):
    timeline = Timeline(16_000)
    for i in range(20 * 60 * 50):  # 20 min: 500 ppm would be 600 ms
        stamp_ns = T0 + round(i * 20 * MS * (1 + ppm * 1e-6))
        placement = timeline.place(BLOCK, stamp_ns, 0)
        assert placement.kind is Kind.CONTINUOUS
        assert abs(placement.stamp_ns - stamp_ns) <= abs(ppm) * 10_000 + 1000
    assert abs(placement.stamp_ns - stamp_ns) > abs(ppm) * 9_000  # the documented lag: 10 s


def test_jitter_averages_out():
    timeline = Timeline(16_000)
    for i in range(50 * 60):
        true_ns = T0 + i * 20 * MS
        placement = timeline.place(BLOCK, true_ns + (i * 7919 % 41 - 20) * MS, 0)
    assert abs(placement.stamp_ns - true_ns) < 2 * MS


@given(st.integers(101 * MS, 2 * S), st.integers(1, 50))
def test_a_gap_is_bridged_with_as_much_silence_as_is_missing(gap_ns, n_blocks):
    timeline = Timeline(16_000)
    due_ns = _run(timeline, n_blocks)
    placement = timeline.place(BLOCK, due_ns + gap_ns, 0)
    assert placement.kind is Kind.GAP
    assert placement.silence == round(gap_ns * 16_000 / S)
    assert abs(placement.stamp_ns - (due_ns + gap_ns)) <= S // 16_000
    _run_after = timeline.place(BLOCK, due_ns + gap_ns + 20 * MS, 0)
    assert _run_after.kind is Kind.CONTINUOUS


@given(st.integers(101 * MS, 2 * S))
def test_an_overlap_is_reported_once_and_keeps_stamps_increasing(back_ns):
    timeline = Timeline(16_000)
    due_ns = _run(timeline, 200)
    first = timeline.place(BLOCK, due_ns - back_ns, 0)
    assert (first.kind, first.silence) == (Kind.OVERLAP, 0)
    last_ns = due_ns - 20 * MS
    for i in range(5):
        placement = timeline.place(BLOCK, due_ns - back_ns + (i + 1) * 20 * MS, 0)
        assert placement.stamp_ns > last_ns
        last_ns = placement.stamp_ns
        assert placement.kind is Kind.CONTINUOUS \
            or (placement.kind is Kind.OVERLAP and back_ns < 101.2 * MS)


def test_after_an_overlap_the_timeline_comes_back_at_1_ms_per_second():
    timeline = Timeline(16_000)
    due_ns = _run(timeline, 50)
    for i in range(50 * 200 + 1):  # 200 s
        stamp_ns = due_ns - 150 * MS + i * 20 * MS
        placement = timeline.place(BLOCK, stamp_ns, 0)
        assert placement.kind is (Kind.CONTINUOUS if i else Kind.OVERLAP)
        ahead_ns = placement.stamp_ns - stamp_ns
        if i == 50 * 100:
            assert ahead_ns == pytest.approx(50 * MS, abs=MS)
    assert ahead_ns < 2 * MS
    due_ns = placement.stamp_ns + 20 * MS
    assert timeline.place(BLOCK, due_ns - 150 * MS, 0).kind is Kind.OVERLAP  # reported anew


def test_a_gap_ends_an_overlap():
    timeline = Timeline(16_000)
    due_ns = _run(timeline, 50)
    kinds = []
    for off_ms in (-200, 200, -200):
        placement = timeline.place(BLOCK, due_ns + off_ms * MS, 0)
        due_ns = placement.stamp_ns + 20 * MS
        kinds.append(placement.kind)
    assert kinds == [Kind.OVERLAP, Kind.GAP, Kind.OVERLAP]


@given(st.one_of(st.integers(2 * S + 1, 10**9 * S), st.integers(-10**9 * S, -2 * S - 1)))
def test_a_jump_starts_anew_at_its_stamp(jump_ns):
    timeline = Timeline(16_000)
    stamp_ns = _run(timeline, 3) + jump_ns
    placement = timeline.place(BLOCK, stamp_ns, 0)
    assert (placement.kind, placement.stamp_ns, placement.silence) == (Kind.JUMP, stamp_ns, 0)
    _run(timeline, 3, stamp_ns + 20 * MS)


def test_limits_are_parameters():
    timeline = Timeline(16_000, jitter_s=0.01, max_gap_s=0.5)
    due_ns = _run(timeline, 3)
    kinds = []
    for off_ms in (20, 21, 501):
        placement = timeline.place(BLOCK, due_ns + off_ms * MS, 0)
        due_ns = placement.stamp_ns + 20 * MS
        kinds.append(placement.kind)
    assert kinds == [Kind.CONTINUOUS, Kind.GAP, Kind.JUMP]


def test_reset_forgets_the_stream():
    timeline = Timeline(16_000)
    timeline.place(BLOCK, _run(timeline, 3) + 9 * S, 0)
    timeline.reset()
    assert timeline.place(BLOCK, 5 * S, 0) == Placement(Kind.CONTINUOUS, 5 * S)


def test_a_rate_that_is_no_audio_is_refused():
    with pytest.raises(AudioError):
        Timeline(0)


# Unstamped streams


def test_unstamped_blocks_are_laid_end_to_end_from_the_first_receive_time():
    timeline = Timeline(16_000)
    for i, late_ns in enumerate([0, 3 * MS, 90 * MS, 70 * MS, 50 * MS, 0]):
        placement = timeline.place(BLOCK, None, T0 + (i + 1) * 20 * MS + late_ns)
        assert placement.kind is Kind.CONTINUOUS
        # The first sample was there one block before the message was.
        assert abs(placement.stamp_ns - (T0 + i * 20 * MS)) <= i * 20 * MS // 1000


@given(BLOCKS, st.data())
def test_unstamped_stamps_increase_whatever_the_transport_does(sizes, data):
    timeline = Timeline(16_000)
    received_ns = T0
    last_ns = 0
    for size in sizes:
        received_ns += data.draw(st.integers(0, 2 * S))
        placement = timeline.place(size, None, received_ns)
        assert placement.kind in (Kind.CONTINUOUS, Kind.GAP) and placement.stamp_ns > last_ns
        last_ns = placement.stamp_ns


def test_unstamped_drift_does_not_add_up():
    timeline = Timeline(16_000)
    for i in range(20 * 60 * 50):
        received_ns = T0 + round((i + 1) * 20 * MS * 1.0005)
        placement = timeline.place(BLOCK, None, received_ns)
    assert abs(placement.stamp_ns + 20 * MS - received_ns) < 6 * MS


def test_unstamped_audio_faster_than_real_time_is_one_stream():
    timeline = Timeline(16_000)
    for i in range(500):
        placement = timeline.place(BLOCK, None, T0 + i)
        assert placement.kind is Kind.CONTINUOUS
    # The origin is 20 ms before T0, and the slew over 10 s is 10 ms.
    assert placement.stamp_ns - T0 == pytest.approx(499 * 20 * MS - 30 * MS, abs=MS)


def test_a_pause_that_audio_sent_ahead_has_filled_is_no_jump():
    timeline = Timeline(16_000)
    for i in range(500):  # 10 s of audio at once
        timeline.place(BLOCK, None, T0 + i)
    assert timeline.place(BLOCK, None, T0 + 5 * S).kind is Kind.CONTINUOUS


def test_unstamped_audio_slower_than_real_time_is_one_stream():
    timeline = Timeline(16_000)
    for i in range(500):
        assert timeline.place(BLOCK, None, T0 + i * 40 * MS).kind is Kind.CONTINUOUS


def test_a_long_pause_of_an_unstamped_stream_is_a_jump():
    timeline = Timeline(16_000)
    timeline.place(BLOCK, None, T0)
    received_ns = T0 + 3 * S
    placement = timeline.place(BLOCK, None, received_ns)
    assert (placement.kind, placement.stamp_ns) == (Kind.JUMP, received_ns - 20 * MS)
    assert timeline.place(BLOCK, None, received_ns + 20 * MS).kind is Kind.CONTINUOUS


def test_a_receive_clock_set_back_is_a_jump():
    timeline = Timeline(16_000)
    timeline.place(BLOCK, None, T0)
    assert timeline.place(BLOCK, None, T0 - 90 * MS).kind is Kind.CONTINUOUS
    assert timeline.place(BLOCK, None, T0 - 300 * MS).kind is Kind.JUMP


@settings(max_examples=200)
@given(st.lists(st.tuples(
    st.integers(0, 4_000), st.one_of(st.none(), st.integers(-4 * S, 4 * S)),
    st.integers(-S, 3 * S)), max_size=40))
def test_any_stream_runs_back_only_at_jumps(blocks):
    timeline = Timeline(16_000)
    received_ns = last_ns = due_ns = T0
    started = False
    for size, stamp_off_ns, passed_ns in blocks:
        received_ns += passed_ns
        stamp_ns = None if stamp_off_ns is None else due_ns + stamp_off_ns
        placement = timeline.place(size, stamp_ns, received_ns)
        if started and placement.kind is not Kind.JUMP:
            assert placement.stamp_ns >= last_ns
        assert (placement.silence > 0) == (placement.kind is Kind.GAP)
        last_ns, started = placement.stamp_ns, True
        due_ns = placement.stamp_ns + samples_to_ns(size, 16_000)


@pytest.mark.parametrize('pause_ms', [510, 800, 1500, 1990])
def test_when_unstamped_audio_pauses_the_pause_is_kept(pause_ms):
    timeline = Timeline(16_000)
    for i in range(50):
        timeline.place(BLOCK, None, T0 + (i + 1) * 20 * MS)
    placement = timeline.place(BLOCK, None, T0 + (51 * 20 + pause_ms) * MS)
    assert placement == Placement(Kind.GAP, T0 + (50 * 20 + pause_ms) * MS, pause_ms * 16)


@pytest.mark.parametrize('spoken', [[(0, 3.2), (4.7, 7.0), (8.4, 11.3)], [(0, 1), (1.6, 2.6)]])
def test_utterances_that_come_as_one_unstamped_message_each_lie_where_they_were(spoken):
    timeline = Timeline(16_000)
    for begin_s, end_s in spoken:
        placement = timeline.place(round((end_s - begin_s) * 16_000), None, T0 + round(end_s * S))
        assert placement.stamp_ns == pytest.approx(T0 + begin_s * S, abs=MS)


def test_a_network_that_holds_unstamped_audio_up_makes_no_pause():
    timeline = Timeline(16_000)
    for i in range(1000):
        late_ms = 450 - 20 * (i % 25) if i % 100 < 25 else 0  # and then brings it all at once
        kind = timeline.place(BLOCK, None, T0 + ((i + 1) * 20 + late_ms) * MS).kind
        assert kind is Kind.CONTINUOUS


@pytest.mark.parametrize('period', [2, 5, 50, 10**6])
def test_stamps_that_repeat_or_stand_still_cut_nothing(period):
    timeline = Timeline(16_000)
    for i in range(1000):
        placement = timeline.place(BLOCK, T0 + i // period * period * 20 * MS, 0)
        assert placement.kind is (Kind.REPEATED if i % period else Kind.CONTINUOUS)
        assert placement.stamp_ns == T0 + i * 20 * MS


def test_stamps_that_move_on_after_standing_still_are_followed():
    timeline = Timeline(16_000)
    for _ in range(500):
        timeline.place(BLOCK, T0, 0)
    assert timeline.place(BLOCK, T0 + 20 * MS, 0).kind is Kind.JUMP
    assert timeline.place(BLOCK, T0 + 40 * MS, 0) == Placement(Kind.CONTINUOUS, T0 + 40 * MS)


@pytest.mark.parametrize('step_ms', [1, 5, 10, 19])
def test_stamps_that_are_too_slow_cut_nothing(step_ms):
    timeline = Timeline(16_000)
    kinds = {timeline.place(BLOCK, T0 + i * step_ms * MS, 0).kind for i in range(2000)}
    assert kinds <= {Kind.CONTINUOUS, Kind.OVERLAP}
