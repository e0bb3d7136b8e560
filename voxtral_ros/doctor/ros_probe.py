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
Try to import what the node needs of ROS: `python -m voxtral_ros.doctor.ros_probe`.

It prints a JSON object a line as it goes. A process of its own: a library of ROS that does not fit
this Python may end the process that loads it.
"""

from __future__ import annotations

from importlib import import_module
import json

MODULES = ('rclpy', 'voxtral_ros.msg', 'audio_common_msgs.msg', 'hri_msgs.msg')


def main() -> None:
    """Print for each module what keeps it from being imported, '' if nothing does."""
    for name in MODULES:
        problem, kind = '', ''
        try:
            module = import_module(name)
            if name == 'audio_common_msgs.msg':
                # There are two packages of that name; see voxtral_ros.audio.messages.
                kind = 'mgonzs13' if hasattr(module, 'AudioStamped') else 'ros-drivers'
        except ModuleNotFoundError as error:
            missing = error.name or ''
            problem = 'not found' if name.startswith(missing) else f'needs {missing}'
        except Exception as error:
            problem = (str(error).splitlines() or [type(error).__name__])[0]
        _print(name, problem)
        if kind:
            _print('audio_kind', kind)
    try:
        utilities = import_module('rclpy.utilities')
        _print('rmw', utilities.get_rmw_implementation_identifier())
    except Exception as error:
        _print('rmw_error', (str(error).splitlines() or [type(error).__name__])[0])


def _print(name: str, value: str) -> None:
    print(json.dumps({name: value}), flush=True)


if __name__ == '__main__':
    main()
