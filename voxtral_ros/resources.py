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

"""Where the files are that belong to the package but are no Python: models and the like."""

from __future__ import annotations

from pathlib import Path

_DEMO_MODEL = 'voxtral-tiny-en'


def share_folder() -> Path:
    """
    Return the folder with `models`: the source tree, or share/voxtral_ros of an installation.

    :raises FileNotFoundError: neither is there
    """
    # Not resolved: a colcon build with links has the real files in the source tree, and the
    # installed ones are found from where this module appears to be.
    here = Path(__file__)
    for folder in here.parents:
        for candidate in (folder, folder / 'share' / 'voxtral_ros'):
            if (candidate / 'package.xml').is_file() and (candidate / 'models').is_dir():
                return candidate
    raise FileNotFoundError(f'no share/voxtral_ros above {here}: install the package again')


def demo_model() -> Path:
    """Return the folder of the small English model that ships with the package."""
    return share_folder() / 'models' / _DEMO_MODEL
