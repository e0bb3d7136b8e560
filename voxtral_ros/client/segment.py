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
counts. Where a server ended the text early, the next generation begins a little before that place.
"""

from __future__ import annotations

from collections.abc import Iterator
import math
from typing import Any, NamedTuple

import numpy as np

from voxtral_ros.audio.block import Samples
from voxtral_ros.audio.pcm import encode_pcm16
from voxtral_ros.audio.resample import TARGET_RATE_HZ
from voxtral_ros.recognizer.events import Transcript, Word
from voxtral_ros.recognizer.words import is_unspaced, normalised, Part, WordSplitter

_TOKEN_S = 0.08  # vLLM sends a delta per token, and no times
_BYTES_PER_S = 2 * TARGET_RATE_HZ
# Tokens that come after the last of the audio: a server has ten or so, some have fewer.
_LEAST_TAIL, _MOST_TAIL = 5, 12
_SAME_S = 0.3  # between the ends of a word in two transcriptions, at most
_LEAST_PROGRESS_S = 1.0  # of a generation, to be worth another one
_LOOK_BACK_S = 2.0  # for a pause to go on from


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
        self.first = 0  # block that the present generation begins with
        self._offset_s = 0.0  # of it
        self._n_kept = 0  # words written of what is before it
        self._audio: list[bytes] = []  # PCM16
        self._n_bytes = 0
        self.restart()

    # ---- audio ----

    @property
    def duration_s(self) -> float:
        return self._n_bytes / _BYTES_PER_S

    @property
    def waiting_s(self) -> float:
        """Return the seconds of audio whose text is not complete."""
        return max(0.0, self.duration_s - self._offset_s)

    def append(self, samples: Samples) -> None:
        """Add float32 samples, 16 kHz, mono, -1..1."""
        pcm = encode_pcm16(samples).tobytes()
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

    def n_tokens(self, usage: Any) -> int | None:
        """Return how many tokens a generation had: by its usage, else one per delta."""
        counted = usage.get('completion_tokens') if isinstance(usage, dict) else None
        if isinstance(counted, int):
            return max(self._n_deltas, counted)
        return self._n_deltas or None

    def ends_early(self, n_tokens: int) -> bool:
        """Return whether a text of so many tokens is not that of all the audio."""
        return n_tokens < self.waiting_s / _TOKEN_S + _LEAST_TAIL

    def go_on_after(self, n_tokens: int) -> bool:
        """
        Let the next generation begin where one of so many tokens ended, or in a pause before.

        Returns False where it has come to nothing and there is nowhere to go on from.
        """
        # The last tokens may be of silence that a server adds when it is stopped.
        progress_s = min((n_tokens - _MOST_TAIL) * _TOKEN_S, self.waiting_s)
        end_s = self._offset_s + progress_s
        first, offset_s = self._quietest(
            max(end_s - _LOOK_BACK_S, self._offset_s + progress_s / 2), end_s)
        if progress_s < _LEAST_PROGRESS_S or first == self.first:
            return False
        self.settle()
        self.first, self._offset_s = first, offset_s
        self.restart()
        return True

    def _quietest(self, first_s: float, last_s: float) -> tuple[int, float]:
        """Return the block that begins after the quietest moment of some time, and when."""
        blocks = tuple(self._audio)  # those of now: the other thread goes on
        starts = np.cumsum([0] + [len(block) for block in blocks]) / _BYTES_PER_S
        levels = [float(np.mean(np.square(np.frombuffer(block, '<i2').astype(float))))
                  for block in blocks]
        inside = [index for index in range(1, len(blocks))
                  if first_s <= starts[index] <= last_s] or [self.first]
        weights = (0.5, 1.0, 1.0, 0.5)  # of the two blocks before and the two from it on

        def level(index: int) -> float:
            around = range(index - 2, index + 2)
            return sum(weight * levels[min(max(at, 0), len(blocks) - 1)]
                       for weight, at in zip(weights, around, strict=True))
        found = min(inside, key=lambda index: (level(index), -index))
        return found, float(starts[found])

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
        self._aligned = not self._offset_s

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
        end_s = min(max(end_s, 0.0) + self._offset_s, self.duration_s)
        before_s = self._fresh[-1].word.end_s if self._fresh else self.start_s
        return Word(text, max(self.start_s + end_s, before_s),
                    math.nan if known is None else known.confidence)

    def settle(self) -> bool:
        """Take over what was written: no more comes of this generation."""
        return self._take_over(is_last=True)

    def _take_over(self, is_last: bool = False) -> bool:
        """Let the words grow by those of this generation that go further."""
        if not self._align(is_last):
            return False
        written, fresh = list(self.written), self._fresh
        n_again = len(written) - self._n_kept  # words that this generation has written as well
        if 0 < n_again <= len(fresh):
            space, word = written[-1]
            last = fresh[n_again - 1].word
            if last.text.startswith(word.text):
                written[-1] = _Spaced(space, Word(last.text, word.end_s, last.confidence))
        for space, word in fresh[n_again:]:
            is_apart = space or not written or is_unspaced(word.text[0])
            written.append(_Spaced(space if is_apart else ' ', word))
        changed = tuple(written) != self.written
        self.written = tuple(written)
        return changed

    def _align(self, is_last: bool) -> bool:
        """
        Find which written word is the first of this generation; return whether it is known.

        Where a generation goes on from the middle of the audio, its time says so to a word or so,
        and the first word itself when it is complete.
        """
        if self._aligned or len(self._fresh) < (1 if is_last else 2):
            return self._aligned
        self._aligned = True
        first = self._fresh[0].word
        words = [word for _, word in self.written]
        by_time = (index for index, word in enumerate(words)
                   if word.end_s > first.end_s - _SAME_S / 2)
        by_text = (index for index, word in enumerate(words) if _is_same(word, first))
        self._n_kept = next(by_text, next(by_time, len(words)))
        return True


def _is_same(one: Word, other: Word) -> bool:
    """Return whether two transcriptions are of the same word of the audio."""
    return abs(one.end_s - other.end_s) < _SAME_S \
        and normalised(one.text) == normalised(other.text)


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
