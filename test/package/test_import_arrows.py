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

"""Imports point one way, as the layout of the package promises."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / 'voxtral_ros'

# Part -> parts that it may import besides itself.
_LOWEST = {'ops', 'quantization'}
_MODEL = _LOWEST | {'model', 'audio'}
_RECOGNIZER = _MODEL | {'recognizer'}
ARROWS = {
    'audio': set(),
    'ops': {'quantization'},
    'quantization': {'ops'},
    'model': _LOWEST,
    'recognizer': _MODEL,
    'node': _RECOGNIZER | {'server'},  # the client for a recogniser elsewhere
    'server': _RECOGNIZER,
    'evaluation': _RECOGNIZER,
    'cli': _RECOGNIZER | {'server', 'evaluation'},
}
# Modules that reach further than their part: calibration runs the network.
FURTHER = {'quantization/calibration.py': {'model'}, 'quantization/gptq.py': {'model'}}
# Library -> the only parts that may import it.
ONLY_IN = {
    'rclpy': {'node'},
    'asyncio': {'server'},
    'aiohttp': {'server'},
    'prometheus_client': {'server'},
    'sounddevice': {'audio'},
    'jiwer': {'evaluation'},
    'torch': {'model', 'quantization', 'ops', 'recognizer', 'cli'},
}


def imports(path):
    """Yield the absolute name of everything that a module imports, in functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: relative import'
            yield from (f'{node.module}.{alias.name}' for alias in node.names)


def part_of(name):
    """Return the part of the package that an absolute module name belongs to."""
    return (name.split('.') + [''])[1]


def modules():
    for path in sorted(PACKAGE.rglob('*.py')):
        relative = path.relative_to(PACKAGE)
        if len(relative.parts) > 1:
            yield relative.parts[0], path


def test_every_part_has_its_arrows():
    assert {part for part, _ in modules()} <= set(ARROWS)


@pytest.mark.parametrize('part', sorted(ARROWS))
def test_imports_point_one_way(part):
    allowed = ARROWS[part] | {part, 'msg'} if part == 'node' else ARROWS[part] | {part}
    wrong = [
        f'{path.relative_to(PACKAGE)} imports {name}'
        for owner, path in modules() if owner == part
        for name in imports(path)
        if name.startswith('voxtral_ros.') and part_of(name) not in (
            allowed | {'resources'} | FURTHER.get(str(path.relative_to(PACKAGE)), set()))]
    assert not wrong


@pytest.mark.parametrize('library', sorted(ONLY_IN))
def test_library_stays_in_its_part(library):
    wrong = [
        f'{path.relative_to(PACKAGE)} imports {name}'
        for part, path in modules() if part not in ONLY_IN[library]
        for name in imports(path) if name.split('.')[0] == library]
    assert not wrong
