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

"""Benchmarks find all that they import, and none of it in test/ or training/."""

import ast
from importlib.util import find_spec
import os
import subprocess
import sys

from bench.scripts import BENCH
import pytest

SOURCES = {path.stem: path.read_text(encoding='utf-8') for path in sorted(BENCH.glob('*.py'))}
SCRIPTS = [name for name, source in SOURCES.items() if "if __name__ == '__main__'" in source]
NEEDS = {'node': 'audio_common_msgs', 'stream_cpu': 'transformers'}


def run(name, *arguments):
    # As for everybody else: scripts find the modules beside them.
    return subprocess.run([sys.executable, BENCH / f'{name}.py', *arguments], text=True,
                          env={**os.environ, 'PYTHONSAFEPATH': ''}, capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize('name', SCRIPTS)
def test_a_script_prints_its_usage(name):
    if name in NEEDS and not find_spec(NEEDS[name]):
        pytest.skip(f'no {NEEDS[name]}: `make test` brings it')
    result = run(name, '--help')
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f'usage: {name}.py')


@pytest.mark.parametrize('name', SOURCES)
def test_nothing_comes_from_test_or_training(name):
    imported = set()
    for node in ast.walk(ast.parse(SOURCES[name])):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split('.')[0])
    folders = {path.stem for path in (BENCH.parent / 'test').iterdir()} - {'bench'}
    assert not imported & ({'training', 'test'} | folders)


def test_the_predictions_are_those_of_the_page():
    pytest.importorskip('torch')
    result = run('step', '--predict')
    assert result.returncode == 0, result.stderr
    factors, _, day = result.stdout.strip().split('\n\n')
    page = (BENCH.parent / 'docs' / 'jetson.md').read_text(encoding='utf-8')
    for table in (factors, day):
        assert f'\n\n{table}\n\n' in page
