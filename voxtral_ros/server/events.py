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
The events of /v1/realtime that all clients share, and the checks of their fields.

What is particular to a kind of client, in and out, stands in one module of `dialects` each;
`docs/server.md` says which one a client speaks. Nothing here keeps state.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
import json
from typing import Any

import numpy as np

from voxtral_ros.audio.block import AudioError, check_rate, Samples
from voxtral_ros.audio.resample import TARGET_RATE_HZ
from voxtral_ros.recognizer.endpoint import EndpointOptions
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.phrases import (
    DEFAULT_BOOST, MAX_BOOST, MAX_PHRASES, NO_PHRASES, PhraseError, PhraseList)
from voxtral_ros.recognizer.turns import TurnOptions

_MAX_DELAY_MS = 1e6  # not the limit of any model: only numbers that can be computed with
_MAX_PAUSE_MS = 60_000
# What pydantic, and so vLLM, takes for a flag besides JSON's own: clients have grown around it.
_FLAGS = {**dict.fromkeys(('1', 'on', 't', 'true', 'y', 'yes'), True),
          **dict.fromkeys(('0', 'off', 'f', 'false', 'n', 'no'), False)}
Message = dict[str, Any]


class EventError(ValueError):
    """An event cannot be used; `code` goes to the client besides the message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class SessionOptions:
    """What a client may choose; taken over when a generation starts."""

    delay_ms: float | None = None
    words: bool = False
    utterances: bool = False
    turns: bool = False  # look ahead, so that their end is known early
    silence_s: float = EndpointOptions.silence_s  # pause that ends an utterance
    sample_rate: int = TARGET_RATE_HZ
    phrases: PhraseList = NO_PHRASES  # these from the next utterance on

    def of_stream(self) -> StreamOptions:
        """Return the options of a stream for such a session."""
        return StreamOptions(
            endpoint=EndpointOptions(silence_s=self.silence_s),
            turns=TurnOptions() if self.turns else TurnOptions(eager_s=0))


@dataclass(frozen=True)
class SessionUpdate:
    """`session.update`: what it does not name stays None, as it was."""

    model: str | None = None
    delay_ms: float | None = None
    words: bool | None = None
    utterances: bool | None = None
    turns: bool | None = None
    silence_s: float | None = None
    sample_rate: int | None = None
    phrases: PhraseList | None = None
    default_phrases: bool = False  # expect those of the server again
    dialect: str = ''  # the one that the client speaks from now on; '' is the same as before
    reply: str = ''  # type of the event that the client waits for


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
    """`input_audio_buffer.clear`: forget the audio that is not transcribed yet."""


ClientEvent = SessionUpdate | Append | Commit | Clear


def pcm16(audio: Any) -> Samples:
    """Return base64 of PCM16, little-endian, mono, as float32 [n]."""
    if not isinstance(audio, str):
        raise EventError('processing_error', 'append needs "audio", a string: base64 of PCM16, '
                         'little-endian, mono')
    try:
        # Encoders of mail (MIME) break the lines; other characters would decode to noise.
        data = base64.b64decode(''.join(audio.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise EventError('invalid_audio', f'"audio" is not base64: {error}') from None
    if not data or len(data) % 2:
        raise EventError('invalid_audio', f'"audio" is {len(data)} bytes: PCM16 is an even number '
                         'of bytes, and not 0')
    return np.frombuffer(data, '<i2').astype(np.float32) / np.float32(32768)


def flag(event: Message, name: str) -> bool | None:
    """Return a flag of an event, None if it is not there."""
    value = event.get(name)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.lower() in _FLAGS:
        return _FLAGS[value.lower()]
    raise EventError('invalid_event', f'"{name}" is {short(value)}, expected true or false')


def delay(event: Message) -> float | None:
    """Return `delay_ms` of an event, None if it is not there."""
    value = event.get('delay_ms')
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) \
            or not 0 < value < _MAX_DELAY_MS:
        raise EventError('invalid_event', f'"delay_ms" is {short(value)}, expected milliseconds')
    return float(value)


def pause(detection: Message) -> float | None:
    """Return `silence_duration_ms` of a turn detection in seconds, None if it is not there."""
    value = detection.get('silence_duration_ms')
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) \
            or not 0 < value <= _MAX_PAUSE_MS:
        raise EventError('invalid_event', f'"silence_duration_ms" is {short(value)}, expected '
                         f'milliseconds up to {_MAX_PAUSE_MS}')
    return value / 1000


def rate(event: Message, name: str) -> int | None:
    """Return a sample rate of an event in Hz, None if it is not there."""
    value = event.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise EventError('invalid_event', f'"{name}" is {short(value)}, expected whole Hz')
    try:
        return check_rate(value)
    except AudioError as error:
        raise EventError('invalid_event', f'"{name}": {error}') from None


def phrases(event: Message, name: str) -> Message:
    """
    Return the fields of SessionUpdate for a list of phrases in an event, none if it has no list.

    `phrase_boost` beside the list is for the phrases that have no boost of their own; null instead
    of a list stands for the phrases of the server.
    """
    lines, boost = event.get(name), event.get('phrase_boost')
    if lines is None and boost is not None:
        raise EventError('invalid_phrases', '"phrase_boost" is for the phrases of the same event: '
                         f'add "{name}"')
    if lines is None:
        return {'default_phrases': True} if name in event else {}
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise EventError('invalid_phrases', f'"{name}" is {short(lines)}, expected a list of '
                         'strings')
    if len(lines) > MAX_PHRASES:  # before they are looked at: all clients would wait for that
        raise EventError('invalid_phrases', f'"{name}" has {len(lines)} entries: at most '
                         f'{MAX_PHRASES} are possible')
    if boost is None:
        boost = DEFAULT_BOOST
    elif isinstance(boost, bool) or not isinstance(boost, (int, float)) \
            or not 0 <= boost <= MAX_BOOST:
        raise EventError('invalid_phrases', f'"phrase_boost" is {short(boost)}, expected 0 to '
                         f'{MAX_BOOST:g}')
    try:
        return {'phrases': PhraseList.parse(lines, boost)}
    except PhraseError as error:
        raise EventError('invalid_phrases', f'"{name}": {error}') from None


def short(value: Any) -> str:
    """Return a value for a message, however long it is."""
    try:
        text = json.dumps(value)
    except ValueError:  # an integer of thousands of digits
        return 'a huge number'
    return text if len(text) <= 60 else f'{text[:57]}...'
