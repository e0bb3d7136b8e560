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
The folder that a new model is written to.

Its weights have a temporary name until everything is there: a folder that has weights is complete,
whenever the program or the machine was stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
import json
import os
from pathlib import Path
import shutil
from typing import Any

from voxtral_ros.quantization.weights import WEIGHTS

_PARTIAL = WEIGHTS + '.partial'
_SPARE = 64 << 20  # bytes that must stay free on the disk


class OutputError(ValueError):
    """A folder that a model cannot be written to; the message says what to do."""


def check_output(folder: Path) -> None:
    """Raise OutputError if a folder has weights already; those of the source are some as well."""
    if found := min(folder.glob('*.safetensors'), default=None):
        raise OutputError(f'{found} exists and is not overwritten: give another folder')


@contextmanager
def new_weights(folder: Path, nbytes: int) -> Iterator[Path]:
    """
    Make the folder, and give the path to write weights of so many bytes to.

    On leaving they get their name; after an error nothing is left of them.

    :raises OutputError: there is too little space for them
    :raises OSError: the folder cannot be made
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / _PARTIAL
    # That of a run that was killed will be used again.
    left = partial.stat().st_size if partial.exists() else 0
    free = shutil.disk_usage(folder).free + left
    if free < nbytes + _SPARE:
        raise OutputError(f'the result needs {nbytes / 1e9:.2f} GB, but on the disk of {folder} '
                          f'are {free / 1e9:.2f} GB free')
    try:
        yield partial
        os.replace(partial, folder / WEIGHTS)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_small_files(folder: Path, params: Mapping[str, Any], tekken: bytes) -> None:
    """Write `params.json` and `tekken.json`; to be called when the weights are written."""
    text = json.dumps(params, indent=2, ensure_ascii=False)
    for name, content in (('params.json', text.encode()), ('tekken.json', tekken)):
        temporary = folder / (name + '.partial')
        temporary.write_bytes(content)
        os.replace(temporary, folder / name)
