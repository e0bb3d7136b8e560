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
Tables of recordings: tab-separated text with the names of the columns in the first line.

`file` is the path of a recording, relative to the folder of the table, and `text` is what is said
in it. Other columns, such as speaker or microphone, are for grouping the recordings. In a table
with a column `checked`, as the node writes it (capture.folder), only the texts of lines that have
something there are what was said. Texts are UTF-8; names of files are any bytes, as on the disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from voxtral_ros.audio.block import Samples
from voxtral_ros.audio.files import read_file
from voxtral_ros.audio.resample import resampled

T = TypeVar('T')
_NO = {'', '0', 'no', 'false'}  # a spreadsheet writes FALSE for a box that is not ticked


class ManifestError(ValueError):
    """A table that cannot be used; the message names the line and says what is wrong."""


class Recording(NamedTuple):
    """A line of a manifest."""

    path: Path
    text: str
    columns: dict[str, str]  # of the whole line, by name

    @property
    def checked(self) -> bool:
        """Return whether somebody has corrected the text, where that is noted."""
        return self.columns.get('checked', '').strip().lower() not in _NO

    def samples(self) -> Samples:
        """
        Read the recording: float32 [n], 16 kHz.

        :raises AudioError: it cannot be read
        """
        return np.concatenate(list(resampled(read_file(self.path))))


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """
    Read a table; empty lines are left out.

    :param columns: what every line must have
    :return: the columns of each line, by name; others than `columns` may be missing at its end
    :raises ManifestError: it lacks a column, or a line is too short for them
    :raises OSError: it cannot be read
    """
    content = path.read_text(encoding='utf-8-sig', errors='surrogateescape')
    header, *lines = (line.split('\t') for line in content.split('\n'))
    if not {*columns} <= {*header}:
        raise ManifestError(f'{path} needs a first line with the columns {", ".join(columns)}')
    n_needed = 1 + max(header.index(name) for name in columns)
    rows = []
    for number, line in enumerate(lines, 2):
        if line == ['']:
            continue
        if len(line) < n_needed:
            raise ManifestError(f'{path}, line {number}: {len(line)} columns, the first line has '
                                f'{len(header)}; they are separated by tabs')
        row = dict(zip(header, line, strict=False))
        for name, value in row.items():
            if name != 'file' and not _is_utf8(value):
                raise ManifestError(f'{path} is not text in UTF-8 (line {number}, column {name}): '
                                    'save it as UTF-8, with tabs between the columns')
        rows.append(row)
    return rows


def _is_utf8(text: str) -> bool:
    """Return whether a text that was read with surrogateescape was UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_manifest(path: Path, columns: Sequence[str] = ('file', 'text')) -> list[Recording]:
    """
    Read a table of recordings; none of them is opened yet.

    :param columns: what every line must have, `file` among them; without `text` in the table
        texts are empty
    :raises ManifestError, OSError: as of read_table
    """
    return [Recording(path.parent / row['file'], row.get('text', ''), row)
            for row in read_table(path, columns)]


def checked(recordings: list[Recording]) -> list[Recording]:
    """
    Return the recordings whose texts count: all, if nowhere is noted who has corrected them.

    :raises ManifestError: nobody has corrected any
    """
    if not any('checked' in recording.columns for recording in recordings):
        return recordings
    kept = [recording for recording in recordings if recording.checked]
    if not kept:
        raise ManifestError(f'none of {len(recordings)} texts is checked: correct a text and put '
                            'an x in the column checked of its line')
    return kept


def sample(items: Sequence[T], count: int | None) -> Sequence[T]:
    """Return at most `count` items (None: all of them) from all over a sequence, in its order."""
    if count is None:
        return items
    step = max(1, len(items) // count)
    return items[::step][:count]
