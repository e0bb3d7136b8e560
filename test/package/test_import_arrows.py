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
import subprocess
import sys

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / 'voxtral_ros'

# Part -> parts that it may import besides itself. Longer names are modules or folders with rules
# of their own.
ARROWS = {
    'audio': set(),
    'quantization': set(),
    'quantization.quantizer': {'model'},  # which finds the source in its folder
    'quantization.gptq': {'model'},  # calibration runs the network
    'quantization.calibration': {'model'},
    'model': {'quantization'},
    'backends': {'model', 'quantization'},
    'recognizer': {'audio', 'model', 'backends'},
    'client': {'audio', 'recognizer'},
    'server': {'audio', 'recognizer'},
    'evaluation': {'audio', 'recognizer'},
    'doctor': {'audio', 'model', 'backends', 'quantization'},
    'node': {'audio', 'recognizer', 'client', 'server', 'msg', 'srv', 'action'},
    'cli': {'audio', 'quantization', 'model', 'backends', 'recognizer', 'server', 'client',
            'evaluation', 'doctor'},
}
# Library -> the only parts that may import it.
ONLY_IN = {
    'rclpy': {'node'},
    'asyncio': {'client', 'server'},
    'aiohttp': {'client', 'server'},
    'prometheus_client': {'server'},
    'jiwer': {'evaluation'},
    'rapidfuzz': {'recognizer'},
    'sounddevice': {'audio'},
    'soundfile': {'audio'},
    'soxr': {'audio'},
    'torch': {'model', 'quantization', 'backends', 'cli'},
}
# What runs in a process that never imports torch; see test_without_torch.py for whole commands.
WITHOUT_TORCH = ('voxtral_ros.backends.selection', 'voxtral_ros.backends.benchmark',
                 'voxtral_ros.model.checkpoint', 'voxtral_ros.quantization.inspection',
                 'voxtral_ros.recognizer.engine', 'voxtral_ros.node.loading',
                 'voxtral_ros.client.engine', 'voxtral_ros.model.tokenizer',
                 'voxtral_ros.audio.microphone', 'voxtral_ros.server.app',
                 'voxtral_ros.evaluation.word_error_rate')


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


def rule_of(path):
    """Return the longest name in ARROWS that a module falls under."""
    name = '.'.join(path.relative_to(PACKAGE).with_suffix('').parts)
    return max((rule for rule in ARROWS if f'{name}.'.startswith(f'{rule}.')), key=len)


def modules():
    return [path for path in sorted(PACKAGE.rglob('*.py'))
            if len(path.relative_to(PACKAGE).parts) > 1]


def crossing(path):
    """Return the other parts that a module imports, with the names that it does."""
    own = path.relative_to(PACKAGE).parts[0]
    return {(part_of(name), name) for name in imports(path)
            if name.startswith('voxtral_ros.') and part_of(name) not in (own, 'resources')}


def test_every_part_has_its_arrows():
    assert {path.relative_to(PACKAGE).parts[0] for path in modules()} \
        <= {rule.split('.')[0] for rule in ARROWS}


@pytest.mark.parametrize('rule', sorted(ARROWS))
def test_imports_point_one_way(rule):
    wrong = [f'{path.relative_to(PACKAGE)} imports {name}'
             for path in modules() if rule_of(path) == rule
             for part, name in crossing(path) if part not in ARROWS[rule]]
    assert not wrong


@pytest.mark.parametrize('rule', sorted(ARROWS))
def test_every_arrow_that_is_allowed_exists(rule):
    found = {part for path in modules() if rule_of(path) == rule for part, _ in crossing(path)}
    assert found >= ARROWS[rule]


def test_the_arrows_of_whole_parts_have_no_cycle():
    above = {rule: parts for rule, parts in ARROWS.items() if '.' not in rule}
    while above:
        lowest = {part for part, parts in above.items() if not parts & set(above)}
        assert lowest, f'a cycle among {sorted(above)}'
        above = {part: parts for part, parts in above.items() if part not in lowest}


@pytest.mark.parametrize('library', sorted(ONLY_IN))
def test_library_stays_in_its_part(library):
    wrong = [
        f'{path.relative_to(PACKAGE)} imports {name}'
        for path in modules() if path.relative_to(PACKAGE).parts[0] not in ONLY_IN[library]
        for name in imports(path) if name.split('.')[0] == library]
    assert not wrong


@pytest.mark.parametrize('name', WITHOUT_TORCH)
def test_torch_is_not_loaded_by(name):
    code = f'import sys, {name}; sys.exit("torch" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
