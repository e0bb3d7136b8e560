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

"""Echo cancellation with the real library: whatever the reference does, its echo goes."""

from __future__ import annotations

from itertools import product
import sys

from audio.echo_room import (
    at_rate, BLOCK_S, cancelled, erle_db, in_the_room, Message, messages, no_linear_canceller,
    PERSON, RATE, ROBOT, speech, T0)
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from voxtral_ros.audio import echo_linear
from voxtral_ros.audio.block import AudioError
from voxtral_ros.audio.echo import EchoCanceller, EchoOptions

pytest.importorskip(
    'pywebrtc_audio', reason='no echo cancellation: pip install -r requirements/echo.txt')
pytestmark = pytest.mark.skipif(
    no_linear_canceller(), reason='no echo cancellation: apt install libspeexdsp1')

S = 16.0
GOOD_DB = 12.0  # after the canceller has found the echo
CANCEL = EchoOptions(echo_cancellation=True)


@pytest.fixture(scope='module')
def played():
    return speech(ROBOT, S)


@pytest.mark.parametrize('delay_s', [-0.2, 0.0, 0.48, 0.9])
def test_an_echo_goes_whatever_its_delay_which_is_measured(played, delay_s):
    canceller = EchoCanceller(CANCEL)
    microphone = in_the_room(played, delay_s)
    out = cancelled(canceller, microphone, messages(played))
    assert len(out) == len(microphone)
    assert erle_db(microphone, out, 10, S) > GOOD_DB
    assert canceller.stats.delay_ms == pytest.approx(1000 * delay_s, abs=25)
    assert canceller.stats.erle_db > GOOD_DB - 6  # of all that it remembers


@pytest.mark.parametrize(('ppm', 'jitter_s'), [(-100, 0.02), (100, 0.0), (300, 0.02)])
def test_two_clocks_that_drift_apart_do_not_matter(played, ppm, jitter_s):
    canceller = EchoCanceller(CANCEL)
    microphone = in_the_room(played, 0.1, ppm=ppm)
    out = cancelled(canceller, microphone, messages(played, ppm=ppm, jitter_s=jitter_s))
    assert erle_db(microphone, out, 8, S) > GOOD_DB - 4


@pytest.mark.parametrize('late_s', [0.2, 0.5])
def test_the_audio_waits_for_a_reference_that_is_late(played, late_s):
    canceller = EchoCanceller(CANCEL)
    microphone = in_the_room(played, 0.05)
    out = cancelled(canceller, microphone, messages(played, late_s=late_s))
    assert erle_db(microphone, out, 8, S - 1) > GOOD_DB  # of the last second it has not come
    stats = canceller.stats
    assert 0 < stats.late_s < late_s + 0.2  # only the first of it was not used
    assert late_s < stats.wait_s <= CANCEL.wait_s


def test_it_waits_no_longer_than_it_may(played):
    canceller = EchoCanceller(EchoOptions(echo_cancellation=True, wait_s=0.3))
    microphone = in_the_room(played, 0.05)
    n_in = n_out = 0
    for message in messages(played, late_s=1.0):
        canceller.add_reference(message.samples, RATE, T0 + message.start_s)
        n_in += len(message.samples)
        n_out += len(canceller.process(message.samples, T0 + message.arrives_s))
        assert n_in - n_out <= (0.3 + BLOCK_S + 0.01) * RATE + canceller._delay
    assert canceller.stats.late_s > S - 1.2
    assert canceller.stats.lateness_s == pytest.approx(1.0 - 0.3 + BLOCK_S + 0.04, abs=0.05)
    assert len(microphone) == n_in


