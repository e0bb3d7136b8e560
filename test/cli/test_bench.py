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

"""`voxtral bench` says what to expect of boards."""

import re

from voxtral_ros.backends.base import WeightBytes
from voxtral_ros.backends.benchmark import BOARDS, PassBytes
from voxtral_ros.cli import bench


def test_each_board_has_a_prediction_with_little_and_with_a_full_window(capsys):
    weights = WeightBytes(1_000_000_000, 1_600_000_000, 200_000_000)
    bench._print_prediction(PassBytes(weights, 100_000_000, 100_000), 500, 8192)
    heading, boards = capsys.readouterr().out.split(':\n')
    assert '500 tokens' in heading and '8192 tokens, then 22% and 27% of the bytes' in heading
    for board, line in zip(BOARDS, boards.splitlines(), strict=True):
        assert board.name in line
        short, long, full_short, full_long = map(float, re.findall(r'\d\.\d\d\b', line))
        assert long < short < full_short and long < full_long < full_short
