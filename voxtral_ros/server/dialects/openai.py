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
OpenAI's dialect of transcription sessions, of the old form and of the new: in and out.

Source: the OpenAI realtime reference for transcription sessions.
"""

from __future__ import annotations

from collections.abc import Iterator
import secrets
from types import MappingProxyType
from typing import Any

from voxtral_ros.recognizer.events import SpeechActivity
from voxtral_ros.server.dialects.base import speech_event, usage_of
from voxtral_ros.server.events import (
    delay, EventError, Message, rate, SessionOptions, SessionUpdate, short)
from voxtral_ros.server.worker import Update

RATE_HZ = 24_000  # if the format names no other


class OpenAIDialect:
    """Clients that get `conversation.item.input_audio_transcription...`."""

    name = 'openai'
    append_starts = bare_commit_ends = keeps_late_audio = True
    defaults = MappingProxyType({'sample_rate': RATE_HZ, 'utterances': True})

    def transcription(self, options: SessionOptions) -> OpenAITranscription:
        """Begin the events of a generation."""
        return OpenAITranscription(options.utterances)

    def updated(self, reply: str, options: SessionOptions) -> Message | None:
        """Return the answer to session.update."""
        return {'type': reply, 'session': {
            'turn_detection': {'type': 'server_vad'} if options.utterances else None,
            'input_audio_format': 'pcm16', 'sample_rate': options.sample_rate}}

    def error(self, code: str, message: str) -> Message:
        """Return an error event."""
        return {'type': 'error', 'error': {
            'type': 'invalid_request_error', 'code': code, 'message': message}}


OPENAI = OpenAIDialect()


def parse_session(session: Any, reply: str) -> SessionUpdate:
    """
    Read what we have of a transcription session.

    :param reply: type of the event that the client waits for
    """
    if not isinstance(session, dict):
        raise EventError('invalid_event', f'"session" is {short(session)}, expected an object')
    audio = session.get('audio')
    given = audio.get('input') if isinstance(audio, dict) else None
    new = given if isinstance(given, dict) else {}
    form = new.get('format', session.get('input_audio_format', 'pcm16'))
    rate_hz = None
    if isinstance(form, dict):
        rate_hz, form = rate(form, 'rate'), form.get('type')
    if form not in ('pcm16', 'audio/pcm'):
        raise EventError('invalid_event', f'the audio format is {short(form)}: only pcm16 is '
                         'supported')
    utterances = None
    for given in (new, session):
        if utterances is None and 'turn_detection' in given:
            utterances = given['turn_detection'] is not None
    return SessionUpdate(delay_ms=delay(session), utterances=utterances, sample_rate=rate_hz,
                         dialect=OPENAI.name, reply=reply)


class OpenAITranscription:
    """
    The events of one generation.

    An item is an utterance if the server is to find the turns, else the whole generation.
    """

    def __init__(self, utterances: bool) -> None:
        self._utterances = utterances
        self._text: list[str] = []
        self._item_id = _new_item_id()
        self._committed_id = ''

    def committed(self) -> Message:
        """Return the answer to a commit."""
        self._committed_id = self._item_id
        return {'type': 'input_audio_buffer.committed', 'item_id': self._item_id,
                'previous_item_id': None}

    def events(self, update: Update) -> Iterator[Message]:
        """Yield the events for what is new."""
        for event in update.events:
            if isinstance(event, SpeechActivity):
                if self._utterances:
                    yield {**speech_event(event), 'item_id': self._item_id}
                continue
            if event.delta:
                first = self._text and event.revision == 0
                self._text.append(f' {event.delta}' if first else event.delta)
                yield self._item_event('delta', delta=self._text[-1])
            if event.is_final and self._utterances:
                yield self._completed()
        if update.error:
            yield OPENAI.error('processing_error', update.error)
        if update.usage and (not self._utterances or self._committed_id == self._item_id):
            yield {**self._completed(), 'usage': usage_of(update.usage)}

    def _completed(self) -> Message:
        message = self._item_event('completed', transcript=''.join(self._text))
        self._text, self._item_id = [], _new_item_id()
        return message

    def _item_event(self, name: str, **fields: Any) -> Message:
        return {'type': f'conversation.item.input_audio_transcription.{name}',
                'item_id': self._item_id, 'content_index': 0, **fields}


def _new_item_id() -> str:
    return f'item_{secrets.token_hex(10)}'
