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

"""The machine that is looked at: its files and commands, of which none can hold us up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
import json
import os
from pathlib import Path
import platform
import signal
import subprocess
import sys
import tempfile
from typing import Any

import voxtral_ros

_PATIENCE_S = 10.0
_LAST_WORDS_S = 1.0  # for a process that was asked to end
_MOST_CHARACTERS = 1 << 20


@dataclass(frozen=True)
class Output:
    """What a command has printed."""

    code: int | None  # its exit code; None: it took too long and was ended
    out: str
    err: str = ''

    @property
    def last_error(self) -> str:
        """Return the last line on standard error, in which programs say what is wrong."""
        lines = [line.strip() for line in self.err.splitlines() if line.strip()]
        return lines[-1] if lines else f'exit code {self.code}'


Execute = Callable[[Sequence[str], float], Output | None]


def execute(command: Sequence[str], timeout_s: float) -> Output | None:
    """
    Run a command without input; return None if there is none of that name.

    One that hangs in a driver cannot be ended: it is left behind, not waited for. What it says
    goes into files, as a pipe could be held open by what it has started.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                       start_new_session=True, env=_environment())
        except OSError:
            return None
        code: int | None = None
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            _end(process)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read(_MOST_CHARACTERS).decode(errors='replace'))
    return Output(code, *texts)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it has started, if it still runs."""
    if process.poll() is None:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LAST_WORDS_S)


def _environment() -> dict[str, str]:
    """Return an environment in which a child finds this package wherever we have it from."""
    folders = [os.environ.get('PYTHONPATH', ''), str(Path(voxtral_ros.__file__).parents[1])]
    # Answers in English and without colours.
    return {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, folders)), 'LC_ALL': 'C'}


@dataclass(frozen=True)
class Machine:
    """Files below a root, and commands; tests give other ones."""

    root: Path = Path('/')
    execute: Execute = execute
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    kind: str = field(default_factory=platform.machine)  # x86_64, aarch64

    def read(self, path: str) -> str:
        """Return the content of a small file without spaces around it; '' if there is none."""
        try:
            with (self.root / path.lstrip('/')).open('rb') as file:
                return file.read(_MOST_CHARACTERS).decode(errors='replace').strip('\0 \n\t')
        except OSError:
            return ''

    def number(self, path: str) -> int | None:
        """Return the number in a file, None if there is none."""
        text = self.read(path)
        return int(text) if text.isdecimal() else None

    def glob(self, pattern: str) -> list[Path]:
        """Return what fits a pattern, sorted."""
        try:
            return sorted(self.root.glob(pattern.lstrip('/')))
        except OSError:
            return []

    def is_forbidden(self, path: str) -> bool:
        """Return whether only others, as root, may read a file, or see whether it is there."""
        try:
            with (self.root / path.lstrip('/')).open('rb'):
                return False
        except PermissionError:
            return True
        except OSError:
            return False

    def run(self, *command: str, timeout_s: float = _PATIENCE_S) -> Output | None:
        """Run a command; return None if there is none of that name."""
        return self.execute(command, timeout_s)

    def probe(self, module: str, *arguments: str, timeout_s: float) -> Probe:
        """
        Run a module of ours that prints a JSON object a line.

        A process of its own, as what it tries may hang, crash, or take memory for good.
        """
        output = self.run(sys.executable, '-m', f'voxtral_ros.{module}', *arguments,
                          timeout_s=timeout_s)
        if output is None:
            return Probe({}, f'{sys.executable} cannot be started')
        found: dict[str, Any] = {}
        for part in _objects(output.out):
            found.update(part)
        if output.code is None:
            return Probe(found, f'no answer within {timeout_s:g} s')
        if output.code < 0:
            return Probe(found, f'the process was ended by {_signal(-output.code)}')
        return Probe(found, output.last_error if output.code else '')

    @property
    def is_jetson(self) -> bool:
        """Return whether this is one of NVIDIA's boards, in a container on it as well."""
        return bool(self.read('/etc/nv_tegra_release')) \
            or 'nvidia,tegra' in self.read('/proc/device-tree/compatible')

    @property
    def memory(self) -> dict[str, int]:
        """Return what /proc/meminfo says, in bytes."""
        fields = {}
        for line in self.read('/proc/meminfo').splitlines():
            name, _, rest = line.partition(':')
            size = rest.split()
            if size and size[0].isdecimal():
                fields[name] = int(size[0]) * 1024
        return fields


@dataclass(frozen=True)
class Probe:
    """What a child process has found out, all of it or what came before it ended."""

    found: dict[str, Any]
    error: str  # '' where it came to its end


def _objects(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        # Libraries print whatever they like.
        with suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict):
                yield value


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f'signal {number}'
