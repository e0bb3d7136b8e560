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

"""The comparison of ways to quantize runs on any native checkpoint, and guards its own rules."""

import os
from pathlib import Path
import subprocess
import sys

from bench.scripts import BENCH
import pytest
from quantization import packable

DATA = Path(__file__).resolve().parents[1] / 'data'
HEADER, *ROWS = (DATA / 'manifest.tsv').read_text(encoding='utf-8').splitlines()


@pytest.fixture(scope='module')
def compare(tmp_path_factory):
    """Return a function that runs the comparison on a random checkpoint."""
    folder = tmp_path_factory.mktemp('comparison')
    model = packable.write(folder / 'model')

    def table(name, rows):
        path = folder / name
        path.write_text('\n'.join((HEADER, *(f'{DATA}/{row}' for row in rows))) + '\n')
        return path

    def run(measured, calibration, *options):
        return subprocess.run(
            [sys.executable, BENCH / 'quantization.py', '--model-dir', model,
             '--manifest', f'short={table("measured.tsv", measured)}',
             '--calibration', table('calibration.tsv', calibration), *options],
            # As for everybody else: scripts find the modules beside them.
            env={**os.environ, 'PYTHONSAFEPATH': ''}, capture_output=True, text=True)

    return run


@pytest.mark.slow
def test_every_variant_has_a_row_in_every_table(compare, tmp_path):
    result = compare(ROWS[1:3], ROWS[3:5], '--plot', tmp_path / 'plot.png')
    assert result.returncode == 0, result.stderr
    tables = result.stdout.split('\n## ')[1:]
    rows = [[line.split(' | ') for line in table.splitlines() if line.startswith('| ')][1:]
            for table in tables]
    assert [len(table) for table in rows] == [14, 14, 14]
    tokens, _, rates = rows
    name, _, divergence, same, *_ = tokens[0]
    assert (name, divergence, same) == ('| BF16', '0.0', '100.00')
    # INT8 changes little; every way to INT4 changes it differently.
    assert len({row[2] for row in tokens[2:]}) > 6
    assert rates[0][-1] == '- |'
    assert (tmp_path / 'plot.png').stat().st_size > 10_000


@pytest.mark.slow
def test_every_encoder_in_int4_has_a_row(compare):
    """Smaller and different, but for the one whose only block stays as it is, and KV caches."""
    result = compare(ROWS[1:3], ROWS[3:5], '--variants', 'encoder')
    assert result.returncode == 0, result.stderr
    rows = [line.split(' | ') for line in result.stdout.split('\n## ')[1].splitlines()
            if line.startswith('| ')][1:]
    caches = rows.pop(1)
    sizes, divergences = ([float(row[column]) for row in rows] for column in (1, 2))
    assert (caches[0], float(caches[1])) == ('| KV caches in INT8', sizes[0])
    assert 0 < float(caches[2]) < min(divergences[1:4])
    assert len(rows) == 5
    assert divergences[0] == divergences[4] == 0 < min(divergences[1:4])
    assert sizes[1] == sizes[2] < sizes[3] < sizes[0]


def test_what_is_measured_may_not_be_calibrated_on(compare):
    result = compare(ROWS[1:3], ROWS[2:4])
    assert result.returncode != 0
    assert 'must not have been calibrated on' in result.stderr
