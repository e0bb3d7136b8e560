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
The three times of a stream.

Fed time counts the audio that was fed; events carry it. Processed time is that of voice activity,
which also gets the silence that flushes put between. Slot time is that of the model: it begins
with the slot, and stands still while the stream is idle.
"""

from __future__ import annotations

from collections import deque

from voxtral_ros.model.protocol import StreamingProtocol

# The first text token of a group is written two tokens after the one that is about the end of its
# word (measured on the published model: end at (k - 1) * 80 ms, within about 0.1 s).
WORD_END_TOKENS = 2
_KEEP_S = 120.0  # nothing asks for times that lie further back


class StreamClock:
    """Counts what was fed, what was inserted between, and what the model was not given."""

    def __init__(self, rate_hz: int, start_s: float = 0.0) -> None:
        """
        Begin.

        :param start_s: fed time of the first sample
        """
        self._rate_hz = rate_hz
        self._start_s = start_s
        self._n_samples = 0
        self._inserted_s = 0.0  # of the insertions that are forgotten
        self._insertions: deque[tuple[float, float]] = deque()  # start, length; processed time, s
        self._slot_start_s = 0.0  # processed time, and what was skipped and is forgotten
        self._skips: deque[tuple[float, float]] = deque()  # where, length; slot time, s

    def feed(self, n_samples: int) -> None:
        """Count samples of audio."""
        self._n_samples += n_samples

    def insert(self, n_samples: int) -> None:
        """Count samples of silence that were not in the audio."""
        start_s = self._n_samples / self._rate_hz
        self._insertions.append((start_s, n_samples / self._rate_hz))
        self._n_samples += n_samples

    def passed(self, processed_s: float) -> None:
        """Forget what lies far before: the stream has come to `processed_s`."""
        while self._insertions and sum(self._insertions[0]) < processed_s - _KEEP_S:
            self._inserted_s += self._insertions.popleft()[1]

    def fed_s(self, processed_s: float) -> float:
        """Return the time of the fed audio; inserted silence counts as the moment before it."""
        inserted_s = self._inserted_s + sum(
            min(max(processed_s - start_s, 0.0), length_s)
            for start_s, length_s in self._insertions)
        # In whole nanoseconds: a difference of seconds can lie a hair before a time it equals.
        return round(self._start_s + processed_s - inserted_s, 9)

    def audio_s(self, processed_s: float) -> float:
        """Return how much audio was fed before a time."""
        return self.fed_s(processed_s) - self._start_s

    # ---- the model's time ----

    def begin_slot(self, processed_s: float) -> None:
        """Let the model begin anew, with the audio from `processed_s` on."""
        self._slot_start_s = processed_s
        self._skips.clear()

    def skip(self, n_before: int, n_samples: int) -> None:
        """
        Count samples that the model is not given.

        :param n_before: samples of the slot that lie before them
        """
        at_s = n_before / self._rate_hz
        while self._skips and self._skips[0][0] < at_s - _KEEP_S:
            self._slot_start_s += self._skips.popleft()[1]
        self._skips.append((at_s, n_samples / self._rate_hz))

    def processed_s(self, slot_s: float) -> float:
        """Return the processed time of a moment of the slot."""
        return self._slot_start_s + slot_s + sum(
            length_s for at_s, length_s in self._skips if at_s < slot_s)


class TokenTimes:
    """Which moment of the processed audio a token of the slot is about."""

    def __init__(self, clock: StreamClock, protocol: StreamingProtocol) -> None:
        self._clock, self._protocol = clock, protocol

    def transcribed_s(self, index: int) -> float:
        """Return up to which time the audio is transcribed with a token."""
        return self._clock.processed_s(self._protocol.transcribed_s(index))

    def word_end_s(self, index: int) -> float:
        """Return where a word ends that starts with a token."""
        return max(0.0, self.transcribed_s(index - WORD_END_TOKENS))
