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
The monitor of an output device: what a program plays, recorded where it is played.

PulseAudio, and PipeWire in its place, has a source for each output, called `NAME.monitor`. Some
builds of PortAudio list them among the microphones. The others reach PulseAudio through ALSA's
device `pulse`, which records from the source that PULSE_SOURCE names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import os

from voxtral_ros.audio.block import AudioError
from voxtral_ros.audio.microphone import DeviceInfo, list_devices

_DEFAULT = '@DEFAULT_MONITOR@'  # as PulseAudio calls it
_VARIABLE = 'PULSE_SOURCE'


def find_monitor(name: str = '') -> tuple[DeviceInfo, str]:
    """
    Choose the device to record a monitor from, and the source that it has to be told, or ''.

    :param name: of the monitor, or part of it; '': that of the default output
    :raises AudioError: there is none such, or several; the message lists what there is
    """
    wanted = name.strip().casefold()
    devices = list_devices()
    monitors = [device for device in devices if _is_monitor(device.name)]
    found = [device for device in monitors if wanted in device.name.casefold()]
    if len(found) == 1:
        return found[0], ''
    pulse = next((device for device in devices if device.name.casefold() == 'pulse'), None)
    if pulse is not None:
        return pulse, name.strip() or _DEFAULT
    listing = '\n'.join(f'  {device}' for device in monitors or devices) or '  (none)'
    if not monitors:
        problem = ('there is no monitor of an output device: that takes PulseAudio or PipeWire '
                   'and the device pulse of ALSA (apt install libasound2-plugins); there are')
    else:
        problem = (f'{name!r} fits {len(found)} monitors of output devices; set echo.monitor to '
                   'one of')
    raise AudioError(f'{problem}:\n{listing}')


def _is_monitor(name: str) -> bool:
    name = name.casefold()
    return name.endswith('.monitor') or name.startswith('monitor of ')


@contextmanager
def opening_monitor(name: str = '') -> Iterator[DeviceInfo]:
    """Give the device of a monitor, which is recorded by streams that are opened meanwhile."""
    device, source = find_monitor(name)
    before = os.environ.get(_VARIABLE)
    if source:
        os.environ[_VARIABLE] = source
    try:
        yield device
    finally:
        if source:
            del os.environ[_VARIABLE]
        if before is not None:
            os.environ[_VARIABLE] = before
