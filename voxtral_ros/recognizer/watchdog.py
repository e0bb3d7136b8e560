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
Watchdog for the blank loop: the model writes nothing although somebody speaks.

A healthy stream can fall into emitting pads over real speech for minutes and recover by itself;
greedy decoding repeats it exactly. First the pad logit is lowered a little more with every token,
which ends most loops within a second; if that does not help, the stream starts afresh at a pause
and processes the last seconds again. Source of symptom and penalty: vLLM issue 47614, PR 47615.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from voxtral_ros.recognizer.vad import VoiceActivity


@dataclass(frozen=True)
class WatchdogOptions:
    """Tuning of the watchdog."""

    speech_s: float = 8.0  # seconds of speech without a word that are suspicious; 0: never
    penalty_per_token: float = 0.5  # logits
    max_penalty: float = 7.0  # logits; in true silence the pad leads by 8.5 or more
    reset_after_s: float = 8.0  # more seconds of speech without a word, then start afresh
    preroll_s: float = 5.0  # of audio that is processed again after that


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
        self.penalty = 0.0
        self.last_text_s = 0.0
        self.n_penalties = 0
        self.n_resets = 0
        self._voice = voice

    def text_written(self, transcribed_s: float) -> Action:
        """Note that the model wrote something."""
        self.last_text_s = transcribed_s
        return self._release()

    def suspects(self, transcribed_s: float, ahead_s: float) -> bool:
        """
        Return whether the watchdog may act within the next `ahead_s`.

        :param transcribed_s: the audio before this time is transcribed
        """
        speech_s = self.options.speech_s
        return bool(speech_s) and self._missed_s(transcribed_s, ahead_s) >= speech_s

    def _missed_s(self, transcribed_s: float, ahead_s: float = 0.0) -> float:
        """Return the most seconds of speech without a word that there can be in `ahead_s`."""
        blank_s = transcribed_s - self.last_text_s
        if blank_s + ahead_s < self.options.speech_s:
            return blank_s
        return self._voice.voiced_s(self.last_text_s, transcribed_s) + ahead_s

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
            return self._release()
        limit_s = options.speech_s + options.reset_after_s
        if missed_s >= limit_s and (not self._voice.speaking or missed_s >= 2 * limit_s):
            self.n_resets += 1
            self.penalty = 0.0
            return Action.RESET
        if not self.penalty:
            self.n_penalties += 1
        self.penalty = min(options.max_penalty, self.penalty + options.penalty_per_token)
        return Action.PENALISE
