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

"""What a dialect of the socket is: what the events of a client mean, and how it is answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from voxtral_ros.recognizer.events import SpeechActivity, Word
from voxtral_ros.server.events import Message, SessionOptions
from voxtral_ros.server.job import Update, Usage


class Transcription(Protocol):
    """The events of one generation."""

    def events(self, update: Update) -> Iterator[Message]:
        """Yield the events for what is new."""

    def committed(self) -> Message | None:
        """Return the answer to a commit that ends the audio, None if there is none."""


class Dialect(Protocol):
    """One kind of client."""

    @property
    def name(self) -> str:
        """Return what the dialect is called."""

    @property
    def append_starts(self) -> bool:
        """Return whether the first append starts a generation; else a bare commit does."""

    @property
    def bare_commit_ends(self) -> bool:
        """Return whether a commit without `final` ends the audio."""

    @property
    def keeps_late_audio(self) -> bool:
        """Return whether audio between the end and `done` belongs to the next generation."""

    @property
    def empty_commit_is_wrong(self) -> bool:
        """Return whether a commit without audio is an error; else a text of nothing is done."""

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Return the options of a session that begins to speak this dialect."""

    def transcription(self, options: SessionOptions, start_s: float) -> Transcription:
        """
        Begin the events of a generation.

        :param start_s: seconds of audio that the session had before
        """

    def updated(self, reply: str, options: SessionOptions) -> Message | None:
        """Return the answer to session.update, None if there is none."""

    def cleared(self) -> Message | None:
        """Return the answer to input_audio_buffer.clear, None if there is none."""

    def error(self, code: str, message: str, event_id: str | None = None) -> Message:
        """
        Return an error event.

        :param event_id: what the client calls the event that was wrong
        """


def speech_event(event: SpeechActivity, start_s: float = 0.0) -> Message:
    """
    Return OpenAI's event for speech that sets in or stops.

    :param start_s: what is added to its time
    """
    name, edge = ('started', 'start') if event.active else ('stopped', 'end')
    return {'type': f'input_audio_buffer.speech_{name}', f'audio_{edge}_ms':
            round(1000 * (start_s + event.time_s))}


def words_of(words: tuple[Word, ...]) -> list[Message]:
    """Return words as JSON; times are seconds of the audio of the generation."""
    return [{'text': word.text, 'end_s': round(word.end_s, 3),
             'confidence': round(word.confidence, 4)} for word in words]


def usage_of(usage: Usage) -> Message:
    """Return the tokens of a generation as vLLM does."""
    return {'prompt_tokens': usage.prompt_tokens, 'completion_tokens': usage.completion_tokens,
            'total_tokens': usage.prompt_tokens + usage.completion_tokens,
            'prompt_tokens_details': None, 'completion_tokens_details': None}
