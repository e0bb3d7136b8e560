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

"""Every link inside the tree leads somewhere, on GitHub as well."""

import re

from docs.pages import anchor, anchors, links, PAGES, read, ROOT
import pytest

ELSEWHERE = re.compile(r'[a-z][a-z0-9+.-]*:')


@pytest.mark.parametrize('page', PAGES)
def test_links(page):
    broken = []
    for link in links(read(page)):
        if ELSEWHERE.match(link):
            continue
        path, _, name = link.partition('#')
        target = (ROOT / page).parent.joinpath(path) if path else ROOT / page
        if not target.exists() or ROOT not in (target.resolve(), *target.resolve().parents):
            broken.append(f'{link}: there is no such file')
        elif name and target.suffix == '.md' and name not in anchors(target.read_text('utf-8')):
            broken.append(f'{link}: there is no such heading')
    assert not broken


@pytest.mark.parametrize(('heading', 'name'), [
    ('What it brings and costs', 'what-it-brings-and-costs'),
    ('`ros2` without apt', 'ros2-without-apt'),
    ('A (small) test, C++ & more', 'a-small-test-c--more'),
    ('The [server](server.md)', 'the-server'),
    ('hey_robot *now*', 'hey_robot-now')])
def test_anchors_are_those_of_github(heading, name):
    assert anchor(heading) == name


def test_equal_headings_are_counted():
    assert anchors('# A\n\n## B\n\n```\n# no heading\n```\n\n## B\n') == {'a', 'b', 'b-1'}


def test_pages_that_the_code_names_exist():
    named = re.compile(r'(?<![\w/.])((?:docs|bench/results)/[\w-]+\.md)(?:#([\w-]+))?')
    for folder in ('voxtral_ros', 'launch', 'config', 'bench', 'training', 'tools', 'kernels',
                   'examples', 'requirements', 'scripts', 'msg', 'srv', 'action'):
        for file in (ROOT / folder).rglob('*'):
            if file.suffix in ('.py', '.yaml', '.sh', '.cu', '.cuh', '.cpp', '.h', '.in', '.msg',
                               '.srv', '.action', '.html', '.js', '.json', '.txt'):
                for page, name in named.findall(file.read_text('utf-8', errors='replace')):
                    assert page in PAGES, f'{file} names {page}'
                    assert not name or name in anchors(read(page)), f'{file}: {page}#{name}'
