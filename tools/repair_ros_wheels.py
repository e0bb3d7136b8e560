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

"""
Repair the CMake exports of ROS wheels in the virtual environment that runs this script.

The exported targets name the Python and numpy headers of the machine that built the wheels
(/opt/python/cpXY-cpXY/...): point them to the headers that are here. Running it again does
nothing.
"""

from pathlib import Path
import re
import sys
import sysconfig

import numpy

BUILDER = r'/opt/python/cp\d+-cp\d+'
NUMPY_HEADERS = re.compile(BUILDER + r'/lib/python3\.\d+/site-packages/numpy/\S*?include')
PYTHON_HEADERS = re.compile(BUILDER + r'/include/python3\.\d+')


def main() -> int:
    repaired = 0
    for path in Path(sys.prefix, 'share').rglob('*.cmake'):
        text = path.read_text(encoding='utf-8')
        new = NUMPY_HEADERS.sub(numpy.get_include(), text)
        new = PYTHON_HEADERS.sub(sysconfig.get_paths()['include'], new)
        if new != text:
            path.write_text(new, encoding='utf-8')
            repaired += 1
        if '/opt/python/' in new:
            print(f'{path} still names a directory of the machine that built the wheels; '
                  'the wheels have changed, adapt tools/repair_ros_wheels.py', file=sys.stderr)
            return 1
    print(f'repaired the header paths in {repaired} CMake files')
    return 0


if __name__ == '__main__':
    sys.exit(main())
