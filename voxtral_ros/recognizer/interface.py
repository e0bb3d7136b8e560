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
The interface of a speech recogniser: what Engine here and RemoteEngine of the client both are.

Whoever owns an engine drives it: streams are fed, and compute when they are polled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from voxtral_ros.recognizer.events import Event
from voxtral_ros.recognizer.options import StreamOptions, StreamStats
from voxtral_ros.recognizer.phrases import PhraseList


class NotFinite(RuntimeError):
    """What the network computes is not a number any more, and no text would ever come of it."""

    def __init__(self) -> None:
        super().__init__('the logits of the model are not numbers (NaN): its weights are damaged '
                         '(check them with `voxtral verify MODEL`), or too large for float16 '
                         '(take dtype bfloat16 or float32)')


class ServerAway(RuntimeError):
    """The server that recognises cannot be reached, and nobody waits for it any longer."""


@dataclass(frozen=True)
class EngineStats:
    """What passes over live audio were like since the engine was made; NaN before the first."""

    tokens_per_pass: float  # of a stream; 1 where every block of 80 ms is computed at once
    speculative: bool  # whether several waiting tokens are decoded in one pass now
    accepted_per_pass: float  # tokens, of passes of the decoder over drafted ones


@dataclass(frozen=True)
class LinkStatus:
    """How the connection to a server is doing, for diagnostics."""

    state: str = 'connecting'  # connected, down, closed
    since: float = 0.0  # time.monotonic()
    error: str = ''  # why it is down, or was last
    connects: int = 0
    waiting_s: float = 0.0  # audio whose text is not complete
    dropped_s: float = 0.0  # audio that was given up
    url: str = ''  # of the server in use, or that was tried last
    early_ends: int = 0  # texts that the server ended before their audio; the rest was sent again


class SpeechStream(Protocol):
    """One speaker's endless audio, 16 kHz; belongs to the thread of its engine."""

    options: StreamOptions
    stats: StreamStats

    def feed(self, samples: np.ndarray, *, finite: bool = False) -> None:
        """Queue float32 samples, -1..1; with `finite` there is no NaN among them for sure."""

    def poll(self) -> list[Event]:
        """Compute what was fed and return what is new."""

    def flush(self) -> None:
        """Bring out the text of all that was fed and end the utterance; the stream goes on."""

    def tune(self, options: StreamOptions) -> None:
        """Take over other options, for what is computed from now on."""

    def set_phrases(self, phrases: PhraseList) -> None:
        """Expect other phrases from the next utterance on, or at once where none has begun."""

    def close(self) -> list[Event]:
        """Flush, return the last events and end the stream."""

    def abandon(self) -> list[Event]:
        """End the stream at once; what was recognised by now is final and returned."""


class SpeechEngine(Protocol):
    """Opens streams."""

    # Called from another thread when a stream has something to poll although it was not fed.
    on_update: Callable[[], None] | None

    @property
    def description(self) -> str:
        """Return what recognises, and where."""

    @property
    def stats(self) -> EngineStats | None:
        """Return how passes are going, None if they are made elsewhere."""

    @property
    def link(self) -> LinkStatus | None:
        """Return how the connection is doing, None if there is none."""

    def open(self, delay_ms: float | None = None,  # noqa: A003
             options: StreamOptions | None = None, *,
             utterance_ids: Iterator[int] | None = None, start_s: float = 0.0,
             phrases: PhraseList | None = None) -> SpeechStream:
        """
        Open a stream.

        :param delay_ms: how far the text may lag behind the audio; None is the model's own
        :param utterance_ids: ids of the utterances, in order; None counts from 1
        :param start_s: time of the first sample, in the events
        :param phrases: to expect; None: none
        """

    def prepare_phrases(self, phrases: PhraseList) -> None:
        """
        Find the tokens of phrases, so that no stream has to wait for that later.

        From any thread. A thousand phrases take about a second.

        :raises ValueError: the model cannot expect phrases
        """

    def warm_up(self) -> None:
        """Do now what would make the first seconds slow."""

    def close(self) -> None:
        """Give back all that was taken; the engine cannot be used any more."""
