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

"""From stream time back to the stamps of the audio, over jumps and for days."""

from voxtral_ros.node.stamps import StampMap

S = 1_000_000_000


def test_a_moment_is_counted_from_the_last_anchor_before_it():
    stamps = StampMap()
    stamps.anchor(0.0, 100 * S)
    stamps.anchor(5.0, 200 * S)  # a jump
    assert stamps(1.5) == 101 * S + S // 2
    assert stamps(4.99) == 104 * S + 990_000_000
    assert stamps(5.0) == 200 * S
    assert stamps(7.0) == 202 * S


def test_a_moment_before_the_first_anchor_lies_before_it():
    stamps = StampMap()
    stamps.anchor(1.0, 10 * S)
    assert stamps(0.5) == 9 * S + S // 2


def test_drift_is_followed_to_less_than_a_millisecond_in_little_memory():
    stamps = StampMap()
    drift = 100e-6
    for n in range(50 * 3600):  # an hour of blocks of 20 ms
        stamps.anchor(n * 0.02, round(n * 0.02 * (1 + drift) * 1e9))
    for moment in (1800.0, 3000.5, 3599.0):
        assert abs(stamps(moment) - moment * (1 + drift) * 1e9) < 1_000_000
    assert len(stamps._anchors) < 1000


def test_after_a_day_it_is_as_exact_as_before():
    stamps = StampMap()
    stamps.anchor(0.0, 1_700_000_000 * S)
    assert stamps(86400.08) == 1_700_086_400 * S + 80_000_000
