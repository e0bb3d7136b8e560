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
Forced alignment: word ends of transcribed recordings, from the attention of Whisper tiny.en.

    python -m training.forced_alignment --manifest T.tsv --whisper DIR --out build/training \
        --name clean-100

Whisper's decoder is given the audio and the text. The frame that its cross-attention is on at each
token shows where a word begins, and so where the one before it ends. Writes the shard `<name>0`
and `<name>.txt`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm
from training.recordings import load_manifest, read_audio
from training.synthesis.shards import ShardWriter
from training.utterances import FRAME, levels, RATE_HZ

_BIAS_S = 0.06  # Whisper's word ends are this much later than those of the TTS engines
_FRAME_S = 0.02  # of Whisper's attention
_PADDING = 200  # frames of 10 ms after a recording
_MAX_S = 30  # the input length of Whisper
_MIN_WORD_S = 0.03  # shorter words are alignment errors
_MAX_SHORT_FRACTION = 0.34  # of the words; with more, the text does not match the audio
_MAX_WORDS_PER_S = 6.5
_FEW_WORDS = 3  # up to so many words, Whisper ends the last one too early
_SILENCE = 0.1  # of the level of the loudest 10 ms; speech is above this and above
_SNR = 3  # times the 10th percentile of the level
_DECAY_S = 0.05


class Aligner:
    """Forced alignment with Whisper."""

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
        :param words: the text, without punctuation
        """
        from faster_whisper.audio import pad_or_trim
        tokens = [self._tokenizer.encode(f' {word}') for word in words]
        features = self._whisper.feature_extractor(samples)
        # Whisper was trained on 30 s; so much padding would take twelve times longer for a phrase.
        padded = pad_or_trim(features, min(features.shape[-1] + _PADDING, 3000))
        result, = self._whisper.model.align(
            self._whisper.encode(padded), self._tokenizer.sot_sequence,
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
    next_token = np.cumsum(n_tokens)  # of each word
    ends = np.array([first_frame[int(token)] for token in next_token]) * _FRAME_S - _BIAS_S
    return [float(end) for end in np.clip(ends, 0, duration_s)]


def end_of_audio(samples: np.ndarray, aligned_s: float) -> float:
    """
    Return the end of the last word of a short recording, in seconds.

    The attention ends it 0.15 s early, which would cut it off where recordings are joined. So it
    ends with the audio, or 0.15 s later if the audio goes on.

    :param samples: float32 [n] at 16 kHz
    :param aligned_s: its end according to the attention
    """
    level = np.convolve(levels(samples), np.ones(3) / 3, 'same')
    loud = np.flatnonzero(level > max(_SILENCE * level.max(initial=0),
                                      _SNR * float(np.percentile(level, 10))))
    audio_end_s = float(loud[-1] + 1) * FRAME / RATE_HZ if len(loud) else 0.0
    is_close = aligned_s - 0.1 < audio_end_s < aligned_s + 0.45
    end_s = audio_end_s + _DECAY_S if is_close else aligned_s + 0.15
    return min(max(end_s, aligned_s), len(samples) / RATE_HZ)


def plausible(ends: list[float]) -> bool:
    """Return whether words can be spoken this fast; if not, the text is not that of the audio."""
    durations = np.diff([0.0, *ends])
    return bool((durations < _MIN_WORD_S).mean() <= _MAX_SHORT_FRACTION
                and len(ends) / max(ends[-1], _MIN_WORD_S) <= _MAX_WORDS_PER_S)


def main() -> None:
    """Align all recordings of a manifest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--manifest', type=Path, required=True)
    parser.add_argument('--whisper', required=True, help='folder with a CTranslate2 Whisper model')
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--name', required=True, help='name of the shard and its texts')
    arguments = parser.parse_args()
    align = Aligner(arguments.whisper)
    rows = load_manifest(arguments.manifest)
    writer = ShardWriter(arguments.out / 'shards' / f'{arguments.name}0')
    texts: list[str] = []
    for path, text in tqdm(rows):
        samples = read_audio(path)
        if len(samples) > _MAX_S * RATE_HZ:
            print(f'skipped: {path} is longer than {_MAX_S} s')
            continue
        ends = align(samples, text.split())
        if not plausible(ends):
            print(f'skipped: {path} does not match "{text}"')
            continue
        if len(ends) <= _FEW_WORDS:
            ends[-1] = end_of_audio(samples, ends[-1])
        gain = 0.7 / (np.abs(samples).max() + 1e-4)
        writer.add(len(texts), (samples * gain * 32767).astype(np.int16), ends)
        texts.append(text)
    writer.flush()
    (arguments.out / f'{arguments.name}.txt').write_text(
        '\n'.join(texts) + '\n', encoding='utf-8')
    print(f'{len(texts)} of {len(rows)} recordings, {writer.seconds / 60:.1f} minutes')


if __name__ == '__main__':
    main()
