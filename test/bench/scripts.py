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

"""Import modules of bench/, which is a folder of scripts and no package."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
import sys

BENCH = Path(__file__).resolve().parents[2] / 'bench'


def load(name):
    """Return the module bench/<name>.py."""
    spec = spec_from_file_location(f'bench_{name}', BENCH / f'{name}.py')
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for their module there
    spec.loader.exec_module(module)
    return module
