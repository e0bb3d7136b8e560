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
A microphone without hardware: a private PulseAudio whose null sink is the room.

What is played into the sink is recorded by the capture device `Robot Ear`. Nothing of the
machine's own audio system is touched: socket, ALSA configuration and home are in one folder,
and only processes started with `environment` see them. Debian and Ubuntu:
`apt install pulseaudio pulseaudio-utils libasound2-plugins libportaudio2`.
"""

from __future__ import annotations

import os
from pathlib import Path
import shutil
import subprocess
import time

from support.processes import ends_with_us

DEVICE_NAME = 'robot_ear'

_ASOUND = """
pcm.!default { type pulse }
ctl.!default { type pulse }
pcm.pulse { type pulse hint { show on description "PulseAudio" } }
pcm.robot_ear { type pulse device ear hint { show on description "Robot Ear" } }
"""


def missing() -> str | None:
    """Return why there can be no virtual microphone here, None when there can."""
    there = all(map(shutil.which, ('pulseaudio', 'paplay', 'pactl'))) and any(
        Path('/usr/lib').glob('*/alsa-lib/libasound_module_pcm_pulse.so'))
    return None if there else (
        'no virtual microphone: sudo apt-get install pulseaudio pulseaudio-utils '
        'libasound2-plugins')


class VirtualMicrophone:
    """A PulseAudio daemon of our own; a context manager."""

    def __init__(self, folder: Path) -> None:
        """Prepare to run in an empty `folder`; its path must be short (Unix socket)."""
        self._folder = folder
        (folder / 'asound.conf').write_text(_ASOUND)
        (folder / 'run').mkdir(mode=0o700)
        self.environment = {
            **os.environ,
            'HOME': str(folder),
            'XDG_RUNTIME_DIR': str(folder / 'run'),
            'XDG_CONFIG_HOME': str(folder),
            'PULSE_SERVER': f'unix:{folder}/socket',
            'ALSA_CONFIG_PATH': str(folder / 'asound.conf'),
        }
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the daemon; raise RuntimeError with its log when it does not come up."""
        self._daemon = subprocess.Popen(
            [*ends_with_us(), 'pulseaudio', '-n', '--daemonize=no', '--exit-idle-time=-1',
             '--use-pid-file=no', '--disable-shm=yes', '--log-level=error',
             '-L', f'module-native-protocol-unix socket={self._folder}/socket auth-anonymous=1',
             '-L', 'module-null-sink sink_name=room rate=48000 channels=2',
             '-L', 'module-remap-source source_name=ear master=room.monitor'],
            env=self.environment, stdout=subprocess.DEVNULL,
            stderr=(self._folder / 'pulseaudio.log').open('wb'))
        deadline = time.monotonic() + 10
        while self._pactl('list', 'short', 'sources').count('\n') < 2:
            if time.monotonic() > deadline or self._daemon.poll() is not None:
                self.stop()
                raise RuntimeError((self._folder / 'pulseaudio.log').read_text())
            time.sleep(0.05)

    def play(self, path: Path) -> subprocess.Popen[bytes]:
        """Start to say an audio file into the microphone; return the player."""
        return subprocess.Popen(
            ['paplay', '--device=room', '--latency-msec=50', str(path)], env=self.environment)

    def stop(self) -> None:
        """Unplug the microphone: end the daemon at once."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait()
            self._daemon = None

    def _pactl(self, *arguments: str) -> str:
        return subprocess.run(
            ['pactl', *arguments], env=self.environment, capture_output=True, text=True,
            check=False).stdout

    def __enter__(self) -> VirtualMicrophone:
        """Start the daemon."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the daemon."""
        self.stop()
