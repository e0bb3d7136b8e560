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

Source: the types of the SDK `openai` 3.57, `openai.types.realtime` and `.beta.realtime`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import secrets
from types import MappingProxyType
from typing import Any

from voxtral_ros.recognizer.events import SpeechActivity, Transcript, Turn
from voxtral_ros.recognizer.phrases import DEFAULT_BOOST
from voxtral_ros.server.dialects.base import speech_event
from voxtral_ros.server.events import (
    delay, EventError, Message, pause, phrases, rate, SessionOptions, SessionUpdate, short)
from voxtral_ros.server.job import Update

RATE_HZ = 24_000  # if the format names no other
_OLD_REPLY = 'transcription_session.updated'


class OpenAIDialect:
    """A client that gets `conversation.item.input_audio_transcription...`."""

    name = 'openai'
    append_starts = bare_commit_ends = keeps_late_audio = empty_commit_is_wrong = True
    defaults: Mapping[str, Any] = MappingProxyType(
        {'sample_rate': RATE_HZ, 'utterances': True, 'turns': True})

    def __init__(self, session_id: str, model: str) -> None:
        """
        Begin a session.

        :param model: what transcribes, whatever the client asks for
        """
        self._session_id, self._model = session_id, model
        self._previous_item_id: str | None = None

    def created(self, options: SessionOptions) -> Message:
        """Return the greeting."""
        return _event('session.created', session=self._session(options))

    def transcription(self, options: SessionOptions, start_s: float) -> OpenAITranscription:
        """Begin the events of a generation."""
        return OpenAITranscription(self, options.utterances, start_s)

    def updated(self, reply: str, options: SessionOptions) -> Message | None:
        """Return the answer to session.update."""
        session = self._session
        if reply == _OLD_REPLY:
            session = self._old_session
        return _event(reply, session=session(options))

    def cleared(self) -> Message | None:
        """Return the answer to input_audio_buffer.clear."""
        return _event('input_audio_buffer.cleared')

    def committed(self, item_id: str) -> Message:
        """Return the event for audio that becomes an item, by a commit or by a pause."""
        previous, self._previous_item_id = self._previous_item_id, item_id
        return _event('input_audio_buffer.committed', item_id=item_id, previous_item_id=previous)

    def error(self, code: str, message: str, event_id: str | None = None,
              kind: str = 'invalid_request_error') -> Message:
        """Return an error event."""
        return _event('error', error={'type': kind, 'code': code, 'message': message,
                                      'param': None, 'event_id': event_id})

    def _session(self, options: SessionOptions) -> Message:
        return {**self._identity(), 'type': 'transcription', 'audio': {'input': {
            'format': {'type': 'audio/pcm', 'rate': options.sample_rate},
            'noise_reduction': None, 'transcription': self._transcription(options),
            'turn_detection': _turn_detection(options)}}}

    def _old_session(self, options: SessionOptions) -> Message:
        return {**self._identity(), 'input_audio_format': 'pcm16',
                'input_audio_transcription': self._transcription(options),
                'turn_detection': _turn_detection(options)}

    def _transcription(self, options: SessionOptions) -> Message:
        keywords = options.phrases.lines(DEFAULT_BOOST)
        return {'model': self._model, **({'keywords': keywords} if keywords else {})}

    def _identity(self) -> Message:
        return {'id': self._session_id, 'object': 'realtime.transcription_session'}


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
    utterances = silence_s = None
    for given in (new, session):
        if utterances is None and 'turn_detection' in given:
            detection = given['turn_detection']
            utterances = detection is not None
            silence_s = pause(detection) if isinstance(detection, dict) else None
    # `completed` comes when the pause is over, and not when the model has written all of it.
    return SessionUpdate(delay_ms=delay(session), utterances=utterances, turns=utterances,
                         silence_s=silence_s, sample_rate=rate_hz, dialect=OpenAIDialect.name,
                         reply=reply, **_keywords(new.get('transcription'),
                                                  session.get('input_audio_transcription')))


def _keywords(*forms: Any) -> Message:
    """Return the phrases in a transcription of the new form, or else of the old one."""
    found: Message = {}
    for form in forms:
        if isinstance(form, dict):
            found = found or phrases(form, 'keywords')
    return found


class OpenAITranscription:
    """
    The events of one generation.

    An item is an utterance if the server is to find the turns, else the whole generation.
    """

    def __init__(self, dialect: OpenAIDialect, utterances: bool, start_s: float) -> None:
        """
        Begin the first item.

        :param start_s: seconds of audio that the session had before
        """
        self._dialect, self._utterances, self._start_s = dialect, utterances, start_s
        self._text: list[str] = []
        self._item_id = _new_id('item')
        self._committed_id = ''
        self._speech: SpeechActivity | None = None  # that goes on

    def committed(self) -> Message:
        """Return the answer to a commit."""
        self._committed_id = self._item_id
        return self._dialect.committed(self._item_id)

    def events(self, update: Update) -> Iterator[Message]:
        """Yield the events for what is new."""
        for event in update.events:
            if isinstance(event, SpeechActivity):
                self._speech = event if event.active else None
                if self._utterances:
                    yield self._speech_event(event)
                continue
            if isinstance(event, Turn):
                continue
            if event.delta:
                first = self._text and event.revision == 0
                self._text.append(f' {event.delta}' if first else event.delta)
                yield self._item_event('delta', delta=self._text[-1])
            if event.is_final and self._utterances:
                yield from self._end_utterance(event)
        if update.error:
            yield self._dialect.error('processing_error', update.error, kind='server_error')
        if update.usage and (not self._utterances or self._committed_id == self._item_id):
            yield self._completed(update.usage.audio_s)

    def _end_utterance(self, event: Transcript) -> Iterator[Message]:
        if self._committed_id != self._item_id:
            yield self.committed()
        yield self._completed(event.end_s - event.start_s)
        if self._speech:  # what is being said by now belongs to the next item
            yield self._speech_event(self._speech)

    def _completed(self, audio_s: float) -> Message:
        message = self._item_event(
            'completed', transcript=''.join(self._text),
            usage={'type': 'duration', 'seconds': round(audio_s, 3)})
        self._text, self._item_id = [], _new_id('item')
        return message

    def _speech_event(self, event: SpeechActivity) -> Message:
        message = speech_event(event, self._start_s)
        return _event(message.pop('type'), item_id=self._item_id, **message)

    def _item_event(self, name: str, **fields: Any) -> Message:
        return _event(f'conversation.item.input_audio_transcription.{name}',
                      item_id=self._item_id, content_index=0, **fields)


def _turn_detection(options: SessionOptions) -> Message | None:
    if not options.utterances:
        return None
    return {'type': 'server_vad', 'silence_duration_ms': round(1000 * options.silence_s)}


def _event(kind: str, **fields: Any) -> Message:
    return {'type': kind, 'event_id': _new_id('event'), **fields}


def _new_id(kind: str) -> str:
    return f'{kind}_{secrets.token_hex(10)}'
