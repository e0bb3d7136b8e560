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

"""Install the ROS-free part: engine, server and quantizer, with the command `voxtral`."""

from pathlib import Path
from xml.etree import ElementTree

from setuptools import setup

ROOT = Path(__file__).resolve().parent
SHARE = 'share/voxtral_ros'


def version() -> str:
    """Return the version in package.xml, the one place where it stands."""
    text = ElementTree.parse(ROOT / 'package.xml').findtext('version')
    if not text:
        raise SystemExit('package.xml has no <version>')
    return text.strip()


def data_files() -> list[tuple[str, list[str]]]:
    """Return what CMake installs into share/, at the same places."""
    files = [
        ('share/ament_index/resource_index/packages', ['resource/voxtral_ros']),
        (SHARE, ['package.xml']),
    ]
    for top in ('config', 'examples', 'kernels', 'launch', 'models'):
        for folder in sorted({path.parent for path in Path(top).rglob('*') if path.is_file()}):
            if folder.name != '__pycache__':
                content = [str(path) for path in sorted(folder.iterdir()) if path.is_file()]
                files.append((f'{SHARE}/{folder.as_posix()}', content))
    return files


setup(version=version(), data_files=data_files())
