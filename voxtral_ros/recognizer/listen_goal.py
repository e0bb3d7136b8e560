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
One utterance out of an endless stream: which one it is, and how waiting for it ends.

The one that counts is the first in which a word ends after the goal began. So an answer is had
whole that somebody has begun before, and what was over by then is left alone, however late it is
written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
import math
import threading

from voxtral_ros.recognizer.events import Event, SpeechActivity, Transcript


class Reason(IntEnum):
    """Why a goal has ended; the values of action/Listen.action."""

    SUCCEEDED = 1
    NO_SPEECH = 2
    TIMEOUT = 3
    CANCELED = 4
    PREEMPTED = 5
    ABORTED = 6


@dataclass(frozen=True)
class Outcome:
    """How a goal has ended."""

    reason: Reason
    message: str  # the same in words; empty if it has succeeded


class ListenGoal:
    """
    Waits for one utterance.

    Events come from the thread of the recogniser; anybody may end the goal, and only the first
    who does counts.
    """

    def __init__(self, settle_s: float, on_end: Callable[[], None]) -> None:
        """
        Begin to wait; no word counts before `begin`.

        :param settle_s: so long after somebody has spoken, what was said may still be written
        :param on_end: called once, from the thread that has ended the goal
        """
        self.outcome: Outcome | None = None  # set once
        self._settle_s, self._on_end = settle_s, on_end
        self._lock = threading.Lock()
        self._stream: object = None
        self._begin_s = math.inf
        self._voiced_s = -math.inf  # where speech has last set in or stopped
        self._has_words = False

    def begin(self, stream: object, position_s: float) -> None:
        """
        Let words count that end after a position in a stream.

        :param stream: whose seconds these are; in one that follows, every word counts
        """
        self._stream, self._begin_s = stream, position_s

    def take(self, event: Event, stream: object) -> Transcript | None:
        """Take an event of a stream; return it if it is of the utterance that counts."""
        if self._begin_s == math.inf or self.outcome is not None:
            return None
        if stream is not self._stream:
            self._stream, self._begin_s, self._voiced_s = stream, -math.inf, -math.inf
        if isinstance(event, SpeechActivity):
            self._voiced_s = event.time_s
        if not isinstance(event, Transcript) or not event.text or event.end_s <= self._begin_s:
            return None
        self._has_words = True
        return event

    def spoken(self, position_s: float, speaking: bool) -> bool | None:
        """
        Return whether the utterance has begun; None where that is not known yet.

        :param position_s: in the stream, up to where there are events
        :param speaking: whether there is speech at that position
        """
        if self._has_words:
            return True
        return None if speaking or position_s - self._voiced_s < self._settle_s else False

    def end(self, reason: Reason, message: str = '') -> bool:
        """End the goal; return whether it had not ended before."""
        with self._lock:
            if self.outcome is not None:
                return False
            self.outcome = Outcome(reason, message)
        self._on_end()
        return True
