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
Word ends of recordings with known texts, found by the attention of Whisper tiny.en.

    python -m training.forced_alignment --manifest T.tsv --whisper DIR --out build/training \
        --name clean-100

Whisper is given the sound and the text; which frames its decoder looks at when it comes to a word
tells when that word begins, and so when the one before ends. Writes the shard `<name>0` and
`<name>.txt`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm
from training.recordings import read, read_table
from training.synthesis.shards import ShardWriter
from training.utterances import FRAME, levels, RATE_HZ

_LATE_S = 0.06  # Whisper's word ends lie this much behind those of the synthesisers
_FRAME_S = 0.02  # of Whisper's attention
_AFTER = 200  # frames of 10 ms that follow a recording
_MAX_S = 30  # what Whisper hears at once
_SHORT_S = 0.03  # no word is as short as this
_SHORT_SHARE = 0.34  # of the words of a recording: more such words, and the text is another
_FASTEST = 6.5  # words in a second
_FEW = 3  # words of a recording, of which Whisper ends the last one too early
_QUIET = 0.1  # of the loudest 10 ms, or _OVER_NOISE times the quietest: there is nobody any more
_OVER_NOISE = 3
_DIES_AWAY_S = 0.05


class Aligner:
    """Whisper with a text to follow."""

    def __init__(self, folder: str) -> None:
        """Load a Whisper model in CTranslate2 format."""
        from faster_whisper import WhisperModel
        from faster_whisper.tokenizer import Tokenizer
        self._whisper: Any = WhisperModel(folder, compute_type='int8')
        self._tokenizer: Any = Tokenizer(self._whisper.hf_tokenizer, False)

    def __call__(self, samples: np.ndarray, words: list[str]) -> list[float]:
        """
        Return where each word ends, in seconds.

        :param samples: float32 [n] at 16 kHz, at most 30 s
        :param words: what is said, without punctuation
        """
        from faster_whisper.audio import pad_or_trim
        tokens = [self._tokenizer.encode(f' {word}') for word in words]
        features = self._whisper.feature_extractor(samples)
        # Half a minute, as Whisper was trained, would take a dozen times longer for a phrase.
        heard = pad_or_trim(features, min(features.shape[-1] + _AFTER, 3000))
        result, = self._whisper.model.align(
            self._whisper.encode(heard), self._tokenizer.sot_sequence,
            [[token for part in tokens for token in part]], min(features.shape[-1], 3000))
        return word_ends(result.alignments, [len(part) for part in tokens],
                         len(samples) / RATE_HZ)


def word_ends(path: list[tuple[int, int]], n_tokens: list[int], duration_s: float) -> list[float]:
    """
    Return where words end, in seconds.

    :param path: pairs of token and frame along which the attention moves, from the first token to
        the one that ends the text
    :param n_tokens: of each word
    """
    first_frame = dict(reversed(path))
    behind = np.cumsum(n_tokens)  # the token after each word
    ends = np.array([first_frame[int(token)] for token in behind]) * _FRAME_S - _LATE_S
    return [float(end) for end in np.clip(ends, 0, duration_s)]


def end_of_sound(samples: np.ndarray, said_s: float) -> float:
    """
    Return where the last word of a few ends, in seconds.

    Whisper's attention leaves it 0.15 s early, which would cut it off where recordings are joined:
    it ends with the sound, or 0.15 s later if the sound goes on.

    :param samples: float32 [n] at 16 kHz
    :param said_s: what the attention says
    """
    level = np.convolve(levels(samples), np.ones(3) / 3, 'same')
    loud = np.flatnonzero(level > max(_QUIET * level.max(initial=0),
                                      _OVER_NOISE * float(np.percentile(level, 10))))
    silent_s = float(loud[-1] + 1) * FRAME / RATE_HZ if len(loud) else 0.0
    near = said_s - 0.1 < silent_s < said_s + 0.45
    end_s = silent_s + _DIES_AWAY_S if near else said_s + 0.15
    return min(max(end_s, said_s), len(samples) / RATE_HZ)


def plausible(ends: list[float]) -> bool:
    """Return whether words can be said so fast: they cannot if something else is said."""
    durations = np.diff([0.0, *ends])
    return bool((durations < _SHORT_S).mean() <= _SHORT_SHARE
                and len(ends) / max(ends[-1], _SHORT_S) <= _FASTEST)


def main() -> None:
    """Align all recordings of a manifest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--manifest', type=Path, required=True)
    parser.add_argument('--whisper', required=True, help='folder with a CTranslate2 Whisper model')
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--name', required=True, help='of the shard and its texts')
    arguments = parser.parse_args()
    align = Aligner(arguments.whisper)
    rows = read_table(arguments.manifest)
    writer = ShardWriter(arguments.out / 'shards' / f'{arguments.name}0')
    texts: list[str] = []
    for path, text in tqdm(rows):
        samples = read(path)
        if len(samples) > _MAX_S * RATE_HZ:
            print(f'left out: {path} is longer than {_MAX_S} s')
            continue
        ends = align(samples, text.split())
        if not plausible(ends):
            print(f'left out: {path} does not say "{text}"')
            continue
        if len(ends) <= _FEW:
            ends[-1] = end_of_sound(samples, ends[-1])
        loudness = 0.7 / (np.abs(samples).max() + 1e-4)
        writer.add(len(texts), (samples * loudness * 32767).astype(np.int16), ends)
        texts.append(text)
    writer.flush()
    (arguments.out / f'{arguments.name}.txt').write_text(
        '\n'.join(texts) + '\n', encoding='utf-8')
    print(f'{len(texts)} of {len(rows)} recordings, {writer.seconds / 60:.1f} minutes')


if __name__ == '__main__':
    main()
