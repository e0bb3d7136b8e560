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

"""The messages are there, with the agreed fields, and cost nothing to import."""

import importlib
import json
from pathlib import Path
import subprocess
import sys

import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not sourced')

TRANSCRIPT = {
    'header': 'std_msgs/Header',
    'utterance_id': 'uint64',
    'revision': 'uint32',
    'is_final': 'boolean',
    'text': 'string',
    'delta': 'string',
    'words': 'sequence<voxtral_ros/Word>',
    'end': 'builtin_interfaces/Time',
    'latency': 'float',
    'confidence': 'float',
    'robot_speaking': 'boolean',
    'awake': 'boolean',
}
WORD = {'text': 'string', 'end': 'builtin_interfaces/Time', 'confidence': 'float'}


@pytest.mark.parametrize(('name', 'fields'), [('Transcript', TRANSCRIPT), ('Word', WORD)])
def test_fields(name, fields):
    from voxtral_ros import msg
    assert getattr(msg, name).get_fields_and_field_types() == fields


def test_every_interface_file_is_built():
    """A new file in one of the folders is all that is needed."""
    root = Path(__file__).resolve().parents[2]
    files = [path for kind in ('msg', 'srv', 'action') for path in (root / kind).glob(f'*.{kind}')]
    assert {path.parent.name for path in files} >= {'msg', 'srv'}
    for path in files:
        module = importlib.import_module(f'voxtral_ros.{path.parent.name}')
        assert hasattr(module, path.stem), path


def test_import_loads_neither_torch_nor_our_modules(tmp_path):
    """A node that only listens must not pay for the recogniser."""
    code = ('import json, sys; from voxtral_ros.msg import Transcript; '
            'print(json.dumps(sorted(sys.modules)))')
    printed = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, check=True,
                             capture_output=True, text=True).stdout
    loaded = json.loads(printed)
    ours = [name for name in loaded
            if name.startswith('voxtral_ros.') and not name.startswith('voxtral_ros.msg')]
    heavy = {'torch', 'numpy', 'safetensors', 'soxr', 'sounddevice'} & set(loaded)
    assert 'voxtral_ros.msg' in loaded
    assert not ours
    assert not heavy - {'numpy'}  # generated messages with arrays of numbers load numpy
