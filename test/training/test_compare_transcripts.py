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

"""The difference of two word error rates on the same recordings."""

import numpy as np
import pytest
from training.compare_transcripts import count_errors, difference


def write(path, rows):
    lines = ['\t'.join(row) for row in [('file', 'text', 'transcript'), *rows]]
    path.write_text('\n'.join(lines) + '\n')
    return path


def test_counts_both_transcripts_of_each_recording(tmp_path):
    before = write(tmp_path / 'before.tsv', [('a', 'go to room 12', 'go to room twelve'),
                                             ('b', 'stop', 'shop now')])
    after = write(tmp_path / 'after.tsv', [('b', 'stop', 'stop'),
                                           ('a', 'go to room 12', 'to rome twelve')])
    assert count_errors(before, after).tolist() == [[0, 2, 4], [2, 0, 1]]


def test_other_recordings_are_refused(tmp_path):
    before = write(tmp_path / 'before.tsv', [('a', 'go', 'go')])
    after = write(tmp_path / 'after.tsv', [('b', 'go', 'go')])
    with pytest.raises(ValueError, match='not of the same recordings'):
        count_errors(before, after)


def test_what_is_hard_for_both_does_not_widen_the_interval():
    hard = np.array([[9, 9, 10], [0, 0, 10]] * 20)
    assert difference(hard) == (0, 0, 0)
    hard[0, 1] += 1
    middle, low, high = difference(hard)
    assert middle == pytest.approx(1 / 400)
    assert 0 <= low < middle < high < 0.01
