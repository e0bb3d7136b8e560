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

"""Tokens to utterances: which words there are, and which of them belong together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
import copy
from functools import partial

from voxtral_ros.model.tokenizer import Tokenizer
from voxtral_ros.recognizer.endpoint import Endpointer
from voxtral_ros.recognizer.slot import Token
from voxtral_ros.recognizer.text import Utterance
from voxtral_ros.recognizer.vad import VoiceActivity
from voxtral_ros.recognizer.words import WordReader, Written

_MAX_ONSET_S = 2.0  # speech that sets in longer before the first word is something else


class UtteranceIds:
    """Ids of utterances, in order; one may be known before anything is written."""

    def __init__(self, ids: Iterator[int]) -> None:
        self._ids = ids
        self._reserved: int | None = None

    def reserve(self) -> int:
        """Return the id that the next utterance will have."""
        self._reserved = self.take()
        return self._reserved

    def take(self) -> int:
        """Return the id of the next utterance, which begins now."""
        reserved, self._reserved = self._reserved, None
        return next(self._ids) if reserved is None else reserved


class Transcriber:
    """Follows the tokens of one stream; all times are seconds of its processed audio."""

    def __init__(self, tokenizer: Tokenizer, endpointer: Endpointer, voice: VoiceActivity,
                 new_id: Callable[[], int], confidence_exponent: float = 1.0) -> None:
        """
        Begin.

        :param new_id: returns the id of the next utterance
        :param confidence_exponent: as of ModelConfig
        """
        # Utterances that are over, and up to which time, until somebody takes them.
        self.finished: deque[tuple[Utterance, float]] = deque()
        self.utterance: Utterance | None = None  # that is being written
        self.in_group = False  # its last token was not a pad
        self.n_discarded = 0  # words
        self.last_end_s = 0.0  # of the last utterance
        self._tokenizer, self._endpointer, self._voice = tokenizer, endpointer, voice
        self._new_id = new_id
        self._new_reader = partial(WordReader, tokenizer, confidence_exponent)
        self._reader = self._new_reader()
        # Utterances that have been published before they are written, and where they end.
        self._announced: deque[tuple[Utterance, float]] = deque()
        self.word_s = self._group_s = 0.0  # end of the last word, of the first one of its group
        self._discarding = False  # the last word

    @property
    def is_settled(self) -> bool:
        """Return whether nothing is begun, and nothing is expected."""
        return self.utterance is None and not self.in_group and not self._announced

    def copy(self, new_id: Callable[[], int]) -> Transcriber:
        """Return another one that goes on from here, without any effect on this one."""
        other = copy.copy(self)
        other._new_id, other.finished = new_id, deque()
        other.utterance = self.utterance and self.utterance.copy()
        other._announced = deque((utterance.copy(), end_s)
                                 for utterance, end_s in self._announced)
        other._endpointer, other._reader = self._endpointer.copy(), self._reader.copy()
        return other

    def restart(self) -> None:
        """Forget what was begun: another state of the network writes from here on."""
        self._reader = self._new_reader()
        self.in_group = False

    def take(self, token: Token, transcribed_s: float, word_end_s: float) -> None:
        """
        Take a generated token.

        :param transcribed_s: the audio is transcribed up to here
        :param word_end_s: where a word ends that starts with this token
        """
        self.in_group = token.id == self._tokenizer.word or self._tokenizer.is_text(token.id)
        if self._tokenizer.is_text(token.id):
            self._endpointer.text_written(transcribed_s)
            for written in self._reader.push(token, word_end_s):
                self._write(written)
        else:
            self._reader.start_group()
            self._drop_announced(word_end_s)

    def announce(self, utterance: Utterance, end_s: float) -> None:
        """Take an utterance that is final already: the next words up to `end_s` are its own."""
        self._announced.append((utterance, end_s))

    def end_ahead(self) -> Utterance | None:
        """
        Return the utterance that is written now, as it is; None if that is no new text.

        Of a copy that has looked ahead.
        """
        utterance = self.utterance
        # Words of earlier utterances that are still to be published come first.
        if utterance is None or utterance.is_final \
                or not all(other.is_all_published for other, _ in self.finished):
            return None
        if rest := self._reader.flush():
            utterance.append(Written(rest, False, False, utterance.end_s, 1.0))
        return utterance

    def finish(self, until_s: float, goes_on: bool = False) -> None:
        """
        End the open utterance, if there is one.

        :param goes_on: the model has not come to the end of what it is writing
        """
        self._endpointer.close(until_s)
        rest = '' if goes_on else self._reader.flush()
        discarding, self._discarding = self._discarding, False
        utterance, self.utterance = self.utterance, None
        if utterance is None:
            return
        if rest and not discarding:
            utterance.append(Written(rest, False, False, utterance.end_s, 1.0))
        self.finished.append((utterance, until_s))
        self.last_end_s = utterance.end_s

    def _write(self, written: Written) -> None:
        end_s = written.end_s
        begins = written.begins or not (self.utterance or self._discarding)
        if begins:
            self._discarding = not self._endpointer.expects_speech(end_s)
            self.n_discarded += self._discarding
        if not self._discarding:
            if self.utterance and self._is_cut_before(written, self.utterance):
                self.finish(end_s, goes_on=True)
            if self.utterance is None:
                self.utterance = self._next_utterance(end_s)
            self.utterance.append(written)
        self._group_s = end_s if written.in_new_group else self._group_s
        self.word_s = end_s if begins else self.word_s

    def _next_utterance(self, word_end_s: float) -> Utterance:
        self._drop_announced(word_end_s)
        if self._announced:
            return self._announced.popleft()[0]
        return Utterance(self._new_id(), self._start_s(word_end_s))

    def _drop_announced(self, word_end_s: float) -> None:
        """Forget utterances of which nothing can be written any more, and nothing was."""
        while self._announced and self._endpointer.is_after(word_end_s, self._announced[0][1]):
            self.finished.append(self._announced.popleft())

    def _is_cut_before(self, written: Written, utterance: Utterance) -> bool:
        """Return whether an utterance ends here although the model has not paused."""
        end_s, start_s = written.end_s, utterance.start_s
        if not written.begins:
            return self._endpointer.must_cut(end_s, start_s, self.word_s)
        if not written.in_new_group:
            return self._endpointer.must_cut(end_s, start_s, self._group_s)
        return self._endpointer.starts_new(end_s, start_s)

    def _start_s(self, first_word_end_s: float) -> float:
        """Return where the audio of an utterance starts: where speech set in, if that fits."""
        earliest_s = max(self.last_end_s, first_word_end_s - _MAX_ONSET_S)
        # The model is late: somebody may have paused and gone on meanwhile.
        for onset_s in reversed(self._voice.onsets_s):
            if earliest_s <= onset_s <= first_word_end_s:
                return onset_s
        return min(max(self.last_end_s, first_word_end_s - 0.5), first_word_end_s)
