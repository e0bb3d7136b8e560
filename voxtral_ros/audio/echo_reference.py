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
What the robot plays, at 16 kHz, laid out by the time at which it is played.

Its messages come when they come: all of a sentence at once, block by block, late, with gaps, at
another rate after a while. Here each has its place on a tape, and whoever needs what was played
at some moment reads it there; where nothing was played is silence.
"""

from __future__ import annotations

from collections import deque
import math
import threading

import numpy as np

from voxtral_ros.audio.block import Samples
from voxtral_ros.audio.gaps import Kind, Timeline
from voxtral_ros.audio.resample import Resampler, TARGET_RATE_HZ

_CHUNK = TARGET_RATE_HZ  # samples
_MOST_CHUNKS = 660  # 42 MB: more than may wait to be recognised, and a minute of what is to come
# By how much stamps jitter at most. Where they do so less, a message that was lost is noticed.
_MOST_JITTER_S, _LEAST_JITTER_S = 0.05, 0.0025
_FEW, _MANY = 8, 25  # messages to judge that by
_NO_SAMPLES = np.zeros(0, np.float32)


class Drift:
    """
    Follows a clock by single samples, which nobody notices, when it has gone off by 15 ms.

    Stamps jitter, and are not to be followed in that. A step in 160 ms makes up for 390 ppm; sound
    cards are 100 ppm apart at most.
    """

    _TOLERANCE = 240  # samples, 15 ms
    _SPACING = 2560

    def __init__(self) -> None:
        self._n_since = 0

    def steps(self, off: int, n_samples: int) -> int:
        """
        Return by how many samples to step, given how far the target is ahead.

        :param n_samples: that have passed since the last call
        """
        self._n_since = min(self._n_since + n_samples, 10 * self._SPACING + n_samples)
        if abs(off) <= self._TOLERANCE:
            return 0
        n = min(abs(off), self._n_since // self._SPACING)
        self._n_since -= n * self._SPACING
        return n if off > 0 else -n


class _Jitter:
    """Learns from stamps by how much they jitter."""

    def __init__(self) -> None:
        self._steps: deque[float] = deque(maxlen=_MANY)  # by which stamps were off, s
        self._next_s = math.nan

    def take(self, start_s: float, duration_s: float) -> float:
        """Return the jitter to be expected, s, given the next stamp."""
        expected_s, self._next_s = self._next_s, start_s + duration_s
        few = len(self._steps) < _FEW
        usual_s = _MOST_JITTER_S if few else 3 * float(np.median(self._steps))
        if abs(start_s - expected_s) < 2 * _MOST_JITTER_S:  # false for NaN
            self._steps.append(abs(start_s - expected_s))
        return min(max(usual_s, _LEAST_JITTER_S), _MOST_JITTER_S)


class Reference:
    """
    A tape of samples at 16 kHz, whose index is the time of the stamps times the rate.

    Written by one thread and read by another. Its memory is bounded, whatever the stamps say.
    """

    def __init__(self) -> None:
        """Begin without anything on the tape."""
        self._lock = threading.Lock()  # guards the chunks and the end
        self._chunks: dict[int, Samples] = {}  # by index // _CHUNK
        self._end = self._next = 0  # of what is on the tape, and of what is being written
        self._begun = False
        self._timeline: Timeline | None = None
        self._resampler: Resampler | None = None
        self._drift = Drift()
        self._jitter = _Jitter()

    @property
    def end(self) -> int:
        """Return the index behind the last sample that is known."""
        return self._end

    @property
    def begun(self) -> bool:
        """Return whether anything has come at all."""
        return self._begun

    def add(self, samples: Samples, rate_hz: int, start_s: float | None,
            received_s: float = 0.0) -> tuple[int, int]:
        """
        Lay a block down where it belongs; return the range of indices that was written.

        :param samples: float32 [n], mono
        :param start_s: when its first sample is played; None: after the block before it, or now
        :param received_s: now, where start_s is None
        :raises AudioError: the rate is outside 8..192 kHz
        """
        if self._timeline is None or self._timeline.rate_hz != rate_hz:
            timeline = Timeline(rate_hz, _MOST_JITTER_S, max_gap_s=2 * _MOST_JITTER_S)
            self._end_stream()
            self._timeline, self._resampler = timeline, Resampler(rate_hz)
            self._begun = False
        assert self._resampler is not None
        duration_ns = len(samples) * 1_000_000_000 // rate_hz
        if start_s is not None:
            self._timeline.tolerate(self._jitter.take(start_s, duration_ns / 1e9))
        # What has no stamp is played when it comes, so it begins now.
        place = self._timeline.place(
            len(samples), None if start_s is None else round(start_s * 1e9),
            round((received_s if start_s is None else start_s) * 1e9) + duration_ns)
        if place.kind in (Kind.JUMP, Kind.GAP) or not self._begun:
            self._end_stream()
            self._go_to(_index(place.stamp_ns / 1e9))
        target = _index(place.stamp_ns / 1e9 - self._resampler.delay_s)
        begin = self._next
        resampled = self._resampler.process(samples)
        self._write(_stepped(resampled, self._drift.steps(target - begin, len(resampled))))
        return begin, self._next

    def read(self, index: int, n: int) -> Samples:
        """Return what is played from an index on, float32 [n]; what is unknown is silence."""
        samples = np.zeros(n, np.float32)
        with self._lock:
            for key, at, here in _pieces(index, n):
                if key in self._chunks:
                    chunk = self._chunks[key]
                    samples[at:at + here.stop - here.start] = chunk[here]
        return samples

    def forget(self, before: int) -> None:
        """Free what lies before an index, and is not read any more."""
        with self._lock:
            for key in [key for key in self._chunks if (key + 1) * _CHUNK <= before]:
                del self._chunks[key]

    def _end_stream(self) -> None:
        """Write what the resampler still holds: what follows is elsewhere, or at another rate."""
        if self._resampler is not None and self._begun:
            self._write(self._resampler.process(_NO_SAMPLES, last=True))

    def _go_to(self, index: int) -> None:
        """Go on writing at an index; what was to be played from there on is not any more."""
        self._begun = True
        self._drift = Drift()
        with self._lock:
            for key, chunk in self._chunks.items():
                chunk[max(0, index - key * _CHUNK):] = 0.0
            self._next = self._end = index

    def _write(self, samples: Samples) -> None:
        with self._lock:
            for key, at, here in _pieces(self._next, len(samples)):
                chunk = self._chunks.get(key)
                if chunk is None:
                    chunk = self._chunks[key] = np.zeros(_CHUNK, np.float32)
                chunk[here] = samples[at:at + here.stop - here.start]
            while len(self._chunks) > _MOST_CHUNKS:
                del self._chunks[next(iter(self._chunks))]
            self._next += len(samples)
            self._end = self._next


def _index(time_s: float) -> int:
    return round(time_s * TARGET_RATE_HZ)


def _pieces(index: int, n: int) -> list[tuple[int, int, slice]]:
    """Return the chunks of a range: key, where its samples are in the range, and in the chunk."""
    pieces, at = [], 0
    while at < n:
        key, begin = divmod(index + at, _CHUNK)
        end = min(_CHUNK, begin + n - at)
        pieces.append((key, at, slice(begin, end)))
        at += end - begin
    return pieces


def _stepped(samples: Samples, steps: int) -> Samples:
    """Return samples with so many of them repeated, or left out where it is negative."""
    n = min(abs(steps), len(samples))
    if not n:
        return samples
    places = np.linspace(0, len(samples), n, endpoint=False).astype(int)
    if steps < 0:
        return np.delete(samples, places)
    return np.insert(samples, places, samples[places])
