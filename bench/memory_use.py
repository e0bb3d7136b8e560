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

"""What a process takes of the memory of the machine and of its GPU, sampled while it works."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
import threading
import time

PERIOD_S = 0.05
_STATUS = {'anon': 'RssAnon', 'file': 'RssFile', 'shared': 'RssShmem'}  # its names


def of_process(pid: int) -> dict[str, int]:
    """
    Return bytes in memory of a process; nothing once it has ended.

    anon: its own, which only swap could take back. file: mapped files, such as libraries, which
    the kernel may drop and read again. shared: with a driver or other processes.
    """
    try:
        text = Path(f'/proc/{pid}/status').read_text(encoding='ascii', errors='replace')
    except OSError:
        return {}
    values = dict(line.split(':', 1) for line in text.splitlines() if ':' in line)
    return {name: int(values[key].split()[0]) * 1024 for name, key in _STATUS.items()
            if key in values}


def of_gpu() -> dict[str, int]:
    """Return the bytes in use on the GPU, by all processes."""
    import torch
    free, total = torch.cuda.mem_get_info()
    return {'device': total - free}


class Samples:
    """Bytes by name, at times since the start; peaks."""

    def __init__(self, read: Callable[[], dict[str, int]], period_s: float = PERIOD_S) -> None:
        """
        Begin in a thread of its own.

        :param read: returns bytes by name; it is called about every `period_s`
        """
        self.rows: list[tuple[float, dict[str, int]]] = []
        self.marks: list[tuple[float, str]] = []  # what began when
        self._read, self._period_s = read, period_s
        self._begin_s = time.monotonic()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def mark(self, name: str) -> None:
        """Note that something begins now."""
        self.marks.append((time.monotonic() - self._begin_s, name))

    def now(self) -> dict[str, int]:
        """Take a sample now and return it."""
        values = self._read()
        if values:
            self.rows.append((time.monotonic() - self._begin_s, values))
        return values

    @contextmanager
    def peak(self) -> Iterator[dict[str, int]]:
        """Give the largest values, and the largest sum of anon and device, of what is inside."""
        first, peak = len(self.rows), {}
        self.now()
        yield peak
        self.now()
        for _, values in self.rows[max(0, first - 1):]:
            taken = {**values, 'anon + device': values.get('anon', 0) + values.get('device', 0)}
            for name, value in taken.items():
                peak[name] = max(peak.get(name, 0), value)

    def close(self) -> None:
        """End the thread."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(self._period_s):
            self.now()
