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
List the microphones: `python -m voxtral_ros.doctor.audio_probe`, in a JSON object.

A process of its own: PortAudio waits for audio servers, and prints what it likes.
"""

from __future__ import annotations

import json

from voxtral_ros.audio.block import AudioError
from voxtral_ros.audio.microphone import list_devices


def main() -> None:
    """Print the input devices, or what keeps PortAudio from listing them."""
    try:
        print(json.dumps({'devices': [str(device) for device in list_devices()]}))
    except AudioError as error:
        print(json.dumps({'problem': str(error)}))


if __name__ == '__main__':
    main()
