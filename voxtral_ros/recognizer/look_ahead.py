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
Looking ahead: what the text of a turn will be if nobody goes on, before the model writes it.

Asked after every pass, where the model is; so nothing depends on how the audio was fed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from voxtral_ros.model.protocol import TAIL_TOKENS
from voxtral_ros.recognizer.endpoint import Endpointer
from voxtral_ros.recognizer.events import Event
from voxtral_ros.recognizer.options import StreamStats
from voxtral_ros.recognizer.stream_audio import StreamAudio
from voxtral_ros.recognizer.stream_clock import StreamClock, TokenTimes
from voxtral_ros.recognizer.text import Utterance
from voxtral_ros.recognizer.transcriber import Transcriber, UtteranceIds
from voxtral_ros.recognizer.turns import Turns
from voxtral_ros.recognizer.vad import VoiceActivity

if TYPE_CHECKING:
    from voxtral_ros.recognizer.engine import Engine


_AHEAD_S = 0.24  # after the end of speech, up to where looking ahead has to come
_MORE_AHEAD = 4  # tokens at once, beyond that


class LookAhead:
    """Ends the turns of one stream early, by looking ahead."""

    def __init__(self, engine: Engine, audio: StreamAudio, voice: VoiceActivity,
                 endpointer: Endpointer, transcriber: Transcriber, turns: Turns,
                 clock: StreamClock, times: TokenTimes, ids: UtteranceIds,
                 stats: StreamStats) -> None:
        self._engine, self._audio, self._voice = engine, audio, voice
        self._endpointer, self._transcriber, self._turns = endpointer, transcriber, turns
        self._clock, self._times, self._ids, self._stats = clock, times, ids, stats

    def update(self, index: int, paused: bool) -> list[Event]:
        """
        Return what has become of the turn.

        :param index: of the last token of a pass
        :param paused: there was a pause since the pass before that ends an utterance
        """
        events: list[Event] = []
        if self._turns.is_due and self._can_look(index):
            self._turns.looked_ahead(self._look(index))
            events = self._turns.eager_end()
        if paused and self._turns.options.eager_s:
            events += self.end_known() or self._end_unknown(index)
        return events

    def end_known(self) -> list[Event]:
        """Return the final transcript of a turn that has just ended, if a look has found it."""
        ahead = self._known
        return [] if ahead is None else self._end(ahead)

    def give_up(self) -> list[Event]:
        """Return the final transcript of a turn that seems to be over: nothing more will come."""
        ahead = self._known
        if ahead is None:
            return []
        utterance = self._open_utterance or Utterance(self._ids.take(), ahead.start_s)
        return self._turns.around(utterance.publish_ahead(ahead, self._clock.fed_s))

    def _n_ahead(self, index: int) -> int:
        """Return how many tokens bring out what was said by now."""
        missing_s = self._voice.last_voiced_s + _AHEAD_S - self._times.transcribed_s(index)
        return max(0, math.ceil(missing_s / self._engine.protocol.token_s - 1e-6))

    def _can_look(self, index: int) -> bool:
        return self._n_ahead(index) + TAIL_TOKENS <= self._engine.max_tokens_ahead

    def _look(self, index: int) -> Utterance | None:
        """Return the utterance as it will be if nothing more is said; None if there is no text."""
        transcriber = self._transcriber.copy(self._ids.reserve)
        n_decoded, is_finite = 0, True
        n_more = self._n_ahead(index) or (_MORE_AHEAD if transcriber.in_group else 0)
        with self._engine.looking_ahead(self._audio.used_slot) as decode:
            while n_more:
                for token in decode(n_more):
                    is_finite = is_finite and math.isfinite(token.probability)
                    transcriber.take(token, self._times.transcribed_s(token.index),
                                     self._times.word_end_s(token.index))
                n_decoded += n_more
                n_more = min(_MORE_AHEAD, self._engine.max_tokens_ahead - n_decoded) \
                    if transcriber.in_group else 0
        self._stats.looks_ahead += 1
        self._stats.tokens_ahead += n_decoded
        # In the middle of a group the end is not known; what is no number, the stream will say.
        return transcriber.end_ahead() if is_finite and not transcriber.in_group else None

    def _end_unknown(self, index: int) -> list[Event]:
        if self._is_written or not self._can_look(index):
            return []
        ahead = self._look(index)
        self._turns.looked_ahead(ahead)
        return [] if ahead is None else self._end(ahead)

    def _end(self, ahead: Utterance) -> list[Event]:
        """Return the final transcript before all of it is written."""
        utterance, boundary_s = self._open_utterance, self._endpointer.boundary_s
        if boundary_s is None or self._is_written \
                or self._endpointer.is_after(ahead.end_s, boundary_s):
            return []  # it ends as it is written
        if utterance is None:
            utterance = Utterance(self._ids.take(), ahead.start_s)
            self._transcriber.announce(utterance, boundary_s)
        return self._turns.around(utterance.publish_ahead(ahead, self._clock.fed_s))

    @property
    def _known(self) -> Utterance | None:
        """Return the whole utterance, if the last look has found it and nobody has gone on."""
        utterance = self._open_utterance
        return self._turns.known(utterance.text if utterance else '')

    @property
    def _is_written(self) -> bool:
        """Return whether all is written; or there are words that voice activity does not find."""
        return self._endpointer.boundary_s is None \
            or self._transcriber.word_s > self._voice.last_voiced_s + _AHEAD_S

    @property
    def _open_utterance(self) -> Utterance | None:
        """Return what is being written, unless it is of the turn before."""
        utterance = self._transcriber.utterance
        return None if utterance and utterance.is_final else utterance
