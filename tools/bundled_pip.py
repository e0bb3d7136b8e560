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
Run the pip that Python keeps for new virtual environments, without installing it first.

`python -m venv` would install it, in five seconds, to be replaced at once by that of
requirements/pip.txt.
"""

import ensurepip
from pathlib import Path
import runpy
import sys
import sysconfig

FOLDERS = (
    Path(ensurepip.__file__).parent / '_bundled',
    Path(sysconfig.get_config_var('WHEEL_PKG_DIR') or '/usr/share/python-wheels'),  # Debian's
)


def main() -> None:
    wheels = [wheel for folder in FOLDERS for wheel in sorted(folder.glob('pip-*.whl'))]
    if wheels:
        sys.path.insert(0, str(wheels[0]))
    else:
        ensurepip.bootstrap()
    runpy.run_module('pip', run_name='__main__', alter_sys=True)


if __name__ == '__main__':
    main()
