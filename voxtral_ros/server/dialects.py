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

"""From what the engine tells about one generation to the events of a dialect."""

from __future__ import annotations

from collections.abc import Iterator
import secrets
from typing import Any

from voxtral_ros.recognizer.events import SpeechActivity, Transcript, Word
from voxtral_ros.server.protocol import Message
from voxtral_ros.server.worker import Update, Usage


def error_event(code: str, message: str, openai: bool = False) -> Message:
    """Return an error as vLLM tells it, or as OpenAI does."""
    if openai:
        return {'type': 'error', 'error': {
            'type': 'invalid_request_error', 'code': code, 'message': message}}
    return {'type': 'error', 'error': message, 'code': code}


class Transcription:
    """
    The events of one generation in the names of vLLM: `delta` ..., `done`.

    The deltas joined are the text of `done`. Utterances are told as `segment` if asked for, and
    are apart by a space in the text otherwise.
    """

    def __init__(self, words: bool = False, utterances: bool = False,
                 every_token: bool = False) -> None:
        """
        Begin.

        :param every_token: send a delta per token, empty ones too, as vLLM does
        """
        self._words, self._utterances, self._every_token = words, utterances, every_token
        self._text: list[str] = []
        self._n_words = 0  # of the open utterance
        self._in_utterance = False

    def events(self, update: Update) -> Iterator[Message]:
        """Yield the events that tell an update."""
        n_empty = update.n_tokens
        for event in update.events:
            if isinstance(event, SpeechActivity):
                if self._utterances:
                    yield speech_event(event)
                continue
            if event.delta:
                n_empty -= 1
                yield self._delta(event)
            if event.is_final:
                self._in_utterance = False
                if self._utterances:
                    yield self._segment(event)
        if self._every_token:
            for _ in range(n_empty):
                yield {'type': 'transcription.delta', 'delta': ''}
        if update.error:
            yield error_event('processing_error', update.error)
        if update.usage:
            yield {'type': 'transcription.done', 'text': ''.join(self._text),
                   'usage': usage_of(update.usage)}

    def _delta(self, event: Transcript) -> Message:
        delta = event.delta
        if not self._in_utterance:
            self._in_utterance, self._n_words = True, 0
            delta = f' {delta}' if self._text else delta
        self._text.append(delta)
        message: Message = {'type': 'transcription.delta', 'delta': delta}
        if self._words:
            goes_on = self._n_words and not delta[0].isspace()
            new = event.words[self._n_words - 1 if goes_on else self._n_words:]
            message['words'] = words_of(new)
        self._n_words = len(event.words)
        return message

    def _segment(self, event: Transcript) -> Message:
        message = {'type': 'transcription.segment', 'id': event.utterance_id, 'text': event.text,
                   'start_s': round(event.start_s, 3), 'end_s': round(event.end_s, 3)}
        if self._words:
            message['words'] = words_of(event.words)
        return message


class OpenAITranscription:
    """
    The same in the names of OpenAI's transcription sessions.

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
        """Yield the events that tell an update."""
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
            yield error_event('processing_error', update.error, openai=True)
        if update.usage and (not self._utterances or self._committed_id == self._item_id):
            yield {**self._completed(), 'usage': usage_of(update.usage)}

    def _completed(self) -> Message:
        message = self._item_event('completed', transcript=''.join(self._text))
        self._text, self._item_id = [], _new_item_id()
        return message

    def _item_event(self, name: str, **fields: Any) -> Message:
        return {'type': f'conversation.item.input_audio_transcription.{name}',
                'item_id': self._item_id, 'content_index': 0, **fields}


def speech_event(event: SpeechActivity) -> Message:
    """Return OpenAI's event for speech that sets in or stops."""
    name, edge = ('started', 'start') if event.active else ('stopped', 'end')
    return {'type': f'input_audio_buffer.speech_{name}', f'audio_{edge}_ms':
            round(1000 * event.time_s)}


def words_of(words: tuple[Word, ...]) -> list[Message]:
    """Return words as JSON; times are seconds of the sound of the generation."""
    return [{'text': word.text, 'end_s': round(word.end_s, 3),
             'confidence': round(word.confidence, 4)} for word in words]


def usage_of(usage: Usage) -> Message:
    """Return the tokens of a generation as vLLM does."""
    return {'prompt_tokens': usage.prompt_tokens, 'completion_tokens': usage.completion_tokens,
            'total_tokens': usage.prompt_tokens + usage.completion_tokens,
            'prompt_tokens_details': None}


def _new_item_id() -> str:
    return f'item_{secrets.token_hex(10)}'
