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
Endpointing: where the endless stream is cut into utterances.

Voice activity finds the pause, and a boundary is put into it. The model lags behind by its delay,
so the utterance ends only when the model has written about all of the audio before the boundary
and is not in the middle of a group of words: the delayed tail is never cut off. Where voice
activity takes noise for speech, a long run of pads of the model is the second witness.
"""

from __future__ import annotations

from collections import deque
import copy
from dataclasses import dataclass

from voxtral_ros.recognizer.vad import VoiceActivity


@dataclass(frozen=True)
class EndpointOptions:
    """Tuning of the endpointing."""

    silence_s: float = 0.8  # pause after which an utterance ends
    max_utterance_s: float = 30.0  # longer ones are cut at the next group of words
    pad_silence_s: float = 3.0  # the model silent for so long ends an utterance, speech or not
    # A word is discarded when voice activity stayed under this all around it; 0 keeps every word.
    min_speech_probability: float = 0.1


# A word may be written this much before (early) or after the moment that its time stands for.
_SLACK_S = 0.24
# A group of words that goes on for longer than this after the boundary is cut; where an utterance
# is too long, a group or a word that has lasted so long is.
_MAX_TAIL_S = 2.0


class Endpointer:
    """Decides for one stream when an utterance is over; all times are seconds of its audio."""

    def __init__(self, options: EndpointOptions, voice: VoiceActivity) -> None:
        self.options = options
        self._voice = voice
        self._boundaries: deque[float] = deque()
        self._cut_s = 0.0  # voiced audio up to here has had its boundary
        self._last_text_s = 0.0

    def copy(self) -> Endpointer:
        """Return another one that goes on from here, over the same voice activity."""
        other = copy.copy(self)
        other._boundaries = self._boundaries.copy()
        return other

    @property
    def expects_pause(self) -> bool:
        """Return whether somebody has spoken since the last boundary."""
        return self._voice.last_voiced_s > self._cut_s

    def update(self, silence_s: float) -> bool:
        """
        Look for a pause that ends an utterance in what voice activity has processed.

        :param silence_s: how long it has to be
        :return: whether there is a new one
        """
        voice = self._voice
        if not self.expects_pause or voice.processed_s - voice.last_voiced_s < silence_s:
            return False
        self._cut_s = voice.last_voiced_s
        # Not before what is written: in a long pause there may be hardly audible words.
        self._boundaries.append(max(voice.last_voiced_s + min(silence_s, 0.5), self._last_text_s))
        return True

    def text_written(self, transcribed_s: float) -> None:
        """Note that the model wrote text about the audio up to `transcribed_s`."""
        self._last_text_s = transcribed_s

    def starts_new(self, word_end_s: float, start_s: float) -> bool:
        """Return whether a group of words belongs after the utterance that began at `start_s`."""
        if self._boundaries and self.is_after(word_end_s, self._boundaries[0]):
            return True
        return self.is_too_long(word_end_s, start_s)

    @staticmethod
    def is_after(word_end_s: float, boundary_s: float) -> bool:
        """Return whether a word that ends at `word_end_s` belongs after a boundary."""
        return word_end_s > boundary_s + _SLACK_S

    @property
    def boundary_s(self) -> float | None:
        """Return the latest boundary before which there may still be words, None if none is."""
        return self._boundaries[-1] if self._boundaries else None

    def is_too_long(self, until_s: float, start_s: float) -> bool:
        """Return whether an utterance that began at `start_s` should not go on at `until_s`."""
        return until_s - start_s >= self.options.max_utterance_s

    def must_cut(self, end_s: float, start_s: float, since_s: float) -> bool:
        """
        Return whether an utterance that began at `start_s` ends inside a group of words.

        :param end_s: where a word ends that starts with the next token
        :param since_s: since when there was no better place: where the first word of the group
            ended, and inside a word where that did
        """
        return self.is_too_long(end_s, start_s) and end_s - since_s >= _MAX_TAIL_S

    def is_over(self, transcribed_s: float, in_group: bool, start_s: float) -> bool:
        """
        Return whether the utterance that began at `start_s` is complete.

        :param transcribed_s: the audio is transcribed up to here
        :param in_group: its last token was not a pad: more text of the same words may follow
        """
        if self._boundaries:
            late_s = transcribed_s - self._boundaries[0]
            return late_s >= _MAX_TAIL_S or (late_s >= _SLACK_S and not in_group)
        if in_group:
            return False
        pad_silence_s = max(self.options.pad_silence_s, self.options.silence_s)
        return transcribed_s - self._last_text_s >= pad_silence_s \
            or self.is_too_long(transcribed_s, start_s)

    def skip(self, transcribed_s: float) -> None:
        """Forget the boundaries before which no word can come any more."""
        self.close(transcribed_s - _SLACK_S)

    def close(self, until_s: float) -> None:
        """Forget the boundaries up to `until_s`: what lies before them has been published."""
        while self._boundaries and self._boundaries[0] <= until_s:
            self._boundaries.popleft()

    def expects_speech(self, word_end_s: float, last_end_s: float = 0.0) -> bool:
        """Return whether voice activity found anything like speech around a word, or several."""
        probability = self._voice.max_probability(
            word_end_s - 2.0, max(word_end_s, last_end_s) + 0.5)
        return probability >= self.options.min_speech_probability
