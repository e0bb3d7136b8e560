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
A piece of audio that a remote server transcribes in one generation, and the text that came of it.

The audio is kept until its text is complete: after a broken connection the segment is sent again
from its start. What was published before stays; of the second transcription only what goes further
counts.
"""

from __future__ import annotations

from collections.abc import Iterator
import math
from typing import Any, NamedTuple

import numpy as np

from voxtral_ros.audio.block import Samples
from voxtral_ros.audio.resample import TARGET_RATE_HZ
from voxtral_ros.recognizer.events import Transcript, Word
from voxtral_ros.recognizer.words import Part, WordSplitter

_TOKEN_S = 0.08  # vLLM sends a delta per token, and no times
_BYTES_PER_S = 2 * TARGET_RATE_HZ


class _Spaced(NamedTuple):
    """A word, and the space before it."""

    space: str
    word: Word


class Segment:
    """
    Audio from the stream's thread, text from the link's.

    Of the attributes that both use, each is written by one thread only and replaced, not changed.
    """

    def __init__(self, start_s: float) -> None:
        """Begin at a time of the stream."""
        self.start_s = start_s
        self.onset_s: float | None = None  # where speech set in
        self.ended = False  # no more audio comes
        self.done = False  # no more text comes
        self.written: tuple[_Spaced, ...] = ()  # only ever grows
        self.blank_tokens = 0  # since the last text of the server
        self._audio: list[bytes] = []  # PCM16
        self._n_bytes = 0
        self.restart()

    # ---- audio ----

    @property
    def duration_s(self) -> float:
        return self._n_bytes / _BYTES_PER_S

    def append(self, samples: Samples) -> None:
        """Add float32 samples, 16 kHz, mono, -1..1."""
        pcm = np.clip(np.rint(samples * 32768), -32768, 32767).astype('<i2').tobytes()
        self._audio.append(pcm)
        self._n_bytes += len(pcm)

    def audio(self, first: int, max_bytes: int) -> tuple[bytes, int]:
        """Return audio from block `first` on, and the block that comes next."""
        blocks = self._audio
        last, n_bytes = first, 0
        while last < len(blocks) and (last == first or n_bytes + len(blocks[last]) <= max_bytes):
            n_bytes += len(blocks[last])
            last += 1
        return b''.join(blocks[first:last]), last

    def complete(self) -> None:
        """Note that no more text comes, and forget the audio."""
        self.done = True
        self._audio, self._n_bytes = [], 0

    # ---- text ----

    def restart(self) -> None:
        """Expect the text from its beginning: the audio is being sent again."""
        self._fresh: list[_Spaced] = []  # of the present generation
        self._splitter = WordSplitter()
        self._n_deltas = self.blank_tokens = 0

    def write(self, delta: str, details: Any = None) -> bool:
        """
        Take a delta of the server; return whether there is anything new in it.

        :param details: what a voxtral server sends of the words in the delta; vLLM does not
        """
        self._n_deltas += 1
        parts = self._splitter.push(delta, in_new_group=self.blank_tokens > 0)
        self.blank_tokens = 0 if parts else self.blank_tokens + 1
        if not parts:
            return False
        for part, known in _described(delta, details) or [(part, None) for part in parts]:
            text = part.text.lstrip()
            space = part.text[:len(part.text) - len(text)]
            if part.begins or not self._fresh:
                self._fresh.append(_Spaced(space, self._word(text, known)))
            else:
                space, word = self._fresh[-1]
                confidence = math.nan if known is None else known.confidence
                self._fresh[-1] = _Spaced(space, Word(word.text + text, word.end_s, confidence))
        return self._take_over()

    def _word(self, text: str, known: Word | None) -> Word:
        """Return a word with its time in the stream."""
        # The first token of a word comes two after the one that speaks about its end.
        end_s = (self._n_deltas - 2) * _TOKEN_S if known is None else known.end_s
        end_s = min(max(end_s, 0.0), self.duration_s)
        before_s = self._fresh[-1].word.end_s if self._fresh else self.start_s
        return Word(text, max(self.start_s + end_s, before_s),
                    math.nan if known is None else known.confidence)

    def _take_over(self) -> bool:
        """Let the words grow by those of this generation that go further."""
        written, fresh = list(self.written), self._fresh
        if written and len(fresh) >= len(written):
            space, word = written[-1]
            last = fresh[len(written) - 1].word
            if last.text.startswith(word.text):
                written[-1] = _Spaced(space, Word(last.text, word.end_s, last.confidence))
        written += fresh[len(written):]
        changed = tuple(written) != self.written
        self.written = tuple(written)
        return changed


def _described(delta: str, details: Any) -> list[tuple[Part, Word | None]]:
    """
    Return the parts of a delta and what the server says of the words; nothing if that is not so.

    If the delta begins inside a word, the first one stands there from its beginning.
    """
    try:
        words = [Word(str(known['text']), float(known['end_s']), float(known['confidence']))
                 for known in details or ()]
    except (TypeError, KeyError, ValueError):
        return []
    n_before = sum(len(word.text) for word in words) - len(''.join(delta.split()))
    described: list[tuple[Part, Word | None]] = []
    for word in words:
        space = delta[:len(delta) - len(delta.lstrip())]
        text = word.text[max(0, n_before):]
        if not text or not delta.startswith(space + text):
            return []
        described.append((Part(space + text, begins=n_before <= 0), word))
        delta, n_before = delta[len(space + text):], 0
    return described if not delta.strip() else []


class SegmentTranscripts:
    """Makes the words of a segment the revisions of one utterance."""

    def __init__(self, segment: Segment, utterance_ids: Iterator[int]) -> None:
        self.segment = segment
        self._utterance_ids = utterance_ids
        self._utterance_id = 0  # until there are words
        self._revision = 0
        self._published = 0  # characters

    def next(self, last_end_s: float, is_final: bool) -> Transcript | None:  # noqa: A003
        """
        Return the next revision, None when there is nothing new.

        :param last_end_s: end of the utterance before
        """
        written = self.segment.written
        words = tuple(word for _, word in written)
        text = ''.join(space + word.text for space, word in written).lstrip()
        if not words or (len(text) == self._published and not is_final):
            return None
        self._utterance_id = self._utterance_id or next(self._utterance_ids)
        onset_s, first_s = self.segment.onset_s, words[0].end_s
        if onset_s is None or not first_s - 2.0 <= onset_s <= first_s:
            onset_s = first_s - 0.5
        transcript = Transcript(
            self._utterance_id, self._revision, is_final, text, text[self._published:], words,
            min(max(onset_s, last_end_s, 0.0), first_s), words[-1].end_s)
        self._revision += 1
        self._published = len(text)
        return transcript
