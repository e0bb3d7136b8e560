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

"""Misses of wake phrases, and phrases found that nobody said."""

import sys

from bench.scripts import BENCH, load
import pytest

with pytest.MonkeyPatch.context() as _patch:
    # As for a script, which puts the repository in the place of its own folder.
    _patch.setattr(sys, 'path', [str(BENCH), *sys.path])
    wake = load('wake')


def test_a_row_has_misses_and_false_wakes(tmp_path):
    (tmp_path / 'set.tsv').write_text(
        'file\ttext\na.wav\they robot stop\nb.wav\thello there hey robot\nc.wav\tthe hay rose\n'
        'd.wav\they robot\n')
    test_set = wake.TestSet('set', wake.read_manifest(tmp_path / 'set.tsv'), ['Hey Robot'], [])
    texts = ['hay robot stop', 'hello there', 'hey robot hey robot', 'hey robot']
    cells, = wake.report(test_set, wake.Case(1, 3.0), texts, 2.0)
    assert '| set | 3 | 1 of 3: 33.3 %' in cells
    assert '| 2: 1.0 (' in cells
    without, = wake.report(test_set, wake.Case(), ['', '', '', ''], 2.0)
    assert '| set | - | 3 of 3: 100.0 % (100.0 to 100.0) | 0: 0.0 (' in without
