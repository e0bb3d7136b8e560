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

"""For how long work has not come on."""

from voxtral_ros.recognizer.stuck_timer import StuckTimer


def ask(*questions):
    """Return the answers to (time, what is done)."""
    times = iter([0.0, *(time for time, _ in questions)])
    timer = StuckTimer(lambda: next(times))
    return [timer.stuck_s(done) for _, done in questions]


def test_what_changes_is_progress():
    assert ask((1, 'a'), (2, 'a'), (3, 'b'), (4, 'b'), (5, 'b')) == [0, 1, 0, 1, 2]


def test_nothing_under_way_is_not_stuck():
    assert ask((1, 7), (2, 7), (3, None), (4, None), (5, 7), (6, 7)) == [0, 1, 0, 0, 0, 1]


def test_a_process_that_was_stopped_has_not_been_stuck_meanwhile():
    assert ask((1, 'a'), (2, 'a'), (3600, 'a'), (3601, 'a')) == [0, 1, 3, 4]
