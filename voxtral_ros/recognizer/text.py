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

"""Words to revisions: the append-only text of one utterance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from voxtral_ros.recognizer.events import Transcript, Word
from voxtral_ros.recognizer.words import Written


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
        self._n_published = 0  # characters of text
        # Words that cannot grow any more are made once: a revision costs what is new in it.
        self._complete: tuple[Word, ...] = ()
        self._growing: list[_GrowingWord] = []  # the last word, and those since the last revision

    @property
    def end_s(self) -> float:
        return self._growing[-1].end_s if self._growing else self.start_s

    @property
    def changed(self) -> bool:
        return len(self.text) > self._n_published

    def append(self, written: Written) -> None:
        """Add what one token has written of one word."""
        word = written.text.lstrip()
        self.text += written.text if self.text else word
        if written.begins or not self._growing:
            self._growing.append(_GrowingWord(word, written.end_s, written.probability))
        else:
            self._growing[-1].text += word
            self._growing[-1].confidence *= written.probability

    def publish(self, fed_s: Callable[[float], float], is_final: bool = False) -> Transcript:
        """Return the present state as the next revision, its times translated by `fed_s`."""
        words = self._complete + tuple(
            Word(word.text, fed_s(word.end_s), word.confidence) for word in self._growing)
        transcript = Transcript(
            self.id, self._revision, is_final, self.text, self.text[self._n_published:], words,
            fed_s(self.start_s), fed_s(self.end_s))
        self._complete, self._growing = words[:-1], self._growing[-1:]
        self._revision += 1
        self._n_published = len(self.text)
        return transcript
