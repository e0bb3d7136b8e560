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

"""A clock that stands, leaps or goes back, and stamps of another one."""

import pytest

from voxtral_ros.node.clock import ClockWatch

S = 1_000_000_000
THEN = 1_700_000_000 * S


def watched(times_ns, simulated=True):
    """Return a watch that has been asked once a second, and what time it was then."""
    watch = ClockWatch()
    for second, now_ns in enumerate(times_ns):
        watch.tick(float(second), int(now_ns), simulated)
    return watch


def test_real_time_passes_whatever_the_clock_is_set_to():
    watch = watched([THEN, THEN + S, 5 * S, 3 * THEN], simulated=False)
    assert watch.elapsed_s == 3.0
    assert (watch.failure, watch.warning) == ('', '')


@pytest.mark.parametrize('rate', [0.1, 1, 4, 50])
def test_simulated_time_passes_at_its_own_pace(rate):
    watch = watched([THEN + second * rate * S for second in range(6)])
    assert watch.elapsed_s == pytest.approx(5 * rate)
    assert (watch.failure, watch.warning) == ('', '')


@pytest.mark.parametrize('leap_ns', [THEN, -3600 * S, -5 * S, 10_000 * S])
def test_its_leaps_are_no_time_that_passes(leap_ns):
    before = [THEN + second * S for second in range(5)]
    watch = watched(before + [THEN + leap_ns + second * S for second in range(5)])
    assert watch.elapsed_s == pytest.approx(8.0)


def test_a_clock_that_comes_late_is_no_reason_to_miss_anything():
    watch = watched([0] * 10 + [THEN + second * S for second in range(5)])
    assert watch.elapsed_s == pytest.approx(4.0)
    assert (watch.failure, watch.warning) == ('', '')


def test_nothing_on_clock_is_a_failure_from_the_third_second():
    assert watched([0] * 3).failure == ''
    assert 'nothing comes on /clock' in watched([0] * 4).failure
    assert watched([0] * 10, simulated=False).failure == ''


def test_a_bag_that_is_paused_is_no_failure_but_is_said():
    watch = watched([THEN, THEN + S] + [THEN + 2 * S] * 6)
    assert watch.failure == ''
    assert 'stood still for 5 s' in watch.warning
    assert watch.elapsed_s == 2.0


@pytest.mark.parametrize(('late_s', 'words'), [
    (1795946373, '57 years behind'), (-1795946373, '57 years ahead of'), (7200, '2 hours behind'),
    (300_000, '3 days behind'), (6, '6.0 s behind'), (-1.5, '1.5 s ahead of')])
def test_stamps_of_another_clock_are_said(late_s, words):
    watch = watched([THEN], simulated=False)
    for second in range(3):
        watch.compare(THEN + second * S, THEN + (late_s + second) * S)
    assert words in watch.warning
    assert 'play a bag with --clock' in watch.warning
    watch.forget_stamps()
    assert watch.warning == ''


def test_messages_that_are_held_up_are_of_this_clock():
    watch = watched([THEN], simulated=False)
    for late_s in (20, 19, 18, 0.05, 30):
        watch.compare(THEN, THEN + round(late_s * S))
    assert watch.warning == ''
