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
Word ends of recordings with known texts, from the word times of Whisper tiny.en.

    python -m training.align --manifest real_train/manifest.tsv --whisper DIR --out build/training

Whisper's words are matched with the known ones; where it heard something else, times are
interpolated by the number of letters. Writes the shard `real0` and `real.txt`.
"""

from __future__ import annotations

import argparse
from difflib import SequenceMatcher
from pathlib import Path
import re
from typing import Any

import numpy as np
import soundfile
from tqdm import tqdm

from training.synthesis.shards import ShardWriter


_LATE_S = 0.05  # Whisper's word ends lie this much behind those of the synthesisers


def match(words: list[str], heard: list[tuple[str, float, float]], duration_s: float,
          ) -> list[float] | None:
    """
    Return where the known words end, in seconds; None when too few of them were heard.

    :param heard: recognised words with start and end
    """
    plain = [re.sub(r"[^a-z']", '', text.lower()) for text, _, _ in heard]
    ends = np.full(len(words), np.nan)
    for tag, a, b, c, d in SequenceMatcher(None, words, plain, autojunk=False).get_opcodes():
        if tag == 'equal' or (tag == 'replace' and b - a == d - c):
            ends[a:b] = [heard[n][2] for n in range(c, d)]
    known = ~np.isnan(ends)
    if known.mean() < 0.7:
        return None
    letters = np.cumsum([len(word) + 1 for word in words])
    first, last = heard[0][1], min(heard[-1][2], duration_s)
    places = np.concatenate(([0], letters[known], [letters[-1]]))
    times = np.concatenate(([first], ends[known], [last]))
    ends = np.maximum.accumulate(np.interp(letters, places, times))
    return [float(end) for end in ends]


def main() -> None:
    """Align all recordings of a manifest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--manifest', type=Path, required=True)
    parser.add_argument('--whisper', required=True, help='folder with a CTranslate2 Whisper model')
    parser.add_argument('--out', type=Path, required=True)
    arguments = parser.parse_args()
    from faster_whisper import WhisperModel
    whisper: Any = WhisperModel(arguments.whisper, compute_type='int8')
    rows = [line.split('\t') for line in
            arguments.manifest.read_text(encoding='utf-8').splitlines()]
    column = {name: n for n, name in enumerate(rows[0])}
    writer = ShardWriter(arguments.out / 'shards' / 'real0')
    texts: list[str] = []
    for row in tqdm(rows[1:]):
        text = row[column['text']]
        samples, rate = soundfile.read(arguments.manifest.parent / row[column['file']],
                                       dtype='float32')
        assert rate == 16000 and samples.ndim == 1
        segments, _ = whisper.transcribe(samples, language='en', word_timestamps=True)
        heard = [(word.word, word.start, word.end - _LATE_S)
                 for segment in segments for word in segment.words]
        ends = match(text.split(), heard, len(samples) / rate) if heard else None
        if ends is None:
            print(f'left out: {row[column["file"]]}')
            continue
        loudness = 0.7 / (np.abs(samples).max() + 1e-4)
        writer.add(len(texts), (samples * loudness * 32767).astype(np.int16), ends)
        texts.append(text)
    writer.flush()
    (arguments.out / 'real.txt').write_text('\n'.join(texts) + '\n', encoding='utf-8')
    print(f'{len(texts)} of {len(rows) - 1} recordings, {writer.seconds / 60:.1f} minutes')


if __name__ == '__main__':
    main()
