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
Keeps utterances as they were recognised, without ever holding up who recognises them.

The recorder remembers the last minute of the audio. When an utterance is final, its part of that
goes, with some tenths of a second before and after it, to a thread that writes it to a folder.
When the disk is slow, utterances wait; when too many do, they are dropped and counted. When it is
full or away, they are lost and counted, and the reason is there to be shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
import logging
import queue
import threading
from typing import Any, NamedTuple

import numpy as np

from voxtral_ros.audio.flac import flac_bytes
from voxtral_ros.audio.pcm import encode_pcm16
from voxtral_ros.audio.resample import TARGET_RATE_HZ
from voxtral_ros.recognizer.capture_folder import CaptureFolder
from voxtral_ros.recognizer.events import Transcript, Word
from voxtral_ros.recognizer.slot import SampleBuffer

_LOGGER = logging.getLogger(__name__)
_MARGIN_S = 0.5  # of audio before and after an utterance
_MOST_WAITING = 16  # utterances: 16 MB, if each is as long as they usually get, 30 s
_PRUNE_EVERY_S = 3600.0  # what is too old goes also while nobody speaks


@dataclass(frozen=True)
class CaptureStatus:
    """How keeping utterances is going, for diagnostics."""

    folder: str
    n_kept: int = 0
    n_lost: int = 0  # not kept, for whatever reason
    n_bytes: int = 0  # in the folder
    trouble: str = ''  # why the last one was not kept, '' if it was


class _Cut(NamedTuple):
    """An utterance on its way to the disk."""

    fields: dict[str, Any]
    audio: dict[str, np.ndarray]  # int16 [n]


class _Track:
    """The last part of some audio, by the places of its samples in the stream."""

    def __init__(self) -> None:
        self.end = 0  # samples of the stream until there
        self._buffer = SampleBuffer()

    def clear(self, end: int) -> None:
        self._buffer.keep(0)
        self.end = end

    def append(self, samples: np.ndarray, n_kept: int) -> None:
        self._buffer.append(samples)
        self._buffer.keep(n_kept)
        self.end += len(samples)

    @property
    def begin(self) -> int:
        return self.end - len(self._buffer)

    def part(self, begin: int, end: int) -> np.ndarray:
        """Return samples that are there; valid until the next `append`."""
        return self._buffer.peek(end - self.begin)[begin - self.begin:]


