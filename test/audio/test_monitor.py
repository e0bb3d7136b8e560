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

"""The monitor of an output: which device it is, and that it has what is played."""

from __future__ import annotations

import json
import os
from pathlib import Path
import subprocess
import sys
import tempfile
import time

from audio.virtual_microphone import missing, VirtualMicrophone
import numpy as np
import pytest
import soundfile
from support.processes import ends_with_us

from voxtral_ros.audio import monitor
from voxtral_ros.audio.block import AudioError
from voxtral_ros.audio.microphone import DeviceInfo
from voxtral_ros.audio.monitor import find_monitor, opening_monitor

ROOT = Path(monitor.__file__).parents[2]
RECORD = Path(__file__).with_name('record.py')


def devices(monkeypatch, *names):
    monkeypatch.setattr(monitor, 'list_devices', lambda: [
        DeviceInfo(index, name, 2, 48_000) for index, name in enumerate(names)])


@pytest.mark.parametrize(('names', 'wanted', 'found', 'source'), [
    (['USB Mic', 'hdmi.monitor'], '', 'hdmi.monitor', ''),
    (['Monitor of Built-in Audio', 'Monitor of USB Speaker'], 'usb', 'Monitor of USB Speaker', ''),
    (['USB Mic', 'pulse', 'default'], '', 'pulse', '@DEFAULT_MONITOR@'),
    (['USB Mic', 'pulse'], 'alsa_output.usb.monitor', 'pulse', 'alsa_output.usb.monitor')])
def test_the_device_is_chosen_by_what_portaudio_lists(monkeypatch, names, wanted, found, source):
    devices(monkeypatch, *names)
    device, told = find_monitor(wanted)
    assert (device.name, told) == (found, source)


@pytest.mark.parametrize(('names', 'words'), [
    (['USB Mic'], 'there is no monitor'), (['a.monitor', 'b.monitor'], 'fits 2 monitors')])
def test_a_microphone_is_never_taken_for_a_monitor(monkeypatch, names, words):
    devices(monkeypatch, *names)
    with pytest.raises(AudioError, match=words) as error:
        find_monitor()
    assert all(name in str(error.value) for name in names)


def test_the_environment_is_as_before(monkeypatch):
    devices(monkeypatch, 'pulse')
    for before in (None, 'mine'):
        if before:
            monkeypatch.setenv('PULSE_SOURCE', before)
        with opening_monitor():
            assert os.environ['PULSE_SOURCE'] == '@DEFAULT_MONITOR@'
        assert os.environ.get('PULSE_SOURCE') == before


@pytest.mark.skipif(missing() is not None, reason=missing() or '')
def test_what_is_played_is_recorded(tmp_path):
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(12 * 48_000) / 48_000)
    soundfile.write(tmp_path / 'tone.wav', np.stack([tone, tone], axis=1), 48_000)
    with tempfile.TemporaryDirectory(prefix='ear') as folder, \
            VirtualMicrophone(Path(folder)) as ear:
        path = os.pathsep.join([str(ROOT), ear.environment.get('PYTHONPATH', '')])
        player = ear.play(tmp_path / 'tone.wav')
        try:
            time.sleep(0.5)
            process = subprocess.run(
                [*ends_with_us(), sys.executable, str(RECORD), 'monitor', '', '16000', '3',
                 str(tmp_path / 'a.npy')], env={**ear.environment, 'PYTHONPATH': path},
                capture_output=True, text=True, timeout=60, check=False)
        finally:
            player.kill()
            player.wait()
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout.splitlines()[-1])['device'] == 'pulse'
    samples = np.load(tmp_path / 'a.npy')[-16_000:]
    assert np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples))))) == pytest.approx(
        1000, abs=2)
