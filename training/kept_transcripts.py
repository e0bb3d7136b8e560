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
Transcripts of test sets by several recognizers, kept in files until a set or a model changes.

Each recognizer has a folder, with a table for each set: what `voxtral evaluate --texts` writes,
and the confidence of every word where the recognizer gives one.
"""

from __future__ import annotations

from collections.abc import Callable
import hashlib
from pathlib import Path
import sys
import time

import numpy as np
from training.baselines import Word
from training.compare_baselines import Recording, Result

from voxtral_ros.evaluation.manifest import read_table

_COLUMNS = ('file', 'text', 'transcript', 'confidence')
# recordings, name of the set -> transcripts
Transcriber = Callable[[list[Recording], str], Result]


class Kept:
    """The transcripts of one recognizer, kept in a folder for each set."""

    def __init__(self, folder: Path, transcriber: Callable[[], Transcriber] | None = None,
                 identity: str = '') -> None:
        """
        Prepare.

        :param transcriber: makes what transcribes; None: what is not kept is not to be had
        :param identity: of the model, so that transcripts of another one are not taken for its
        """
        self._folder, self._make, self._identity = folder, transcriber, identity
        self._transcriber: Transcriber | None = None

    def words(self, name: str, manifest: Path, recordings: list[Recording],
              ) -> dict[str, list[Word]] | None:
        """Return the words by file, transcribed if need be; None: there are none."""
        digest = _digest(manifest, recordings, self._identity)
        path, mark = self._folder / f'{name}.tsv', self._folder / f'{name}.sha256'
        if path.exists() and (self._make is None or (
                mark.exists() and mark.read_text(encoding='utf-8') == digest)):
            kept = read_words(path)
            if kept.keys() >= {recording.file for recording in recordings}:
                return kept
        if self._make is None:
            return None
        self._transcriber = self._transcriber or self._make()
        begin = time.perf_counter()
        result = self._transcriber(recordings, name)
        print(f'{self._folder.name}, {name}: {time.perf_counter() - begin:.0f} s',
              file=sys.stderr)
        write_words(path, recordings, result)
        mark.write_text(digest, encoding='utf-8')
        return result.words


def _digest(manifest: Path, recordings: list[Recording], identity: str) -> str:
    """Return what changes with the manifest, the audio and the model."""
    total = hashlib.sha256(manifest.read_bytes() + identity.encode())
    for recording in recordings:
        total.update(recording.samples.tobytes())
    return total.hexdigest()


def read_words(path: Path) -> dict[str, list[Word]]:
    """Read a table of kept transcripts: words with their confidence, by file."""
    found = {}
    for row in read_table(path, _COLUMNS):
        texts = row['transcript'].split()
        values = [float(value) for value in row['confidence'].split()] or [np.nan] * len(texts)
        found[row['file']] = [Word(text, np.nan, value)
                              for text, value in zip(texts, values, strict=True)]
    return found


def write_words(path: Path, recordings: list[Recording], result: Result) -> None:
    """Write a table of transcripts, as `voxtral evaluate --texts` does, with confidence."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ['\t'.join(_COLUMNS)]
    for recording in recordings:
        # A recognizer's word may hold spaces; a word of the table does not.
        words = [(text, word.confidence) for word in result.words[recording.file]
                 for text in word.text.split()]
        known = [f'{value:.4f}' for _, value in words if not np.isnan(value)]
        lines.append('\t'.join((recording.file, recording.text,
                                ' '.join(text for text, _ in words), ' '.join(known))))
    path.write_text('\n'.join(lines) + '\n', encoding='utf-8')


def model_identity(folder: Path) -> str:
    """Return what changes with the files of a model."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in ('.safetensors', '.json'):
            total.update(path.read_bytes())
    return total.hexdigest()
