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

"""From an address and a text frame to a dialect and an event."""

from __future__ import annotations

from collections.abc import Mapping
import json

from voxtral_ros.server.dialects import openai, vllm
from voxtral_ros.server.events import (
    Append, Clear, ClientEvent, Commit, EventError, flag, Message, pcm16, short)


def dialect_of(query: Mapping[str, str]) -> str:
    """
    Return the dialect that the address of a client names, '' if it names none.

    `?intent=transcription` is OpenAI's, and such a client may begin without session.update.
    `?model=` says nothing: clients of vLLM have it too.
    """
    return openai.OpenAIDialect.name if 'intent' in query else ''


def load(text: str) -> Message:
    """Return the object in a text frame; raise EventError for anything that is none."""
    try:
        event = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EventError('invalid_json', f'the message is not JSON: {error}') from None
    if not isinstance(event, dict):
        raise EventError('invalid_event', 'the message is JSON, but not an object with a "type"')
    return event


def parse(event: Message) -> ClientEvent:
    """Return what an object means; raise EventError for what is wrong in it."""
    kind = event.get('type')
    if kind == 'input_audio_buffer.append':
        return Append(pcm16(event.get('audio')))
    if kind == 'input_audio_buffer.commit':
        return Commit(flag(event, 'final'))
    if kind == 'input_audio_buffer.clear':
        return Clear()
    if kind == 'transcription_session.update' \
            or (kind == 'session.update' and 'session' in event):
        return openai.parse_session(event.get('session'), f'{kind}d')
    if kind == 'session.update':
        return vllm.parse_session(event)
    raise EventError('unknown_event', f'unknown event type {short(kind)}: expected session.update'
                     ' or input_audio_buffer.append, .commit or .clear')
