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

"""Tokens to words: append-only text of one utterance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from voxtral_ros.recognizer.events import Transcript, Word


@dataclass
class _GrowingWord:
    text: str
    end_s: float
    confidence: float


class Utterance:
    """An utterance that is being written."""

    def __init__(self, utterance_id: int, start_s: float) -> None:
        self.id = utterance_id
        self.start_s = start_s
        self.text = ''
        self._revision = 0
        self._published = 0  # characters of text
        self._words: list[_GrowingWord] = []

    @property
    def end_s(self) -> float:
        return self._words[-1].end_s if self._words else self.start_s

    @property
    def changed(self) -> bool:
        return len(self.text.rstrip()) > self._published

    def append(self, piece: str, end_s: float, probability: float) -> None:
        """
        Add the text of one token.

        :param end_s: where a word ends that starts with this token
        """
        if not self.text:
            piece = piece.lstrip()
        inside = bool(self.text) and not self.text[-1].isspace()
        self.text += piece
        parts = piece.split()
        if parts and inside and not piece[0].isspace():
            word = self._words[-1]
            word.text += parts.pop(0)
            word.confidence *= probability
        for part in parts:
            self._words.append(_GrowingWord(part, end_s, probability))

    def publish(self, fed_s: Callable[[float], float], is_final: bool = False) -> Transcript:
        """Return the present state as the next revision, its times translated by `fed_s`."""
        text = self.text.rstrip()  # what is published is never taken back, not even a space
        words = tuple(Word(word.text, fed_s(word.end_s), word.confidence) for word in self._words)
        transcript = Transcript(
            self.id, self._revision, is_final, text, text[self._published:], words,
            fed_s(self.start_s), fed_s(self.end_s))
        self._revision += 1
        self._published = len(text)
        return transcript
