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

"""Transcripts of recordings through the streaming engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TYPE_CHECKING

from voxtral_ros.audio.block import AudioError
from voxtral_ros.audio.files import read_file
from voxtral_ros.audio.resample import resampled, TARGET_RATE_HZ
from voxtral_ros.evaluation.manifest import Recording
from voxtral_ros.recognizer.events import Event, Transcript
from voxtral_ros.recognizer.options import offline_options
from voxtral_ros.recognizer.phrases import PhraseList

if TYPE_CHECKING:
    from voxtral_ros.recognizer.engine import Engine
    from voxtral_ros.recognizer.stream import Stream


class Result(NamedTuple):
    """What became of one recording."""

    recording: Recording
    transcript: str = ''
    duration_s: float = 0.0
    error: AudioError | None = None  # why it cannot be read


def transcribe(engine: Engine, recordings: Sequence[Recording], delay_ms: float | None = None,
               side_by_side: int = 1,
               phrases: PhraseList | Callable[[Recording], PhraseList] | None = None,
               ) -> Iterator[Result]:
    """
    Transcribe recordings, `side_by_side` of them at a time, in their order.

    Those of a batch that cannot be read come before the others of it.

    :param phrases: to expect, in all recordings or in each
    """
    for at in range(0, len(recordings), side_by_side):
        processed = []
        for recording in recordings[at:at + side_by_side]:
            stream = engine.open(delay_ms, offline_options(),
                                 phrases=phrases(recording) if callable(phrases) else phrases)
            try:
                duration_s = _feed(stream, recording.path)
            except AudioError as error:
                stream.close()
                yield Result(recording, error=error)
                continue
            stream.flush()
            processed.append((stream, recording, duration_s))
        for stream, recording, duration_s in processed:
            yield Result(recording, _text(stream.poll() + stream.close()), duration_s)


def _feed(stream: Stream, path: Path) -> float:
    """Feed a file and return its length in seconds."""
    n_samples = 0
    for samples in resampled(read_file(path)):
        n_samples += len(samples)
        stream.feed(samples)
    return n_samples / TARGET_RATE_HZ


def _text(events: Iterable[Event]) -> str:
    return ' '.join(event.text for event in events
                    if isinstance(event, Transcript) and event.is_final)
