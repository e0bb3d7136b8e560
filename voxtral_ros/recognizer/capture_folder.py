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
A folder of utterances: their audio, what was recognised, and a table for people to correct.

* `TIME.flac` is an utterance, `TIME.before.flac` the same audio before the echo canceller. TIME is
  when it was kept, UTC, so that names sort by time; it is never used twice.
* `transcripts.jsonl` has a line of JSON for each, with all that is known about it.
* `transcripts.tsv` has its text beside an empty column `checked`: who has corrected the text puts
  an x there, and `voxtral evaluate` counts it.

A file has its name when all of it is on the disk, and is listed after that. Several processes may
use one folder: whoever writes has the lock. When the folder is too large, or what is in it too
old, the oldest goes, with its lines. Whatever else is in the folder is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
import fcntl
import json
import os
from pathlib import Path
import re
from typing import Any

JSON_LINES = 'transcripts.jsonl'
TABLE = 'transcripts.tsv'
TABLE_HEAD = 'checked\tfile\ttext\n'

_LOCK = '.lock'
_PART = '.part'  # of a name: the file is being written
_NAME = re.compile(r'\d{8}T\d{6}\.\d{6}Z(\.\w+)?\.flac')
_TIME = '%Y%m%dT%H%M%S.%fZ'
_LOOK_EVERY = timedelta(minutes=1)  # a folder of a month takes a tenth of a second to look at
_LEFT = 0.9  # of the largest size, when that was exceeded: tables are not written anew every time


@dataclass(frozen=True)
class FolderLimits:
    """What a folder may hold."""

    max_bytes: float = 1e9  # of all files of the capture
    max_age_s: float = 0.0  # 0: any


class CaptureFolder:
    """Writes utterances into a folder, and removes old ones; for one thread."""

    def __init__(self, path: Path, limits: FolderLimits = FolderLimits(),
                 now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)) -> None:
        """Prepare; nothing is written yet."""
        self.path = path
        self.n_bytes = 0  # of the files of the capture, when it was looked at, and since by us
        self._looked: datetime | None = None  # when that was
        self._limits, self._now = limits, now

    def add(self, fields: Mapping[str, Any], audio: Mapping[str, bytes]) -> None:
        """
        Keep an utterance.

        :param fields: for its line of JSON; `text` is for the table, too
        :param audio: FLAC files by what they are: '' as it was recognised, `before`, ...
        :raises OSError: it cannot be written; nothing of it is listed
        """
        with self._locked():
            stem = self._free_stem()
            names = {what or 'file': '.'.join(filter(None, (stem, what, 'flac')))
                     for what in audio}
            try:
                for name, content in zip(names.values(), audio.values(), strict=True):
                    self._write(name, content)
                line = json.dumps({**names, **fields}, ensure_ascii=False)
                lines = {JSON_LINES: f'{line}\n'.encode(),
                         TABLE: _row(names['file'], fields['text']).encode()}
                self._append(lines)
            except OSError:
                self._remove(names.values())
                raise
            self.n_bytes += sum(map(len, [*audio.values(), *lines.values()]))
            # Either way: a clock that is set must not put it off.
            if self.n_bytes > self._limits.max_bytes or self._looked is None \
                    or abs(self._now() - self._looked) > _LOOK_EVERY:
                self._prune()

    def prune(self) -> None:
        """
        Remove what is too old, or too much; make the folder if it is not there.

        :raises OSError: nothing can be written or removed there
        """
        with self._locked():
            self._prune()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes out, and make the folder if only it is missing."""
        # Not its parents: where a disk is not mounted, nothing belongs on the one below.
        self.path.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(self.path / _LOCK, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _free_stem(self) -> str:
        """Return a time that no file has; clocks are set back, too."""
        now = self._now()
        while (self.path / f'{now.strftime(_TIME)}.flac').exists():
            now += timedelta(microseconds=1)
        return now.strftime(_TIME)

    def _write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all, also when the power fails."""
        part = self.path / f'{name}{_PART}'
        try:
            with part.open('wb') as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path / name)
        except OSError:
            with suppress(OSError):
                part.unlink()
            raise

    def _append(self, lines: Mapping[str, bytes]) -> None:
        """Append a line to each table, or to none."""
        sizes: dict[Path, int] = {}
        try:
            for name, line in lines.items():
                path = self.path / name
                with path.open('ab') as file:
                    sizes[path] = file.seek(0, os.SEEK_END)
                    if name == TABLE and not sizes[path]:
                        line = TABLE_HEAD.encode() + line
                    elif sizes[path] and not _ends_line(path):
                        line = b'\n' + line  # an editor, or a power failure, has left it so
                    file.write(line)
        except OSError:
            for path, size in sizes.items():
                with suppress(OSError):
                    os.truncate(path, size)
            raise

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            with suppress(FileNotFoundError):
                (self.path / name).unlink()

    # ---- limits ----

    def _prune(self) -> None:
        sizes = self._sizes()
        recordings = sorted(name for name in sizes if _NAME.fullmatch(name))
        oldest = self._oldest()
        total = sum(sizes.values())
        aim = self._limits.max_bytes * (_LEFT if total > self._limits.max_bytes else 1)
        gone = []
        for name in recordings:
            if name >= oldest and total <= aim:
                break
            gone.append(name)
            total -= sizes[name]
        if gone:
            self._remove(gone)
            for table in (JSON_LINES, TABLE):
                self._drop_lines(table)
            total = sum(self._sizes().values())
        self.n_bytes, self._looked = total, self._now()

    def _sizes(self) -> dict[str, int]:
        """Return the sizes of our files by name; parts that a process has left are removed."""
        sizes = {}
        with os.scandir(self.path) as entries:
            for entry in entries:
                if entry.name in (JSON_LINES, TABLE) or _NAME.fullmatch(entry.name):
                    with suppress(FileNotFoundError):  # people remove files, too
                        sizes[entry.name] = entry.stat().st_size
                elif _NAME.fullmatch(entry.name.removesuffix(_PART)):
                    self._remove([entry.name])
        return sizes

    def _oldest(self) -> str:
        """Return the name that nothing may sort before."""
        age_s = self._limits.max_age_s
        return (self._now() - timedelta(seconds=age_s)).strftime(_TIME) if age_s else ''

    def _drop_lines(self, table: str) -> None:
        """Leave out lines whose file is gone; all others stay as they are, byte by byte."""
        path = self.path / table
        part = path.with_name(f'{table}{_PART}')
        try:
            # What people have written is not always UTF-8.
            with path.open(encoding='utf-8', errors='surrogateescape', newline='') as lines, \
                    part.open('w', encoding='utf-8', errors='surrogateescape', newline='') as file:
                file.writelines(line for line in lines if not self._is_gone(line))
            part.replace(path)
        except FileNotFoundError:
            pass  # there is no table
        except OSError:
            with suppress(OSError):
                part.unlink()
            raise

    def _is_gone(self, line: str) -> bool:
        match = _NAME.search(line)  # the first name in a line is that of its file
        return match is not None and not (self.path / match.group()).exists()


def _row(name: str, text: str) -> str:
    """Return a line of the table, which a spreadsheet reads as what it is."""
    # A quotation mark would make it take what follows for one cell. Nobody counts them.
    return f'\t{name}\t{" ".join(text.split())}\n'.replace('"', '\u201d')


def _ends_line(path: Path) -> bool:
    with path.open('rb') as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b'\n'
