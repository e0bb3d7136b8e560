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

"""How many robots a fleet serves: the arithmetic, and that the page shows its tables."""

from bench.scripts import BENCH, load
import pytest

sizes = load('fleet_sizes')


def test_the_page_has_the_tables(capsys):
    sizes.print_sizes()
    page = (BENCH.parent / 'docs' / 'fleet.md').read_text(encoding='utf-8')
    for part in capsys.readouterr().out.strip().split('\n\n'):
        assert f'\n\n{part}\n\n' in page


@pytest.mark.parametrize(('n_streams', 'n', 'share', 'taken'), [
    (1, 1, 0.25, 0.25), (2, 3, 0.5, 0.5), (1, 2, 0.1, 0.19), (3, 3, 0.5, 0.125), (5, 4, 0.5, 0.0)])
def test_streams_are_taken_by_a_binomial_distribution(n_streams, n, share, taken):
    assert sizes._more_than(n_streams, n, share) == pytest.approx(taken)


def test_one_stream_is_for_one_robot_or_for_robots_that_hardly_ever_speak():
    assert sizes.connected(1, 1.0) == 1
    assert sizes.connected(1, 0.02) == 1
    assert sizes.connected(1, 0.009) == 2  # the other one is busy in 0.9 of 100 turns


def test_streams_come_from_the_measured_passes():
    assert sizes.streams_within(60.9) == 96
    assert sizes.streams_within(60.8) == 95  # on the line between 64 and 96 streams
    assert sizes.streams_within(43.0 / 2) == 32
    assert sizes.streams_within(79.8) == 128
    assert sizes.streams_within(43.0 + 64, stream_ms=1.0) == 64
