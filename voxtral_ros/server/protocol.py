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
The events of /v1/realtime: what a client may send, checked, and what it is sent.

Three dialects share the event names of vLLM. `docs/server.md` says which one a client speaks and
what that changes; here is only what an event must look like. Nothing in this module keeps state.
Source: vLLM 0.33 `entrypoints/speech_to_text/realtime/{protocol,connection}.py`, and the OpenAI
realtime reference for transcription sessions.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
import json
from typing import Any

import numpy as np
from voxtral_ros.audio.block import AudioError, check_rate, Samples

OPENAI_RATE_HZ = 24_000
_MAX_DELAY_MS = 1e6  # not the limit of any model: only numbers that can be computed with
Message = dict[str, Any]


class EventError(ValueError):
    """An event cannot be used; `code` is what the client is told besides the message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class SessionUpdate:
    """`session.update`: what it does not name stays None, as it was."""

    model: str | None = None
    delay_ms: float | None = None
    words: bool | None = None
    utterances: bool | None = None
    sample_rate: int | None = None
    reply: str = ''  # the event that an OpenAI client waits for


@dataclass(frozen=True)
class Append:
    """`input_audio_buffer.append`: samples at the rate of the session."""

    samples: Samples


@dataclass(frozen=True)
class Commit:
    """`input_audio_buffer.commit`; a bare one has no `final`."""

    final: bool | None = None


@dataclass(frozen=True)
class Clear:
    """`input_audio_buffer.clear`: forget the sound that is not transcribed yet."""


ClientEvent = SessionUpdate | Append | Commit | Clear


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
        return Append(_samples(event.get('audio')))
    if kind == 'input_audio_buffer.commit':
        return Commit(_flag(event, 'final'))
    if kind == 'input_audio_buffer.clear':
        return Clear()
    if kind == 'transcription_session.update' \
            or (kind == 'session.update' and 'session' in event):
        return _openai_session(event.get('session'), f'{kind}d')
    if kind == 'session.update':
        return _session(event)
    raise EventError('unknown_event', f'unknown event type {_short(kind)}: expected session.update'
                     ' or input_audio_buffer.append, .commit or .clear')


def _samples(audio: Any) -> Samples:
    """Return base64 of PCM16, little-endian, mono, as float32 [n]."""
    if not isinstance(audio, str):
        raise EventError('processing_error', 'append needs "audio", a string: base64 of PCM16, '
                         'little-endian, mono')
    try:
        data = base64.b64decode(audio, validate=True)
    except (binascii.Error, ValueError) as error:
        raise EventError('invalid_audio', f'"audio" is not base64: {error}') from None
    if not data or len(data) % 2:
        raise EventError('invalid_audio', f'"audio" is {len(data)} bytes: PCM16 is an even number '
                         'of bytes, and not 0')
    return np.frombuffer(data, '<i2').astype(np.float32) / np.float32(32768)


def _session(event: Message) -> SessionUpdate:
    model = event.get('model')
    if model is not None and not isinstance(model, str):
        raise EventError('invalid_event', f'"model" is {_short(model)}, expected a string')
    return SessionUpdate(
        model, _delay(event), _flag(event, 'words'), _flag(event, 'utterances'),
        _rate(event, 'sample_rate'))


def _openai_session(session: Any, reply: str) -> SessionUpdate:
    """Read what we have of an OpenAI transcription session, of the old form and of the new."""
    if not isinstance(session, dict):
        raise EventError('invalid_event', f'"session" is {_short(session)}, expected an object')
    audio = session.get('audio')
    given = audio.get('input') if isinstance(audio, dict) else None
    new = given if isinstance(given, dict) else {}
    form = new.get('format', session.get('input_audio_format', 'pcm16'))
    rate: int | None = OPENAI_RATE_HZ
    if isinstance(form, dict):
        rate, form = _rate(form, 'rate') or OPENAI_RATE_HZ, form.get('type')
    if form not in ('pcm16', 'audio/pcm'):
        raise EventError('invalid_event', f'the audio format is {_short(form)}: only pcm16 is '
                         'supported')
    turns = new.get('turn_detection', session.get('turn_detection', {}))
    return SessionUpdate(delay_ms=_delay(session), words=_flag(session, 'words'),
                         utterances=turns is not None, sample_rate=rate, reply=reply)


def _flag(event: Message, name: str) -> bool | None:
    value = event.get(name)
    if value is not None and not isinstance(value, bool):
        raise EventError('invalid_event', f'"{name}" is {_short(value)}, expected true or false')
    return value


def _delay(event: Message) -> float | None:
    value = event.get('delay_ms')
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) \
            or not 0 < value < _MAX_DELAY_MS:
        raise EventError('invalid_event', f'"delay_ms" is {_short(value)}, expected milliseconds')
    return float(value)


def _rate(event: Message, name: str) -> int | None:
    value = event.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise EventError('invalid_event', f'"{name}" is {_short(value)}, expected whole Hz')
    try:
        return check_rate(value)
    except AudioError as error:
        raise EventError('invalid_event', f'"{name}": {error}') from None


def _short(value: Any) -> str:
    """Return a value for a message, however long it is."""
    try:
        text = json.dumps(value)
    except ValueError:  # an integer of thousands of digits
        return 'a huge number'
    return text if len(text) <= 60 else f'{text[:57]}...'
