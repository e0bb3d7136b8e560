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
Idle: while nobody speaks, only voice activity detection runs, and the model is given nothing.

When somebody speaks again, the model is given the last moments before that first, and goes on as
if the pause had been that short: its KV cache and all else stay as they were.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from voxtral_ros.recognizer.vad import RATE_HZ, VoiceActivity


@dataclass(frozen=True)
class IdleOptions:
    """Tuning of the idle state."""

    after_s: float = 2.0  # without anything like speech; 0: never
    preroll_s: float = 1.0  # of audio that the model is given first when speech sets in
    threshold: float = 0.1  # probability of speech from which it wakes


_ZEROS_S = 0.64  # of samples that are all zero: no microphone gives so many
# Text about a moment may come so much later than the moment that it was written for.
_SETTLED_S = 0.5


class IdleGate:
    """Decides for one stream when it is idle; all times are seconds of processed audio."""

    def __init__(self, options: IdleOptions, voice: VoiceActivity,
                 min_speech_probability: float) -> None:
        """
        Begin.

        :param min_speech_probability: words are discarded where voice activity stays under it
        """
        self.stirred_s = 0.0  # end of the latest chunk that is like speech
        self._voice = voice
        self.tune(options, min_speech_probability)
        self._seen_s = 0.0
        self._n_zeros = 0  # samples in a row, up to now

    def tune(self, options: IdleOptions, min_speech_probability: float) -> None:
        """Take over other options; no word that would be published is missed."""
        self.options = options
        self._threshold = min(options.threshold, min_speech_probability)

    def update(self, samples: np.ndarray) -> None:
        """Note samples that voice activity has just processed."""
        now_s = self._voice.processed_s
        if self._voice.max_probability(self._seen_s, now_s) >= self._threshold:
            self.stirred_s = now_s
        self._seen_s = now_s
        self._n_zeros = 0 if samples.any() else self._n_zeros + len(samples)

    @property
    def stirs(self) -> bool:
        """Return whether the newest chunk is like speech, or no stream is to be idle any more."""
        return self.stirred_s >= self._voice.processed_s or not self.options.after_s

    def is_quiet(self, transcribed_s: float) -> bool:
        """
        Return whether nothing has been said for long enough.

        :param transcribed_s: the audio is transcribed up to here
        """
        if not self.options.after_s or transcribed_s < self.stirred_s + _SETTLED_S:
            return False
        return self._n_zeros >= _ZEROS_S * RATE_HZ \
            or self._voice.processed_s - self.stirred_s >= self.options.after_s

    def earliest_s(self) -> float:
        """Return the time before which the stream is not idle."""
        if not self.options.after_s:
            return float('inf')
        now_s = self._voice.processed_s
        return min(now_s - self._n_zeros / RATE_HZ + _ZEROS_S,
                   self.stirred_s + self.options.after_s)
