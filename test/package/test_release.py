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

"""What a release needs: a manifest without faults, one version everywhere, and who made what."""

from pathlib import Path
import re
from xml.etree import ElementTree

import pytest
from voxtral_ros.cli.main import COMMANDS
import yaml

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = ElementTree.parse(ROOT / 'package.xml').getroot()
VERSION = MANIFEST.findtext('version')


def test_the_manifest_has_no_faults():
    package = pytest.importorskip('catkin_pkg.package', reason='no catkin_pkg: it comes with ROS')
    faults = []
    manifest = package.parse_package(str(ROOT / 'package.xml'), warnings=faults)
    manifest.validate(warnings=faults)
    assert not faults
    assert manifest.version == VERSION


def test_the_version_is_the_same_everywhere():
    """CHANGELOG.md and the command are compared with package.xml in test_command.py."""
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text(encoding='utf-8'))
    assert citation['version'] == VERSION
    assert citation['license'] == MANIFEST.findtext('license')
    assert 'version' not in (ROOT / 'setup.cfg').read_text(encoding='utf-8').split('[options]')[0]


def test_the_changelog_says_how_to_upgrade():
    """In at most 900 words, as nobody reads more."""
    text = (ROOT / 'CHANGELOG.md').read_text(encoding='utf-8')
    assert '### Upgrading from ' in text.split('\n## ')[1]
    assert len(text.split()) <= 900


def test_packages_that_are_needed_are_credited():
    needed = set()
    for name in ('runtime', 'echo', 'numpy'):
        text = (ROOT / 'requirements' / f'{name}.in').read_text(encoding='utf-8')
        needed |= set(re.findall(r'^([a-z][\w-]*)', text, re.MULTILINE))
    credited = (ROOT / 'CREDITS.md').read_text(encoding='utf-8')
    assert {name for name in needed if f'`{name}`' not in credited} == set()


def test_a_report_of_a_bug_asks_for_what_is_needed():
    form = yaml.safe_load((ROOT / '.github/ISSUE_TEMPLATE/bug.yml').read_text(encoding='utf-8'))
    assert form['name'] and form['description']
    names = [part['id'] for part in form['body']]
    assert len(set(names)) == len(names)
    asked = ' '.join(str(text) for part in form['body'] for text in part['attributes'].values())
    for part in form['body']:
        assert part['type'] in ('textarea', 'input', 'dropdown', 'checkboxes', 'markdown')
        assert part['type'] == 'markdown' or part['attributes']['label']
    for needed in ('ros2 topic echo --once /diagnostics', 'voxtral doctor', 'voxtral --version',
                   'capture.folder'):
        assert needed in asked
    assert set(re.findall(r'voxtral ([a-z-]+)', asked.replace('--version', ''))) <= {*COMMANDS}


def test_both_installations_have_the_same_folders():
    """Setup.py installs what CMake does, at the same places."""
    built = re.search(r'foreach\(folder ([a-z ]+)\)',
                      (ROOT / 'CMakeLists.txt').read_text(encoding='utf-8'))[1]
    packed = re.search(r"for top in \(([a-z', ]+)\)",
                       (ROOT / 'setup.py').read_text(encoding='utf-8'))[1]
    assert sorted(built.split()) == sorted(re.findall(r'\w+', packed))
    assert all((ROOT / folder).is_dir() for folder in built.split())
