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

"""Both packages called audio_common_msgs can be had, one at a time."""

import os
from pathlib import Path
import subprocess

import pytest

OVERLAYS = os.environ.get('VOXTRAL_OVERLAYS')
pytestmark = pytest.mark.skipif(
    not OVERLAYS, reason='the overlays are built by `make test`, VOXTRAL_OVERLAYS is not set')

FIELDS = {
    'ros_drivers': {
        'AudioData': {'data': 'sequence<uint8>'},
        'AudioDataStamped': {
            'header': 'std_msgs/Header', 'audio': 'audio_common_msgs/AudioData'},
        'AudioInfo': {
            'channels': 'uint8', 'sample_rate': 'uint32', 'sample_format': 'string',
            'bitrate': 'uint32', 'coding_format': 'string'},
    },
    'mgonzs13': {
        'Audio': {
            'audio_data': 'audio_common_msgs/AudioData', 'info': 'audio_common_msgs/AudioInfo'},
        'AudioData': {
            'float32_data': 'sequence<float>', 'int32_data': 'sequence<int32>',
            'int16_data': 'sequence<int16>', 'int8_data': 'sequence<int8>',
            'uint8_data': 'sequence<uint8>'},
        'AudioInfo': {'format': 'int32', 'channels': 'int32', 'rate': 'int32', 'chunk': 'int32'},
        'AudioStamped': {'header': 'std_msgs/Header', 'audio': 'audio_common_msgs/Audio'},
    },
}


@pytest.mark.parametrize('name', sorted(FIELDS))
def test_overlay(name):
    setup = Path(OVERLAYS, name, 'install', 'local_setup.bash')
    code = ('import audio_common_msgs.msg as m; '
            'print({n: getattr(m, n).get_fields_and_field_types() '
            'for n in dir(m) if n.startswith("Audio")})')
    shell = f"source {setup} && python -c '{code}'"
    printed = subprocess.run(['bash', '-c', shell], check=True, capture_output=True, text=True)
    assert eval(printed.stdout) == FIELDS[name]
