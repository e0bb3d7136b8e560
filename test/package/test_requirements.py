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

"""What make installs is locked: each file names all that it needs, in one version, with hashes."""

from importlib.metadata import distribution, PackageNotFoundError
from pathlib import Path
import re

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
import pytest

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / 'requirements'
WANTED = sorted(path.stem for path in REQUIREMENTS.glob('*.in'))
CHOSEN = {'torch', 'numpy'}  # by the user, and by whoever built ROS
MACHINES = [{'python_version': f'3.{minor}', 'python_full_version': f'3.{minor}.1',
             'sys_platform': 'linux', 'platform_machine': machine, 'extra': ''}
            for minor in range(10, 15) for machine in ('x86_64', 'aarch64')]


def wanted(name):
    """
    Return the requirements of an .in file, with those of the files that it includes.

    ros-DISTRO-NAME stands for the ros-NAME that it asks for.
    """
    found = []
    for line in (REQUIREMENTS / f'{name}.in').read_text(encoding='utf-8').splitlines():
        line = line.partition('#')[0].strip()
        if line.startswith('-r '):
            found += wanted(line.removeprefix('-r ').removesuffix('.in'))
        elif line:
            found.append(Requirement(re.sub(r'^ros-(jazzy|kilted)-', 'ros-', line)))
    return found


def locked(name):
    """Return (requirement, hashes) for each package in a .txt file."""
    text = (REQUIREMENTS / f'{name}.txt').read_text(encoding='utf-8').replace('\\\n', ' ')
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith('#')]
    return [(Requirement(line.partition(' --hash')[0]),
             re.findall(r'--hash=sha256:([0-9a-f]{64})(?= |$)', line)) for line in lines]


def pins(name, machine):
    """Return name -> versions of what is installed on a machine."""
    found = {}
    for requirement, _ in locked(name):
        if requirement.marker is None or requirement.marker.evaluate(machine):
            version = re.fullmatch(r'==([^,*]+)', str(requirement.specifier))
            assert version, requirement
            found.setdefault(canonicalize_name(requirement.name), []).append(version[1])
    return found


@pytest.mark.parametrize('name', WANTED)
def test_each_package_has_hashes(name):
    assert locked(name)
    assert [str(requirement) for requirement, hashes in locked(name) if not hashes] == []


@pytest.mark.parametrize('ros', [name for name in WANTED if name.startswith('ros-')])
@pytest.mark.parametrize('machine', MACHINES, ids=lambda machine: '-'.join(
    machine[key] for key in ('python_version', 'platform_machine')))
def test_on_each_machine_there_is_one_version_of_what_is_wanted(machine, ros):
    together = {}
    for name in ('pip', 'numpy', ros, 'runtime', 'test'):
        versions = pins(name, machine)
        for package, found in versions.items():
            assert len(found) == 1, (name, package, found)
            # The files are installed one after the other, into one environment.
            assert together.setdefault(package, found) == found, package
        for requirement in wanted(name):
            if requirement.marker is None or requirement.marker.evaluate(machine):
                package = canonicalize_name(requirement.name)
                assert requirement.specifier.contains(versions[package][0]), requirement


@pytest.mark.parametrize('name', ['runtime', 'test'])
def test_nothing_that_is_needed_is_left_to_pip(name):
    """Pip is told not to look for dependencies: they have to be in the files."""
    there = CHOSEN.union(*(pins(other, None) for other in ('pip', 'build', 'runtime', name)))
    for package in pins(name, None):
        try:
            needs = distribution(package).requires or []
        except PackageNotFoundError:
            continue  # a system with another set of packages
        for need in map(Requirement, needs):
            if need.marker is None or need.marker.evaluate({'extra': ''}):
                assert canonicalize_name(need.name) in there, (package, str(need))


def test_make_installs_torch_alone_without_hashes():
    makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
    installs = re.findall(r'\$\(PIP\) install .*', makefile)
    assert [line for line in installs if '$(LOCKED)' not in line] == [
        '$(PIP) install --no-compile $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) '
        '-r requirements/torch.txt']
    assert re.search('^LOCKED := .*--require-hashes --no-deps', makefile, re.M)
    assert 'pip install' not in makefile
    lines = (REQUIREMENTS / 'torch.txt').read_text(encoding='utf-8').splitlines()
    assert [Requirement(line).name for line in lines if not line.startswith('#')] == ['torch']
