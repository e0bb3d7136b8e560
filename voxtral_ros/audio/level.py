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
How loud the audio is, and whether it can be audio at all.

Samples of a wrong type or byte order are still numbers: nothing fails, and nothing is recognised.
But their level gives them away. No microphone is at +84 or at -110 dBFS, and none delivers white
noise at full scale second after second.
"""

from __future__ import annotations

from collections import deque
import math
import threading

import numpy as np

from voxtral_ros.audio.block import AudioBlock, Samples

SILENCE_DBFS = -120.0  # as digital silence is shown

_SECONDS = 5  # that are looked back on
_ENOUGH = 3  # of them, so that one bang or one song is no reason
_LOUDEST_FLOAT = 4.0  # some converters overshoot full scale, but not by 12 dB
_QUIETEST_PEAK = 10 ** (-85 / 20)  # two steps of 16 bits
_FULL_RMS = 10 ** (-2 / 20)
_NOISE_RMS = 10 ** (-14 / 20)  # uniform noise of full scale has -4.8 dBFS; -12.6 as mean of six
_NOISE_LAG = 0.3  # correlation of neighbouring samples; of speech, music and fans it is more
_SPEECH_LAG = 0.5


class LevelMeter:
    """Level, amount and plausibility of the audio that comes in; for any thread."""

    def __init__(self) -> None:
        self.received_s = 0.0
        self._lock = threading.Lock()
        self._power, self._n_samples, self._peak = 0.0, 0, 0.0
        self._new: list[Samples] = []  # not measured yet: all at once costs less
        self._second: list[Samples] = []  # measured, but not judged yet
        self._second_s = 0.0  # duration of both
        self._verdicts: deque[str] = deque(maxlen=_SECONDS)

    def add(self, block: AudioBlock) -> None:
        """Take a block into account."""
        samples = block.samples
        if not len(samples):
            return
        seconds = block.duration_ns / 1e9
        with self._lock:
            self.received_s += seconds
            self._new.append(samples)
            self._second_s += seconds
            if self._second_s < 1.0:
                return
            self._measure()
            second, self._second, self._second_s = self._second, [], 0.0
        self._verdicts.append(suspect(np.concatenate(second)))

    def _measure(self) -> None:
        if not self._new:
            return
        samples = np.concatenate(self._new)
        self._new = []
        self._second.append(samples)
        self._power += float(np.dot(samples, samples))
        self._n_samples += len(samples)
        self._peak = max(self._peak, float(samples.max()), -float(samples.min()))

    def take(self) -> tuple[float, float]:
        """Return level (RMS) and peak since the last call, dBFS; NaN when nothing came."""
        with self._lock:
            self._measure()
            power, n_samples, peak = self._power, self._n_samples, self._peak
            self._power, self._n_samples, self._peak = 0.0, 0, 0.0
        if not n_samples:
            return math.nan, math.nan
        return decibel(math.sqrt(power / n_samples)), decibel(peak)

    @property
    def suspicion(self) -> str:
        """Return why most of the last seconds cannot be audio, and the likely cause; or ''."""
        verdicts = list(self._verdicts)
        if sum(map(bool, verdicts)) < _ENOUGH:
            return ''
        return next(verdict for verdict in reversed(verdicts) if verdict)


def decibel(amplitude: float) -> float:
    """Return an amplitude, 1.0 at full scale, in dBFS, at least SILENCE_DBFS."""
    return max(SILENCE_DBFS, 20 * math.log10(amplitude)) if amplitude else SILENCE_DBFS


def suspect(samples: Samples) -> str:
    """Return why a second of samples, float32 [n], cannot be audio, with the likely cause."""
    peak = float(np.abs(samples).max(initial=0.0))
    if peak == 0.0:
        return ''  # digital silence is another matter: somebody has muted it
    if peak > _LOUDEST_FLOAT:
        return (f'the samples reach {peak:.0f}, but float samples are -1 to 1: divide 16-bit '
                'values by 32768 where they are published')
    if peak < _QUIETEST_PEAK:
        return (f'the audio never exceeds {20 * math.log10(peak):.0f} dBFS, and no microphone is '
                'that quiet: are these 16-bit values in 32-bit samples (S32LE instead of S16LE)?')
    rms = math.sqrt(float(np.dot(samples, samples)) / len(samples))
    if rms > _FULL_RMS:
        return ('the audio is at full scale all the time: are these unsigned or 8-bit samples, '
                'read as signed 16-bit ones?')
    if rms > _NOISE_RMS and abs(neighbour_correlation(samples)) < _NOISE_LAG:
        return _explain_noise(samples)
    return ''


def _explain_noise(samples: Samples) -> str:
    noise = 'the audio is white noise at full scale, as from'
    if _are_floats(samples):
        return f'{noise} 32-bit float samples: convert them to 16 bits where they are published'
    swapped = (samples * 32768).astype(np.int16).byteswap().astype(np.float32)
    if neighbour_correlation(swapped) > _SPEECH_LAG:
        return (f'{noise} 16-bit samples of the other byte order (S16BE instead of S16LE), or '
                'from one byte too many or too few: swap the bytes where they are published')
    return (f'{noise} compressed data or another sample format: publish raw samples, and their '
            'format beside them')


def _are_floats(samples: Samples) -> bool:
    """Return whether 16-bit samples are audio when they are taken for halves of 32-bit floats."""
    halves = (samples[:len(samples) // 2 * 2] * 32768).astype(np.int16)
    floats = halves.view(np.float32)  # of other data one in two is larger, or none at all
    return bool(np.isfinite(floats).all()) \
        and float(np.abs(floats).max(initial=0.0)) <= _LOUDEST_FLOAT


def neighbour_correlation(samples: Samples) -> float:
    """Return the correlation of neighbouring samples, -1 to 1."""
    power = float(np.dot(samples, samples))
    return float(np.dot(samples[1:], samples[:-1])) / power if power else 0.0
