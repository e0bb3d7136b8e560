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
import copy
from dataclasses import dataclass

from voxtral_ros.recognizer.events import Transcript, Word
from voxtral_ros.recognizer.words import Written


@dataclass
class _GrowingWord:
    text: str
    end_s: float
    confidence: float
    start: int  # character of the text


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
        self._n_final = 0  # words of the last revision; 0: it has not been published
        self._final_text = ''

    def copy(self) -> Utterance:
        """Return another one that goes on from here."""
        other = copy.copy(self)
        other._growing = [copy.copy(word) for word in self._growing]
        return other

    @property
    def end_s(self) -> float:
        return self._growing[-1].end_s if self._growing else self.start_s

    @property
    def changed(self) -> bool:
        return len(self.text) > self._n_published and not self.is_final

    @property
    def is_final(self) -> bool:
        """Return whether its last revision has been published."""
        return self._n_final > 0

    def words(self, fed_s: Callable[[float], float]) -> tuple[Word, ...]:
        """Return all words, their times translated by `fed_s`."""
        return self._complete + tuple(
            Word(word.text, fed_s(word.end_s), word.confidence) for word in self._growing)

    def append(self, written: Written) -> None:
        """Add what one token has written of one word."""
        word = written.text.lstrip()
        self.text += written.text if self.text else word
        if written.begins or not self._growing:
            start = len(self.text) - len(word)
            self._growing.append(_GrowingWord(word, written.end_s, written.probability, start))
        else:
            self._growing[-1].text += word
            self._growing[-1].confidence *= written.probability

    def publish(self, fed_s: Callable[[float], float], is_final: bool = False) -> Transcript:
        """Return the present state as the next revision, its times translated by `fed_s`."""
        words = self.words(fed_s)
        transcript = Transcript(
            self.id, self._revision, is_final, self.text, self.text[self._n_published:], words,
            fed_s(self.start_s), fed_s(self.end_s))
        self._complete, self._growing = words[:-1], self._growing[-1:]
        self._revision += 1
        self._n_published = len(self.text)
        return transcript

    def publish_ahead(self, ahead: Utterance, fed_s: Callable[[float], float]) -> Transcript:
        """
        Return the last revision, with words that are still to be appended.

        :param ahead: a copy that has them; its text begins with what has been published of this
        """
        words = ahead.words(fed_s)
        self._n_final, self._final_text = len(words), ahead.text
        return Transcript(
            self.id, self._revision, True, ahead.text, ahead.text[self._n_published:], words,
            fed_s(self.start_s), fed_s(ahead.end_s))

    @property
    def is_corrected(self) -> bool:
        """Return whether the text has become another one than that of the last revision."""
        return self.text != self._final_text

    @property
    def is_all_published(self) -> bool:
        """Return whether the last revision is published and no words were appended beyond it."""
        return self.is_final and not self._extra

    @property
    def _extra(self) -> list[_GrowingWord]:
        return self._growing[max(0, self._n_final - len(self._complete)):]

    def rest(self, new_id: Callable[[], int]) -> Utterance | None:
        """Return the words that were appended beyond those of the last revision, if any were."""
        extra = self._extra
        if not extra:
            return None
        other = Utterance(new_id(), extra[0].end_s)
        other.text = self.text[extra[0].start:]
        other._growing = extra
        return other
