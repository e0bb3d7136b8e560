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

"""What a stream emits: transcripts that grow, and where speech starts and stops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


@dataclass(frozen=True)
class Word:
    """One recognised word; `confidence` is the probability of its tokens, 0..1."""

    text: str
    end_s: float  # of the audio since the stream was opened, about +-0.1 s
    confidence: float


def mean_confidence(confidences: Sequence[float]) -> float:
    """Return the geometric mean of the confidences of words, 0..1; NaN when there is no word."""
    if not confidences:
        return float('nan')
    product = 1.0
    for confidence in confidences:
        product *= confidence ** (1 / len(confidences))
    return product


@dataclass(frozen=True)
class Transcript:
    """The state of one utterance after a change; the last one of an utterance is final."""

    utterance_id: int  # from 1, per stream
    revision: int  # from 0, per utterance
    is_final: bool
    text: str  # only ever grows within an utterance
    delta: str  # what was appended to text since the previous revision
    words: tuple[Word, ...]
    start_s: float  # where the audio of the utterance starts
    end_s: float  # where its last word ends

    @property
    def confidence(self) -> float:
        """Geometric mean of the words' confidences, 0..1; NaN when there is no word."""
        return mean_confidence([word.confidence for word in self.words])


@dataclass(frozen=True)
class SpeechActivity:
    """Somebody has started or stopped speaking."""

    active: bool
    time_s: float


class TurnKind(IntEnum):
    """What has become of a turn; the values of msg/Turn.msg."""

    START = 0  # the first words are there
    EAGER_END = 1  # a short pause: probably it is over, and this is all of its text
    RESUMED = 2  # it was not over
    END = 3  # it is over, and its transcript is final


@dataclass(frozen=True)
class Turn:
    """Somebody has begun to speak, seems to have ended, goes on, or has ended: one utterance."""

    kind: TurnKind
    utterance_id: int
    text: str  # of EAGER_END and END: all of it
    words: tuple[Word, ...]
    start_s: float  # where the audio of the utterance starts
    end_s: float  # where speech has ended, by voice activity; of START and RESUMED: set in


Event = Transcript | SpeechActivity | Turn
