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
vLLM's dialect, and the original's, which has the same events: what comes in, what goes out.

Source: vLLM 0.33 `entrypoints/speech_to_text/realtime/{protocol,connection}.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from voxtral_ros.recognizer.events import (
    Event, SpeechActivity, Transcript, Turn, TurnKind, Word)
from voxtral_ros.server.dialects.base import speech_event, usage_of, words_of
from voxtral_ros.server.events import (
    delay, EventError, flag, Message, phrases, rate, SessionOptions, SessionUpdate, short)
from voxtral_ros.server.job import Update


_TURN_NAMES = {TurnKind.START: 'start', TurnKind.EAGER_END: 'eager',
               TurnKind.RESUMED: 'resumed', TurnKind.END: 'end'}


@dataclass(frozen=True)
class VllmDialect:
    """Clients that get `transcription.delta` and `transcription.done`."""

    name: str
    append_starts: bool
    bare_commit_ends: bool
    keeps_late_audio: bool
    every_token: bool  # a delta per token, empty ones too
    empty_commit_is_wrong = False

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Return nothing: what was set before stays."""
        return {}

    def transcription(self, options: SessionOptions, start_s: float) -> VllmTranscription:
        """Begin the events of a generation."""
        return VllmTranscription(options.words, options.utterances, options.turns,
                                 self.every_token)

    def updated(self, reply: str, options: SessionOptions) -> Message | None:
        """Answer nothing to session.update."""
        return None

    def cleared(self) -> Message | None:
        """Answer nothing to input_audio_buffer.clear."""
        return None

    def error(self, code: str, message: str, event_id: str | None = None) -> Message:
        """Return an error event."""
        return {'type': 'error', 'error': message, 'code': code}


# session.update without a model: a bare commit ends the audio
ORIGINAL = VllmDialect('original', append_starts=True, bare_commit_ends=True,
                       keeps_late_audio=True, every_token=False)
# session.update with a model: a bare commit starts a generation
VLLM = VllmDialect('vllm', append_starts=False, bare_commit_ends=False, keeps_late_audio=False,
                   every_token=True)


def parse_session(event: Message) -> SessionUpdate:
    """Read `session.update` with its fields at the top."""
    model = event.get('model')
    if model is not None and not isinstance(model, str):
        raise EventError('invalid_event', f'"model" is {short(model)}, expected a string')
    return SessionUpdate(
        model, delay(event), flag(event, 'words'), flag(event, 'utterances'),
        flag(event, 'turns'), sample_rate=rate(event, 'sample_rate'),
        dialect='' if model is None else VLLM.name, **phrases(event, 'phrases'))


class VllmTranscription:
    """
    The events of one generation: `delta` ..., `done`.

    The deltas joined are the text of `done`. Utterances are sent as `segment` if asked for, and
    are apart by a space in the text otherwise.
    """

    def __init__(self, words: bool = False, utterances: bool = False, turns: bool = False,
                 every_token: bool = False) -> None:
        """
        Begin.

        :param turns: send what becomes of the turns
        :param every_token: send a delta per token, empty ones too, as vLLM does
        """
        self._words, self._utterances, self._turns = words, utterances, turns
        self._every_token = every_token
        self._n_ahead = 0  # deltas that were sent beyond one per token
        self._text: list[str] = []
        self._sent: tuple[Word, ...] = ()  # of the open utterance
        self._in_utterance = False

    def committed(self) -> Message | None:
        """Answer nothing to a commit."""
        return None

    def events(self, update: Update) -> Iterator[Message]:
        """Yield the events for what is new."""
        for is_token, events in update.steps():
            # A client that counts deltas knows from that how far in the audio the text is.
            n_deltas = sum(isinstance(event, Transcript) and bool(event.delta)
                           for event in events)
            self._n_ahead += n_deltas - is_token
            if self._n_ahead < 0:
                self._n_ahead = 0
                if self._every_token:
                    yield {'type': 'transcription.delta', 'delta': ''}
            for event in events:
                yield from self._event(event)
        if update.error:
            yield VLLM.error('processing_error', update.error)
        if update.usage:
            yield {'type': 'transcription.done', 'text': ''.join(self._text),
                   'usage': usage_of(update.usage)}

    def _event(self, event: Event) -> Iterator[Message]:
        if isinstance(event, SpeechActivity):
            if self._utterances:
                yield speech_event(event)
            return
        if isinstance(event, Turn):
            if self._turns:
                yield self._turn(event)
            return
        if event.delta:
            yield self._delta(event)
        if event.is_final:
            self._in_utterance = False
            if self._utterances:
                yield self._segment(event)

    def _delta(self, event: Transcript) -> Message:
        delta = event.delta
        if not self._in_utterance:
            self._in_utterance, self._sent = True, ()
            delta = f' {delta}' if self._text else delta
        self._text.append(delta)
        message: Message = {'type': 'transcription.delta', 'delta': delta}
        if self._words:
            # The last word again if it has grown.
            last = max(0, len(self._sent) - 1)
            grown = self._sent[last:] != event.words[last:len(self._sent)]
            message['words'] = words_of(event.words[last if grown else len(self._sent):])
        self._sent = event.words
        return message

    def _segment(self, event: Transcript) -> Message:
        message = {'type': 'transcription.segment', 'id': event.utterance_id, 'text': event.text,
                   'start_s': round(event.start_s, 3), 'end_s': round(event.end_s, 3)}
        if self._words:
            message['words'] = words_of(event.words)
        return message

    def _turn(self, event: Turn) -> Message:
        message: Message = {'type': f'turn.{_TURN_NAMES[event.kind]}', 'id': event.utterance_id}
        if event.kind in (TurnKind.EAGER_END, TurnKind.END):
            message['text'] = event.text
            if self._words:
                message['words'] = words_of(event.words)
        return {**message, 'start_s': round(event.start_s, 3), 'end_s': round(event.end_s, 3)}
