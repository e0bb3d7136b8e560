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
Turns: when somebody seems to have ended, goes on, or has ended.

The model writes its delay behind the audio. So in a short pause the stream looks ahead: silence
brings out what is still to be written, and the state of the network is then taken back to where
it was. If nobody goes on, the final transcript is known at the moment that the pause is long
enough.
"""

from __future__ import annotations

from dataclasses import dataclass

from voxtral_ros.recognizer.endpoint import Endpointer
from voxtral_ros.recognizer.events import Event, Transcript, Turn, TurnKind, Word
from voxtral_ros.recognizer.stream_clock import StreamClock
from voxtral_ros.recognizer.text import Utterance
from voxtral_ros.recognizer.vad import VoiceActivity


@dataclass(frozen=True)
class TurnOptions:
    """Tuning of the turns."""

    eager_s: float = 0.25  # pause after which the stream looks ahead; 0: never
    # Pause after which an utterance ends whose text ends a sentence; 0: as any other
    punctuated_silence_s: float = 0.0


_SENTENCE_ENDS = tuple('.?!\u2026\u3002\uff01\uff1f')


class Turns:
    """Follows the turns of one stream; all times are seconds of its processed audio."""

    def __init__(self, options: TurnOptions, voice: VoiceActivity, endpointer: Endpointer,
                 clock: StreamClock) -> None:
        self.options = options
        self._voice, self._endpointer, self._clock = voice, endpointer, clock
        self._ahead: Utterance | None = None  # what looking ahead has found
        self._looked_s = 0.0  # where the pause begins that it was found in
        self._open_id: int | None = None  # of the turn that has started and not ended
        self._start_s = 0.0  # of that turn, in fed time
        self._is_eager = False  # EAGER_END was the last that was said of it

    def silence_s(self, usual_s: float) -> float:
        """Return how long a pause has to be to end the utterance."""
        punctuated_s = self.options.punctuated_silence_s
        if punctuated_s and self._is_current and self._ahead \
                and self._ahead.text.endswith(_SENTENCE_ENDS):
            return min(punctuated_s, usual_s)
        return usual_s

    @property
    def is_due(self) -> bool:
        """Return whether it is time to look ahead."""
        voice, eager_s = self._voice, self.options.eager_s
        return eager_s > 0 and self._endpointer.expects_pause and not self._is_current \
            and voice.processed_s - voice.last_voiced_s >= eager_s

    def earliest_s(self, silence_s: float) -> float:
        """
        Return the time before which there is nothing to be looked at or ended.

        :param silence_s: pause that ends an utterance
        """
        if not self.options.eager_s:
            return float('inf')
        # Speech may begin at once, and be over.
        next_s = self._voice.processed_s + self.options.eager_s
        if not self._endpointer.expects_pause:
            return next_s
        if self._is_current:
            return min(next_s, self._voice.last_voiced_s + self.silence_s(silence_s))
        return self._voice.last_voiced_s + self.options.eager_s

    def looked_ahead(self, ahead: Utterance | None) -> None:
        """Take what looking ahead has found in the present pause."""
        self._ahead, self._looked_s = ahead, self._voice.last_voiced_s

    def eager_end(self) -> list[Event]:
        """Return that the turn has probably ended, if anything was found."""
        ahead = self._ahead
        if ahead is None:
            return []
        self._is_eager = True
        words = ahead.words(self._clock.fed_s)
        return [*self._start(ahead.id, self._clock.fed_s(ahead.start_s)),
                self._turn(TurnKind.EAGER_END, ahead.id, ahead.text, words,
                           self._clock.fed_s(ahead.start_s), self._looked_s)]

    def known(self, text: str) -> Utterance | None:
        """
        Return the whole utterance, if it is known and what is written agrees with it.

        :param text: written by now
        """
        ahead = self._ahead if self._is_current else None
        return ahead if ahead and ahead.text.startswith(text) else None

    def resumed(self) -> list[Event]:
        """Return that the turn goes on, when it has not been said."""
        if not self._is_eager or self._is_current or self._open_id is None:
            return []
        self._is_eager = False
        onset_s = max(self._voice.onset_s, self._looked_s)
        return [self._turn(TurnKind.RESUMED, self._open_id, '', (), self._start_s, onset_s)]

    def ended_without_text(self) -> list[Event]:
        """End a turn of which nothing was written after all."""
        if self._open_id is None:
            return []
        turn = self._turn(TurnKind.END, self._open_id, '', (), self._start_s, self._looked_s)
        self._open_id, self._is_eager = None, False
        return [turn]

    def around(self, transcript: Transcript) -> list[Event]:
        """Return a transcript, with the start of its turn before it and the end after it."""
        events = self._start(transcript.utterance_id, transcript.start_s)
        events.append(transcript)
        if transcript.is_final:
            end_s = self._clock.fed_s(self._looked_s) if self._is_current else transcript.end_s
            events.append(Turn(TurnKind.END, transcript.utterance_id, transcript.text,
                               transcript.words, transcript.start_s, end_s))
            self._open_id, self._is_eager, self._ahead = None, False, None
        return events

    # ---- inside ----

    @property
    def _is_current(self) -> bool:
        """Return whether nobody has spoken since the last look."""
        return self._looked_s > 0 and self._looked_s == self._voice.last_voiced_s

    def _start(self, utterance_id: int, start_s: float) -> list[Event]:
        if self._open_id is not None:
            return []
        self._open_id, self._start_s = utterance_id, start_s
        return [Turn(TurnKind.START, utterance_id, '', (), start_s, start_s)]

    def _turn(self, kind: TurnKind, utterance_id: int, text: str, words: tuple[Word, ...],
              start_s: float, end_s: float) -> Turn:
        return Turn(kind, utterance_id, text, words, start_s, self._clock.fed_s(end_s))
