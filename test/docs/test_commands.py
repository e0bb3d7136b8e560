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

"""What pages tell people to type exists."""

import re

from docs.commands import (
    all_options, command_options, launch_arguments, make_targets, options, script_options,
    words_after)
from docs.pages import PAGES, read, ROOT, snippets, spans, split
import pytest
from voxtral_ros.cli.main import COMMANDS
from voxtral_ros.node.parameter_table import ROWS
from voxtral_ros.recognizer.interface import SpeechEngine
import yaml

# CHANGELOG.md has names that are gone.
HERE = [page for page in PAGES if page != 'CHANGELOG.md']
TOGETHER = {row.partition('.')[0] for row in ROWS if '.' in row}
EVENTS = {'turn.start', 'turn.eager', 'turn.resumed', 'turn.end'}  # of the server
SCRIPT = r'\bpython3? (?:-m (training[\w.]*)|((?:bench|tools|examples)/\w+\.py))'
SUFFIXES = {'py', 'md', 'cu', 'cpp', 'yaml', 'svg'}


def commands(page, pattern):
    """Yield every command of a page: what was matched, and the words after it."""
    for snippet in snippets(read(page)):
        for match in re.finditer(pattern, snippet):
            yield match, words_after(match)


@pytest.mark.parametrize('page', HERE)
def test_voxtral(page):
    wrong = []
    for match, words in commands(page, r'(?<![\w/.=-])voxtral (?=[a-z-])([\w-]+)'):
        if match[1] not in COMMANDS:
            if match[1] != '--version':
                wrong.append(match[0])
            continue
        known = command_options(match[1])
        for option, value in options(words):
            if option not in known:
                wrong.append(f'{match[0]} {option}')
            elif known[option] and value.islower():  # not a placeholder, as DIR
                wrong += [f'{match[0]} {option} {one}' for one in value.split('|')
                          if one not in known[option]]
    assert not wrong


@pytest.mark.parametrize('page', HERE)
def test_scripts(page):
    wrong = []
    for match, words in commands(page, SCRIPT):
        path = ROOT / (match[2] or f'{match[1].replace(".", "/")}.py')
        known = script_options(path)
        wrong += [match[0]] * (not path.is_file())
        wrong += [f'{match[0]} {option}' for option, _ in options(words) if option not in known]
    assert not wrong


@pytest.mark.parametrize('page', HERE)
def test_options_by_themselves(page):
    """An option that stands alone is one of some program of ours, or of one that is named here."""
    others = {
        '--ros-args', '--params-file', '--show-args', '--feedback', '--once', '--remap', '--clock',
        '--delay',
        '--cmake-args',  # colcon
        '--runtime',  # docker
        '--data-parallel-size', '--enforce-eager', '--max-model-len',  # vLLM
    }
    alone = {span.split()[0].partition('=')[0] for span in spans(read(page))
             if re.match(r'--[a-z]', span)}
    assert not alone - all_options() - others


@pytest.mark.parametrize('page', HERE)
def test_launch(page):
    known, wrong = launch_arguments(), []
    for _, words in commands(page, r'\basr\.launch\.py(?= )'):
        given = [word.partition(':=')[0] for word in words if ':=' in word]
        wrong += [name for name in given
                  if name not in known and not name.startswith('qos_overrides')]
    for _, words in commands(page, r'\bros2 run voxtral_ros asr_node|(?<![\w/])asr_node(?= )'):
        given = re.findall(r'-p ([\w.]+):=', ' '.join(words))
        wrong += [name for name in given if name not in ROWS and name != 'use_sim_time']
    assert not wrong


@pytest.mark.parametrize('page', HERE)
def test_parameters(page):
    """Parameters in files and in sentences exist."""
    text, wrong = read(page), []
    known = {*ROWS, *EVENTS, *(f'engine.{name}' for name in (
        *dir(SpeechEngine), *SpeechEngine.__annotations__))}
    for block in split(text)[0]:
        if 'ros__parameters' in block:
            for node in yaml.safe_load(block).values():
                wrong += [name for name in node['ros__parameters']
                          if name not in ROWS and name not in ('use_sim_time', 'qos_overrides')]
    for span in spans(text):
        name = re.match(r'([a-z_]+)\.([a-z_]+)(?=$|: |:=)', span)
        if name and name[1] in TOGETHER and name[2] not in SUFFIXES:
            wrong += [name[0]] * (name[0] not in known)
    assert not wrong


@pytest.mark.parametrize('page', HERE)
def test_make(page):
    targets, variables = make_targets()
    wrong = []
    for _, words in commands(page, r'(?:^|(?<=\s))make(?= [a-zA-Z.])'):
        for word in words:
            name, is_variable, _ = word.partition('=')
            if is_variable:
                wrong += [word] * (name not in variables)
            else:
                wrong += [word] * (word not in targets)
    assert not wrong
