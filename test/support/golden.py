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
Real audio with the ids that the real model gave for it, and the vocabulary to read them.

Nothing is copied into the repository; tests skip where the data is not there.
"""

import base64
from importlib.util import find_spec
import json
import os
from pathlib import Path
from typing import NamedTuple

FIXTURES_VARIABLE = 'VOXTRAL_FIXTURES'
MISSING_CLIPS = f'no golden clips: set {FIXTURES_VARIABLE} to a folder with *.json and *.wav'
MISSING_VOCABULARY = 'no vocabulary: install mistral-common'


class GoldenClip(NamedTuple):
    """N - L + 1 generated ids at a delay of 6 tokens, the text they spell and the 16 kHz clip."""

    ids: list[int]
    text: str
    wav: Path


def fixtures_folder() -> Path:
    """Return the folder of VOXTRAL_FIXTURES, else <repo>/../shared/fixtures/golden."""
    beside_repository = Path(__file__).resolve().parents[3] / 'shared' / 'fixtures' / 'golden'
    return Path(os.environ.get(FIXTURES_VARIABLE) or beside_repository)


def golden_clips() -> list[GoldenClip]:
    """Return the golden clips, sorted by name; an empty list where there are none."""
    clips = []
    for path in sorted(fixtures_folder().glob('*.json')):
        record = json.loads(path.read_text())
        clips.append(GoldenClip(record['tokens'], record['text'], path.with_suffix('.wav')))
    return clips


def mistral_vocabulary() -> Path | None:
    """
    Return the tekken json in the mistral-common wheel, or None where that is not installed.

    Its first 130,072 entries are the text tokens of the real model: id = 1000 + rank. It has
    neither special tokens nor the audio section; `tekken_dict(vocabulary_bytes(path),
    n_text=130072)` adds both.
    """
    spec = find_spec('mistral_common')
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / 'data' / 'tekken_240718.json'
    return path if path.exists() else None


def vocabulary_bytes(path: Path) -> list[bytes]:
    """Return the byte string of every rank of a tekken json."""
    entries = json.loads(path.read_text(encoding='utf-8'))['vocab']
    return [base64.b64decode(entry['token_bytes']) for entry in entries]


def decode(ids: list[int], vocabulary: list[bytes], n_special: int = 1000) -> str:
    """Return the text of ids, special tokens dropped, without the space before the first word."""
    pieces = [vocabulary[token - n_special] for token in ids if token >= n_special]
    return b''.join(pieces).decode('utf-8', 'replace').removeprefix(' ')
