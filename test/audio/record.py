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
Use Microphone in a process of its own, as ALSA and PortAudio read their environment once.

    record.py record DEVICE RATE_HZ SECONDS OUT.npy    print what was recorded, as JSON
    record.py monitor NAME RATE_HZ SECONDS OUT.npy     the same, of the monitor of an output
    record.py wait-for-loss DEVICE RATE_HZ             say 'open', then how the device got lost
    record.py reopen DEVICE RATE_HZ                    the same, then 'open' again, until closed
    record.py find DEVICE                              print the devices, or the error
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np

from voxtral_ros.audio.block import AudioError
from voxtral_ros.audio.microphone import (
    find_device, list_devices, Microphone, opening_microphone)
from voxtral_ros.audio.monitor import opening_monitor


def record(device: str, rate_hz: str, seconds: str, path: str,
           opening: Any = opening_microphone) -> dict[str, object]:
    """Record so many seconds of audio; return its stamps and save the samples."""
    blocks = []
    arrivals_ns = []
    with Microphone(
            device, now_ns=time.time_ns, preferred_rate_hz=int(rate_hz), lost_after_s=10.0,
            frame_id='ear', opening=opening) as mic:
        while sum(block.duration_ns for block in blocks) < float(seconds) * 1e9:
            block = mic.read(0.5)
            if block is not None:
                blocks.append(block)
                arrivals_ns.append(time.time_ns())
        closing_s = time.monotonic()
        mic.close()
        mic.close()
        closing_s = time.monotonic() - closing_s
    np.save(path, np.concatenate([block.samples for block in blocks]))
    return {
        'device': mic.device.name, 'channels': mic.channels, 'rate_hz': mic.rate_hz,
        'arrivals_ns': arrivals_ns, 'stamps_ns': [block.stamp_ns for block in blocks],
        'sizes': [len(block.samples) for block in blocks], 'frame_id': blocks[0].frame_id,
        'overflows': mic.overflows, 'dropped': mic.dropped_blocks, 'closing_s': closing_s}


def monitor(name: str, rate_hz: str, seconds: str, path: str) -> dict[str, object]:
    """Record what is played."""
    return record(name, rate_hz, seconds, path, opening_monitor)


def wait_for_loss(device: str, rate_hz: str) -> dict[str, object]:
    """Read until the device is lost; return the error and how long detection and close took."""
    with Microphone(
            device, now_ns=time.time_ns, preferred_rate_hz=int(rate_hz), lost_after_s=5.0) as mic:
        last_s = time.monotonic()
        try:
            while True:
                if mic.read(0.1) is not None:
                    print('open', flush=True)
                    last_s = time.monotonic()
        except AudioError as error:
            lost_s = time.monotonic()
            mic.close()
            return {'error': str(error), 'detected_s': lost_s - last_s,
                    'closing_s': time.monotonic() - lost_s}


def reopen(device: str, rate_hz: str) -> dict[str, object]:
    """Lose the device, then try until it is there again."""
    refusals = [str(wait_for_loss(device, rate_hz)['error'])]
    print('lost', flush=True)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            with Microphone(device, now_ns=time.time_ns, preferred_rate_hz=int(rate_hz)) as mic:
                block = mic.read(2.0)
                return {'again': block is not None, 'refusals': refusals}
        except AudioError as error:
            refusals.append(str(error))
            print('refused', flush=True)
            time.sleep(0.2)
    return {'again': False, 'refusals': refusals}


def find(device: str = '') -> dict[str, object]:
    """Return the list of devices and the one chosen, or why none was."""
    names = [entry.name for entry in list_devices()]
    try:
        return {'devices': names, 'chosen': find_device(device).name}
    except AudioError as error:
        return {'devices': names, 'error': str(error)}


if __name__ == '__main__':
    verbs = {'record': record, 'monitor': monitor, 'wait-for-loss': wait_for_loss,
             'reopen': reopen, 'find': find}
    print(json.dumps(verbs[sys.argv[1]](*sys.argv[2:])), flush=True)
