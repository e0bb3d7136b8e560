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

"""From a text frame to an event: which dialect reads it."""

from __future__ import annotations

import json

from voxtral_ros.server.dialects import openai, vllm
from voxtral_ros.server.dialects.base import Dialect
from voxtral_ros.server.events import (
    Append, Clear, ClientEvent, Commit, EventError, flag, pcm16, short)

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect for dialect in (vllm.ORIGINAL, vllm.VLLM, openai.OPENAI)}


def parse(text: str) -> ClientEvent:
    """Return the event in a text frame; raise EventError for anything that is none."""
    try:
        event = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EventError('invalid_json', f'the message is not JSON: {error}') from None
    if not isinstance(event, dict):
        raise EventError('invalid_event', 'the message is JSON, but not an object with a "type"')
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