def test_once_it_comes_in_time_again_nothing_waits_for_it():
    canceller = EchoCanceller(CANCEL)
    block = np.zeros(RATE, np.float32)
    for i in range(70):
        if i < 3:
            canceller.process(block[:RATE // 2], T0 + i)
            canceller.add_reference(block, RATE, T0 + i)
            canceller.process(block[RATE // 2:], T0 + i + 0.5)
        else:
            canceller.add_reference(block, RATE, T0 + i)
            canceller.process(block, T0 + i)
        if i == 3:
            assert canceller.stats.wait_s > 0.5
    assert canceller.stats.wait_s == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize('rates', [(8_000, 44_100), (22_050, 48_000), (48_000, 16_000)])
def test_the_reference_may_have_any_rate_and_change_it(played, rates):
    canceller = EchoCanceller(CANCEL)
    microphone = in_the_room(played, 0.1)
    half = [*messages(played, rates[0])][:round(S / BLOCK_S / 2)]
    rest = [*messages(played, rates[1])][round(S / BLOCK_S / 2):]
    out = cancelled(canceller, microphone, half + rest)
    assert erle_db(microphone, out, 6, S / 2) > GOOD_DB - 3
    assert erle_db(microphone, out, S / 2 + 1, S) > GOOD_DB - 3


def test_a_reference_that_starts_late_and_stops_for_a_while_is_used_while_it_is_there(played):
    canceller = EchoCanceller(CANCEL)
    speaks = (np.arange(len(played)) // (4 * RATE)) % 2 == 1  # from 4 to 8 s, 12 to 16
    spoken = np.where(speaks, played, 0).astype(np.float32)
    microphone = in_the_room(spoken, 0.1)
    reference = [message for message in messages(played) if int(message.start_s) // 4 % 2]
    out = cancelled(canceller, microphone, reference)
    assert len(out) == len(microphone)
    for begin_s, least_db in ((4, 6.0), (12, GOOD_DB)):  # the room is known then
        assert erle_db(microphone, out, begin_s + 2, begin_s + 4) > least_db


def test_a_sentence_in_one_message_is_cancelled_from_its_beginning(played):
    canceller = EchoCanceller(CANCEL)
    microphone = in_the_room(played, 0.15)
    out = cancelled(canceller, microphone, [Message(0.0, at_rate(played, 24_000), 24_000, 0.0)])
    assert erle_db(microphone, out, 2, S) > GOOD_DB
    assert canceller.stats.late_s < 0.1


def test_what_was_announced_and_then_not_played_gives_way_to_what_is():
    first, second = speech(ROBOT[:2], 10.0), speech(ROBOT[2:], 8.0)
    canceller = EchoCanceller(CANCEL)
    spoken = np.concatenate((first[:4 * RATE], second))
    microphone = in_the_room(spoken, 0.1)
    out = cancelled(canceller, microphone, [
        Message(0.0, first, RATE, 0.0), Message(4.0, second, RATE, 4.0)])
    assert erle_db(microphone, out, 7, 12) > GOOD_DB - 3


def test_lost_messages_leave_gaps_and_nothing_moves(played):
    canceller = EchoCanceller(CANCEL)
    microphone = in_the_room(played, 0.1)
    random = np.random.default_rng(3)
    kept = [message for message in messages(played) if random.random() > 0.02]
    out = cancelled(canceller, microphone, kept)
    whole = cancelled(EchoCanceller(CANCEL), microphone, messages(played))
    assert erle_db(microphone, out, 8, S) > 6.0
    assert erle_db(microphone, out, 8, S) < erle_db(microphone, whole, 8, S)
    assert canceller.stats.delay_ms == pytest.approx(100, abs=25)


def test_a_reference_without_stamps_is_played_when_it_comes(played):
    canceller = EchoCanceller(CANCEL)
    microphone = in_the_room(played, 0.1)
    out, n = [], round(BLOCK_S * RATE)
    for begin in range(0, len(played), n):
        canceller.add_reference(played[begin:begin + n], RATE, None, T0 + begin / RATE)
        out.append(canceller.process(microphone[begin:begin + n], T0 + begin / RATE))
    out = np.concatenate([*out, canceller.drain()])
    assert erle_db(microphone, out, 6, S) > GOOD_DB


def test_who_speaks_meanwhile_is_not_cancelled(played):
    """In double talk the person is left, at the same time as before."""
    person = np.concatenate((np.zeros(8 * RATE, np.float32), speech(PERSON, S - 8)))
    microphone = in_the_room(played, 0.1) + person
    out = cancelled(EchoCanceller(CANCEL), microphone, messages(played))
    here = slice(9 * RATE, int(S) * RATE)
    fit = [np.corrcoef(out[here], np.roll(person, shift)[here])[0, 1] for shift in (-160, 0, 160)]
    before = np.corrcoef(microphone[here], person[here])[0, 1]
    assert fit[1] > max(0.8, before + 0.1, fit[0] + 0.5, fit[2] + 0.5)


@pytest.mark.parametrize('flags', [flags for flags in product((False, True), repeat=3)
                                   if any(flags)])
def test_nothing_moves_in_time_by_any_of_the_options(flags):
    options = EchoOptions(*flags)
    person = speech(PERSON, 6.0)
    out = cancelled(EchoCanceller(options), person, [])
    assert len(out) == len(person)
    fits = [np.dot(out[RATE:-RATE], np.roll(person, shift)[RATE:-RATE]) for shift in range(-9, 10)]
    assert abs(int(np.argmax(fits)) - 9) <= 1


@given(st.lists(st.integers(0, 3_000), min_size=1, max_size=40), st.sets(st.integers(0, 39)),
       st.booleans())
@settings(max_examples=25)
def test_as_many_samples_come_out_as_went_in(sizes, drains, cancels):
    canceller = EchoCanceller(EchoOptions(cancels, not cancels))
    n_in = n_out = 0
    for i, size in enumerate(sizes):
        n_out += len(canceller.process(np.full(size, 0.1, np.float32), T0 + n_in / RATE))
        n_in += size
        assert n_in - n_out == canceller.held
        if i in drains:
            n_out += len(canceller.drain())
            assert n_out == n_in
            assert canceller.held == 0
    assert n_out + len(canceller.drain()) == n_in


def test_chunks_of_any_size_give_the_same(played):
    microphone = in_the_room(played, 0.1)[:6 * RATE]
    results = []
    for size in (160, 333, 4_000, len(microphone)):
        canceller = EchoCanceller(CANCEL)
        canceller.add_reference(played, RATE, T0)
        out = [canceller.process(microphone[begin:begin + size], T0 + begin / RATE)
               for begin in range(0, len(microphone), size)]
        results.append(np.concatenate([*out, canceller.drain()]))
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], atol=1e-4)


def test_at_a_higher_pace_the_reference_has_the_same_time_to_come(played):
    """Of a bag at rate 4, messages that come 50 ms apart are 200 ms apart in their stamps."""
    microphone = in_the_room(played, 0.1)
    now = [0.0]
    canceller = EchoCanceller(CANCEL, lambda: now[0])

    def pass_time(stream_s):
        now[0] = stream_s / 4

    out = cancelled(canceller, microphone, messages(played, late_s=0.2), pass_time)
    assert canceller.stats.late_s == 0.0
    assert erle_db(microphone, out, 6, S - 1) > GOOD_DB


def test_stamps_that_jump_begin_anew_without_losing_a_sample(played):
    played = played[:8 * RATE]
    microphone = in_the_room(played, 0.1)
    canceller = EchoCanceller(CANCEL)
    out = []
    for offset_s in (0.0, 3600.0, -7200.0):
        canceller.add_reference(played, RATE, T0 + offset_s)
        begin = len(out) * len(played) % 7
        n = round(BLOCK_S * RATE)
        pieces = [canceller.process(microphone[at:at + n], T0 + offset_s + at / RATE)
                  for at in range(begin, len(microphone), n)]
        out.append(np.concatenate([*pieces, canceller.drain()]))
        assert len(out[-1]) == len(microphone) - begin
        assert erle_db(microphone[begin:], out[-1], 4, 8) > GOOD_DB


@pytest.mark.slow
def test_three_minutes_of_double_talk_take_no_more_memory_than_one():
    """Everything that is kept, counted: what grows with the time would be found here."""
    canceller = EchoCanceller(CANCEL, lambda: 0.0)
    sizes = []
    block = 0.1 * np.random.default_rng(0).standard_normal(RATE // 2).astype(np.float32)
    for i in range(360):
        canceller.add_reference(block, RATE, T0 + i / 2)
        canceller.process(block, T0 + i / 2)
        if i in (119, 359):
            sizes.append((len(canceller._reference._chunks), len(canceller._arrivals),
                          len(canceller._meter._levels), canceller.held))
    assert sizes[0] == sizes[1]


def test_the_missing_library_is_said_in_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pywebrtc_audio', None)
    with pytest.raises(AudioError, match='pip install'):
        EchoCanceller(CANCEL)


def test_the_missing_system_library_is_said_in_one_sentence(monkeypatch):
    monkeypatch.setattr(echo_linear, '_LIBRARY', 'libnothing.so.1')
    echo_linear._library.cache_clear()
    try:
        with pytest.raises(AudioError, match='apt install libspeexdsp1'):
            EchoCanceller(CANCEL)
    finally:
        echo_linear._library.cache_clear()