class Recorder:
    """
    Keeps the utterances of one stream at a time.

    `feed` and `keep` never wait for the disk. Times are seconds of the stream.
    """

    def __init__(self, folder: CaptureFolder, longest_s: float = 60.0) -> None:
        """
        Start the thread that writes.

        :param longest_s: from the start of an utterance to its final transcript, at most; so much
            audio is kept in memory
        """
        self.longest_s = longest_s
        self._folder = folder
        self._lock = threading.Lock()  # guards the next three
        self._audio, self._before = _Track(), _Track()
        self._last_end_s = 0.0  # where the last utterance ended
        self._n_kept = self._n_lost = 0
        self._trouble = ''
        self._waiting: queue.Queue[_Cut | None] = queue.Queue(_MOST_WAITING)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name='capture', daemon=True)
        self._thread.start()

    @property
    def status(self) -> CaptureStatus:
        return CaptureStatus(str(self._folder.path), self._n_kept, self._n_lost,
                             self._folder.n_bytes, self._trouble)

    def feed(self, samples: np.ndarray, position: int, *, before: bool = False) -> None:
        """
        Remember audio that is given to the recogniser.

        :param samples: float32 [n], 16 kHz
        :param position: how many samples of the stream came before; where some are missing, what
            was remembered is forgotten
        :param before: this is what comes before an echo canceller, which may hold it for a while:
            so the samples at some position come here before those that are recognised
        """
        n_kept = round((self.longest_s + 2 * _MARGIN_S) * TARGET_RATE_HZ)
        with self._lock:
            track = self._before if before else self._audio
            if position != track.end:
                track.clear(position)
                if not position:  # another stream begins
                    self._audio.clear(0)
                    self._before.clear(0)
                    self._last_end_s = 0.0
            track.append(samples, n_kept)

    def keep(self, transcript: Transcript, stamp_ns: Callable[[float], int],
             more: Mapping[str, Any], *, cut: bool = False) -> None:
        """
        Keep a final transcript and its audio.

        :param stamp_ns: returns the time at which a moment of the stream was captured
        :param more: what else to write down
        :param cut: other words were said right before it, and are not to be kept
        """
        with self._lock:
            begin_s = transcript.start_s - (0 if cut else _MARGIN_S)
            begin_s = max(begin_s, min(self._last_end_s, transcript.start_s))
            begin = max(round(begin_s * TARGET_RATE_HZ), self._audio.begin)
            end = min(round((transcript.end_s + _MARGIN_S) * TARGET_RATE_HZ), self._audio.end)
            self._last_end_s = transcript.end_s
            complete = begin <= round(transcript.start_s * TARGET_RATE_HZ) and begin < end
            audio = {what: encode_pcm16(track.part(begin, end))
                     for what, track in (('', self._audio), ('before', self._before))
                     if complete and track.begin <= begin and end <= track.end}
        if not complete:
            self._lose('its audio was not there any more: it was too long, or its text came too '
                       'late')
            return
        begin_s, end_s = begin / TARGET_RATE_HZ, end / TARGET_RATE_HZ
        fields = {**_fields(transcript, begin_s, end_s, stamp_ns), **more}
        try:
            self._waiting.put_nowait(_Cut(fields, audio))
        except queue.Full:
            self._lose(f'{self._folder.path} takes longer to write to than people to speak')

    def close(self, patience_s: float = 5.0) -> bool:
        """Write what waits and end the thread; return whether it has ended in time."""
        self._closed = True
        with suppress(queue.Full):  # it looks when it has written what waits
            self._waiting.put_nowait(None)
        self._thread.join(patience_s)
        return not self._thread.is_alive()

    # ---- inside ----

    def _lose(self, reason: str) -> None:
        self._n_lost += 1
        self._complain(reason)

    def _complain(self, reason: str) -> None:
        if reason != self._trouble:
            _LOGGER.warning('utterances are not kept: %s', reason)
        self._trouble = reason

    # ---- the thread ----

    def _run(self) -> None:
        self._prune()  # and say at once where nothing can be kept
        while not (self._closed and self._waiting.empty()):
            try:
                cut = self._waiting.get(timeout=_PRUNE_EVERY_S)
            except queue.Empty:
                self._prune()
                continue
            if cut is None:
                continue
            if reason := _reason(partial(self._write, cut)):
                self._lose(reason)
            else:
                self._n_kept += 1
                self._trouble = ''

    def _write(self, cut: _Cut) -> None:
        self._folder.add(cut.fields, {
            what: flac_bytes(samples, TARGET_RATE_HZ) for what, samples in cut.audio.items()})

    def _prune(self) -> None:
        if reason := _reason(self._folder.prune):
            self._complain(reason)


def _reason(action: Callable[[], None]) -> str:
    """Return why something fails, '' if it works; the thread goes on whatever happens."""
    try:
        action()
    except OSError as error:
        return f'{error.filename or "the folder"}: {error.strerror or error}'
    except Exception as error:
        _LOGGER.exception('an utterance could not be kept')
        return str(error)
    return ''


def _fields(transcript: Transcript, begin_s: float, end_s: float,
            stamp_ns: Callable[[float], int]) -> dict[str, Any]:
    """Return what a transcript says, with times from the start of its file, s, and stamps, ns."""
    def in_file(time_s: float) -> float:
        return round(time_s - begin_s, 3)

    def known(confidence: float) -> float | None:
        return None if np.isnan(confidence) else round(float(confidence), 4)

    def of_word(word: Word) -> dict[str, Any]:
        return {'text': word.text, 'end_s': in_file(word.end_s),
                'confidence': known(word.confidence)}

    return {
        'text': transcript.text, 'confidence': known(transcript.confidence),
        'start_s': in_file(transcript.start_s), 'end_s': in_file(transcript.end_s),
        'duration_s': in_file(end_s),
        'start_ns': stamp_ns(transcript.start_s), 'end_ns': stamp_ns(transcript.end_s),
        'words': [of_word(word) for word in transcript.words],
        'utterance_id': transcript.utterance_id}
