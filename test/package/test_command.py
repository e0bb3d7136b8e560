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

"""The command `voxtral`, the wheel that brings it, and the one version number."""

from pathlib import Path
import re
import subprocess
import sys
from xml.etree import ElementTree
from zipfile import ZipFile

from packaging.requirements import Requirement
import pytest

ROOT = Path(__file__).resolve().parents[2]
VERSION = ElementTree.parse(ROOT / 'package.xml').findtext('version')


def voxtral(*arguments):
    return subprocess.run([sys.executable, '-m', 'voxtral_ros', *arguments],
                          capture_output=True, text=True)


def test_help_names_every_command():
    result = voxtral('--help')
    assert result.returncode == 0
    assert 'transcribe' in result.stdout


def loaded_by(*arguments):
    """Return the modules that are loaded after a command."""
    code = ('import sys; from voxtral_ros.cli.main import main\n'
            'try: main(sys.argv[1:])\n'
            'except SystemExit: pass\n'
            'print("MODULES", *sys.modules)')
    result = subprocess.run([sys.executable, '-c', code, *arguments], capture_output=True,
                            text=True, check=True)
    return set(result.stdout.split('MODULES')[1].split())


def test_help_loads_no_library_and_no_command():
    loaded = loaded_by('--help')
    assert not loaded & {'torch', 'numpy', 'tqdm', 'aiohttp'}
    assert {name for name in loaded if name.startswith('voxtral_ros.cli.')} \
        == {'voxtral_ros.cli.main'}


def test_a_command_loads_itself_alone():
    loaded = loaded_by('evaluate', '--help')
    assert 'torch' not in loaded
    assert not loaded & {f'voxtral_ros.cli.{name}' for name in (
        'bench', 'build_kernels', 'serve', 'transcribe', 'quantize')}


def test_what_only_evaluating_needs_is_named(tmp_path):
    (tmp_path / 'jiwer.py').write_text('raise ModuleNotFoundError("no jiwer", name="jiwer")')
    code = ('import sys; sys.path.insert(0, sys.argv.pop(1)); '
            'from voxtral_ros.cli.main import main; sys.exit(main())')
    result = subprocess.run([sys.executable, '-c', code, tmp_path, 'evaluate', '--manifest', 'x'],
                            capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == ('voxtral evaluate: this needs jiwer, which is not installed: '
                             'pip install voxtral_ros[evaluate]\n')


def test_what_a_cpu_does_not_need_is_an_extra(wheel):
    """And is named in full where the rest is."""
    metadata = wheel.read(f'voxtral_ros-{VERSION}.dist-info/METADATA').decode()
    needs = [Requirement(need) for need in re.findall('^Requires-Dist: (.*)', metadata, re.M)]
    always = {need.name for need in needs if need.marker is None}
    assert always.isdisjoint({'torch', 'safetensors', 'ninja', 'jiwer', 'matplotlib'})
    assert {'numpy', 'sounddevice', 'soundfile', 'soxr', 'aiohttp'} <= always
    of_torch = {need.name for need in needs if need.marker and need.marker.evaluate(
        {'extra': 'torch'})}
    assert of_torch == {'torch', 'safetensors', 'ninja'}


def test_version_is_that_of_package_xml():
    assert voxtral('--version').stdout.strip() == f'voxtral_ros {VERSION}'


def test_unknown_command_is_a_wrong_use():
    result = voxtral('sing')
    assert result.returncode == 2
    assert 'sing' in result.stderr


def test_changelog_begins_with_the_version():
    changelog = (ROOT / 'CHANGELOG.md').read_text(encoding='utf-8')
    assert re.search(r'^## (\S+)', changelog, re.MULTILINE).group(1) == VERSION


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp('wheel')
    source = folder / 'source'
    files = subprocess.run(['git', 'ls-files', '-co', '--exclude-standard'], cwd=ROOT, check=True,
                           capture_output=True, text=True).stdout.split('\n')
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps',
                    '--no-build-isolation', '--wheel-dir', str(folder), str(source)], check=True)
    return ZipFile(next(folder.glob('*.whl')))


def test_wheel_has_the_code_and_not_the_tests(wheel):
    names = wheel.namelist()
    assert {'voxtral_ros/model/network.py', 'voxtral_ros/server/page/index.html'} <= set(names)
    assert not [name for name in names if name.startswith(('test/', 'tools/'))]


def test_wheel_has_the_shared_files_where_ros_looks_for_them(wheel):
    data = f'voxtral_ros-{VERSION}.data/data/share/'
    names = wheel.namelist()
    assert data + 'voxtral_ros/package.xml' in names
    assert data + 'ament_index/resource_index/packages/voxtral_ros' in names


def test_wheel_has_the_version_and_the_command(wheel):
    metadata = f'voxtral_ros-{VERSION}.dist-info/'
    assert f'\nVersion: {VERSION}\n' in wheel.read(metadata + 'METADATA').decode()
    assert 'voxtral = ' in wheel.read(metadata + 'entry_points.txt').decode()
