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
Transcripts for speech that has none: those that a Whisper model is sure of (pseudo-labels).

    python -m training.pseudo_labels --recordings DIR --whisper DIR --out talks.tsv

Writes a manifest of file and text for training.forced_alignment. A recording is left out whose
transcript is improbable or repeats itself, or has anything but words: how a number was spoken
cannot be told from its digits. Recordings are FLAC, WAV or Opus, 16 kHz, one channel, at most
30 s.
"""

from __future__ import annotations

import argparse
from pathlib import Path
import re
from typing import Any, NamedTuple

from tqdm import tqdm
from training.recordings import read_audio, recording_paths

_MIN_LOG_PROBABILITY = -0.55  # per token, of the least probable segment
_MAX_COMPRESSION = 2.2  # of the text by zlib; above it, Whisper repeats itself


class Segment(NamedTuple):
    """What Whisper says of a stretch of audio."""

    text: str
    avg_logprob: float
    compression_ratio: float


def words(text: str) -> list[str] | None:
    """Return the words of a transcript in lower case, None if anything else is in it."""
    text = text.lower().replace('\u2019', "'")
    text = re.sub(r'[-\u2013\u2014]', ' ', text)
    found = [word.strip("'") for word in re.sub(r'[.,;:!?"()\[\]\u2026]', '', text).split()]
    found = [word for word in found if word]
    return found if all(re.fullmatch("[a-z']+", word) for word in found) else None


def label(segments: list[Segment]) -> str:
    """Return the text of a recording, '' if Whisper is not sure of it."""
    if any(segment.avg_logprob < _MIN_LOG_PROBABILITY
           or segment.compression_ratio > _MAX_COMPRESSION for segment in segments):
        return ''
    return ' '.join(words(' '.join(segment.text for segment in segments)) or ())


def main() -> None:
    """Transcribe all recordings of a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--recordings', type=Path, required=True)
    parser.add_argument('--whisper', required=True, help='folder with a CTranslate2 Whisper model')
    parser.add_argument('--out', type=Path, required=True, help='manifest to write')
    arguments = parser.parse_args()
    from faster_whisper import WhisperModel
    model: Any = WhisperModel(arguments.whisper, device='cpu', compute_type='int8')
    rows = []
    for path in tqdm(recording_paths(arguments.recordings)):
        segments, _ = model.transcribe(
            read_audio(path), language='en', beam_size=1, temperature=0.0,
            without_timestamps=True, condition_on_previous_text=False)
        text = label([Segment(part.text, part.avg_logprob, part.compression_ratio)
                      for part in segments])
        if text:
            rows.append(f'{path.resolve()}\t{text}')
    arguments.out.write_text('\n'.join(['file\ttext', *rows]) + '\n', encoding='utf-8')
    print(f'{len(rows)} transcripts')


if __name__ == '__main__':
    main()
