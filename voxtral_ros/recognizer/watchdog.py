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
Watchdog for a model that is stuck, in blanks or in words.

Blank loop: the model writes nothing although somebody speaks. A healthy stream can fall into
emitting pads over real speech for minutes and recover by itself; greedy decoding repeats it
exactly. First the pad logit is lowered a little more with every token, which ends most loops
within a second; if that does not help, the stream starts afresh at a pause and processes the last
seconds again. Source of symptom and penalty: vLLM issue 47614, PR 47615.

Repetition loop: the model writes the same words again and again. The remedies are the same the
other way round: the pad logit is raised with every token that repeats, then the stream starts
afresh, at once, for nothing that is written in the loop is worth waiting for.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from voxtral_ros.recognizer.repetition import Repetition
from voxtral_ros.recognizer.vad import VoiceActivity


@dataclass(frozen=True)
class WatchdogOptions:
    """Tuning of the watchdog."""

    speech_s: float = 8.0  # seconds of speech without a word that are suspicious; 0: never
    # Tokens in a row that only repeat the ones before; twice as many start afresh; 0: never
    repeated_tokens: int = 24
    penalty_per_token: float = 0.5  # logits
    max_penalty: float = 7.0  # logits; in true silence the pad leads by 8.5 or more
    reset_after_s: float = 8.0  # more seconds of speech without a word, then start afresh
    preroll_s: float = 5.0  # of audio that is processed again after that


_CALM_S = 2.0  # without text after which a repetition loop is over


class Action(Enum):
    """What the stream is to do."""

    NOTHING = 0
    PENALISE = 1  # use Watchdog.penalty
    RELEASE = 2  # the penalty is over
    RESET = 3


class Watchdog:
    """Follows one stream; all times are seconds of its audio."""

    def __init__(self, options: WatchdogOptions, voice: VoiceActivity) -> None:
        self.options = options
        self.penalty = 0.0  # of the pad logit; below 0 it is raised
        self.stuck_s = 0.0  # the audio up to here was transcribed before the model got stuck
        self.n_penalties = 0
        self.n_resets = 0
        self.n_repetitions = 0
        self._last_text_s = self._restarted_s = 0.0
        self._voice = voice
        self._repetition = Repetition(options.repeated_tokens)
        self._repeating = False

    def tune(self, options: WatchdogOptions) -> None:
        """Take over other options."""
        if options.repeated_tokens != self.options.repeated_tokens:
            self._repetition = Repetition(options.repeated_tokens)
        self.options = options

    def restarted(self, processed_s: float) -> None:
        """Note that the stream has started afresh."""
        self._last_text_s = self._restarted_s = processed_s
        self.forget_words()

    def forget_words(self) -> None:
        """Note that there was a pause: whoever says the same again after it means it."""
        self._repetition.forget()
        self._repeating = False

    def text_written(self, transcribed_s: float, token: int) -> Action:
        """Note that the model wrote a token of text about the audio up to `transcribed_s`."""
        self._last_text_s = transcribed_s
        self._repetition.push(token, transcribed_s)
        was_repeating, self._repeating = self._repeating, self._repetition.n_missing <= 0
        if not self._repeating:
            return self._release()
        if not was_repeating:
            self.n_repetitions += 1
            self.n_penalties += 1
        if self._repetition.is_long:
            return self._reset(self._repetition.begin_s)
        self.penalty = max(-self.options.max_penalty,
                           min(self.penalty, 0.0) - self.options.penalty_per_token)
        return Action.PENALISE

    def max_pass_tokens(self, transcribed_s: float, token_s: float, max_chunk_tokens: int) -> int:
        """
        Return how many tokens may be generated before the watchdog is asked again.

        So what is written does not depend on how many tokens a pass takes.

        :param transcribed_s: the audio before this time is transcribed
        """
        speech_s = self.options.speech_s
        if self.penalty or (speech_s and self._missed_s(
                transcribed_s, max_chunk_tokens * token_s) >= speech_s):
            return 1
        return max(1, self._repetition.n_missing)

    def _missed_s(self, transcribed_s: float, ahead_s: float = 0.0) -> float:
        """Return the most seconds of speech without a word that there can be in `ahead_s`."""
        blank_s = transcribed_s - self._last_text_s
        if blank_s + ahead_s < self.options.speech_s:
            return blank_s
        return self._voice.voiced_s(self._last_text_s, transcribed_s) + ahead_s

    def _release(self) -> Action:
        if self.penalty:
            self.penalty = 0.0
            return Action.RELEASE
        return Action.NOTHING

    def blank_written(self, transcribed_s: float) -> Action:
        """Note that the model wrote nothing about the audio up to `transcribed_s`."""
        options = self.options
        missed_s = self._missed_s(transcribed_s)
        if not options.speech_s or missed_s < options.speech_s:
            # In a repetition loop pads are what is wanted, for a while.
            lasts = self.penalty < 0 and transcribed_s - self._last_text_s < _CALM_S
            return Action.NOTHING if lasts else self._release()
        limit_s = options.speech_s + options.reset_after_s
        if missed_s >= limit_s and (not self._voice.speaking or missed_s >= 2 * limit_s):
            return self._reset(self._last_text_s)
        self.n_penalties += self.penalty <= 0
        self.penalty = min(options.max_penalty,
                           max(self.penalty, 0.0) + options.penalty_per_token)
        return Action.PENALISE

    def _reset(self, stuck_s: float) -> Action:
        # No audio is processed a third time: where the model is beyond help, that costs too much.
        self.stuck_s = max(stuck_s, self._restarted_s)
        self.n_resets += 1
        self.penalty = 0.0
        return Action.RESET
