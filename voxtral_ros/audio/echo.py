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
Takes the robot's own voice out of what its microphone picks up.

The canceller needs what is played at the moment at which it comes back through the room, or
before. So the audio of the microphone waits a little for its reference, and both are aligned by
their stamps; what is left of the delay, the canceller finds by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
import math
import threading

import numpy as np

from voxtral_ros.audio.block import Samples
from voxtral_ros.audio.echo_meter import EchoMeter, FRAME, FRAME_MS
from voxtral_ros.audio.echo_processor import EchoProcessor
from voxtral_ros.audio.echo_reference import Drift, Reference
from voxtral_ros.audio.resample import TARGET_RATE_HZ

# An echo must come after its reference: this is read so much ahead of its stamps, which need not
# be exact then. WebRTC's canceller finds echoes up to 500 ms late by itself. Speex's has a room of
# 256 ms, of which an echo may be 10 to 200 ms late: where it is later, the reference is read
# elsewhere once the delay is known, and both have to learn anew.
_AHEAD_MS = 40
_LEAST_LAG, _MOST_LAG, _GOOD_LAG = 1, 20, 3  # frames
# Samples for which the audio waits: for a reference that is not late, and that may come later.
_WAIT, _MARGIN = TARGET_RATE_HZ // 10, TARGET_RATE_HZ // 50
_REMEMBERED = 60 * TARGET_RATE_HZ  # for which a late reference is waited for, samples
_JUMP = TARGET_RATE_HZ // 10  # samples: stamps that are off by more are of another time
_MOST_HELD = 4 * TARGET_RATE_HZ  # samples, whatever a clock says
_NO_SAMPLES = np.zeros(0, np.float32)


@dataclass(frozen=True)
class EchoOptions:
    """What is done to the audio; each by itself."""

    echo_cancellation: bool = False
    noise_suppression: bool = False
    gain_control: bool = False
    wait_s: float = 0.6  # for which the audio waits for its reference at most

    @property
    def enabled(self) -> bool:
        """Return whether anything is done at all."""
        return self.echo_cancellation or self.noise_suppression or self.gain_control


@dataclass(frozen=True)
class EchoStats:
    """How the canceller does; NaN is unknown."""

    delay_ms: float = math.nan  # from the stamp of the reference to that of its echo
    erle_db: float = math.nan  # echo return loss enhancement: by how much it is weaker
    wait_s: float = 0.0  # for which the audio waits where there is no reference
    late_s: float = 0.0  # reference that came after its time, and was not used
    lateness_s: float = 0.0  # by how much the last of it was late
    missing_s: float = math.nan  # audio that had no reference since the last that had; NaN: all


class _Patience:
    """For how many samples the audio waits: as late as the reference came in the last minute."""

    def __init__(self, most_s: float) -> None:
        self._most = round(most_s * TARGET_RATE_HZ)
        self._least = min(_WAIT, self._most)
        self._now = self._before = self._since = 0

    @property
    def wait(self) -> int:
        needed = max(self._now, self._before) + _MARGIN
        return min(max(self._least, needed), self._most)

    def note(self, late: int, n_in: int) -> None:
        """Note how late a reference came, when so many samples had come in."""
        if n_in - self._since > _REMEMBERED // 2:
            self._before, self._now, self._since = self._now, 0, n_in
        self._now = max(self._now, late)


class EchoCanceller:
    """
    Processes the audio of a microphone, 16 kHz mono, in frames of 10 ms.

    What comes out are the same samples at the same time, as many and in the same order, only
    later: some are held until their reference is there. `process`, `poll` and `drain` are called
    by one thread, `add_reference` by any.
    """

    def __init__(self, options: EchoOptions, steady_s: Callable[[], float] | None = None) -> None:
        """
        Load the library.

        :param steady_s: clock on which the reference may take as long as in the time of the
            audio, which may pass faster; None: only the time of the audio counts
        :raises AudioError: the library is not installed
        """
        self.options = options
        self._processor = EchoProcessor(
            options.echo_cancellation, options.noise_suppression, options.gain_control)
        self._steady_s = steady_s
        self._delay = self._processor.delay  # samples, which we make up for
        self._reference = Reference()
        self._lock = threading.Lock()  # guards what references are measured by, down to _patience
        # Indices in the reference: of the first sample that is held, where reading began.
        self._read = self._first = 0
        self._late_s = self._lateness_s = 0.0
        self._patience = _Patience(options.wait_s)
        self._meter = EchoMeter()
        self._ahead = _AHEAD_MS * TARGET_RATE_HZ // 1000
        self._held = _NO_SAMPLES
        self._arrivals: deque[tuple[int, float]] = deque()  # samples until then, and when
        self._n_in = self._n_out = 0  # samples that came, and went into the library
        self._missing: int | None = None  # samples without a reference
        self._placed = False
        self._drift = Drift()
        self._n_skip = self._delay  # samples of the result that come before the first

    @property
    def stats(self) -> EchoStats:
        """Return how it does."""
        lag = self._meter.lag
        ahead_ms = 1000 * self._ahead / TARGET_RATE_HZ
        return EchoStats(
            delay_ms=math.nan if lag is None else lag * FRAME_MS - ahead_ms,
            erle_db=self._meter.erle_db, wait_s=self._patience.wait / TARGET_RATE_HZ,
            late_s=self._late_s, lateness_s=self._lateness_s,
            missing_s=math.nan if self._missing is None else self._missing / TARGET_RATE_HZ)

    @property
    def waits(self) -> bool:
        """Return whether audio waits for its reference."""
        return len(self._held) >= FRAME

    @property
    def held(self) -> int:
        """Return how many samples have come in that have not come out."""
        return len(self._held) + self._delay - self._n_skip

    def add_reference(self, samples: Samples, rate_hz: int, start_s: float | None,
                      received_s: float = 0.0) -> None:
        """
        Take what is played.

        :param samples: float32 [n], mono
        :param rate_hz: 8000..192000; it may change
        :param start_s: when it is played, on the clock of `process`; None: when it is received
        :param received_s: when that was, on the same clock
        :raises AudioError: for another rate
        """
        if not self.options.echo_cancellation:
            return
        with self._lock:
            begin, end = self._reference.add(samples, rate_hz, start_s, received_s)
            if not self._placed:
                return
            self._patience.note(self._read + len(self._held) - begin, self._n_in)
            late = min(self._read, end) - max(begin, self._first)
            if late > 0:
                self._late_s += late / TARGET_RATE_HZ
                self._lateness_s = (self._read - begin) / TARGET_RATE_HZ

    def process(self, samples: Samples, start_s: float) -> Samples:
        """
        Take samples that follow those before, and return what is ready.

        :param samples: float32 [n], 16 kHz
        :param start_s: when the first of them was captured; it may drift, and jump
        """
        self._place(start_s, len(samples))
        self._held = np.concatenate((self._held, samples))
        self._n_in += len(samples)
        if self._steady_s is not None and self.options.echo_cancellation:
            self._arrivals.append((self._n_in, self._steady_s()))
        return self.poll()

    def poll(self) -> Samples:
        """Return what has become ready, since a reference has come."""
        return self._advance(self._n_ready())

    def drain(self) -> Samples:
        """Return all that is held, although its reference has not come."""
        n_held = self.held
        if not n_held:
            return _NO_SAMPLES
        rest = -(len(self._held) + self._delay) % FRAME
        self._held = np.concatenate((self._held, np.zeros(self._delay + rest, np.float32)))
        result = self._advance(len(self._held) // FRAME)[:n_held]
        # The library still has what it was given beyond the end; the next sample is a new one.
        self._n_skip = self._delay
        self._arrivals.clear()
        self._n_in = self._n_out
        self._placed = False
        return result

    def _place(self, start_s: float, n: int) -> None:
        """Read the reference where the stamps say, or follow these slowly."""
        with self._lock:
            wanted = round(start_s * TARGET_RATE_HZ) + self._ahead - len(self._held)
            off = wanted - self._read
            if not self._placed or abs(off) > _JUMP:
                self._read = self._first = wanted
                self._placed = True
                self._drift = Drift()
            else:
                self._read += self._drift.steps(off, n)

    def _n_ready(self) -> int:
        """Return how many frames need not wait any longer."""
        n_held = len(self._held)
        if not self.options.echo_cancellation:
            return n_held // FRAME
        covered = self._reference.end - self._read
        wait = self._patience.wait
        waited = n_held - wait
        if self._steady_s is not None:
            before_s = self._steady_s() - wait / TARGET_RATE_HZ
            waited = min(waited, self._n_arrived(before_s) - self._n_out)
        n = max(covered, waited, n_held - _MOST_HELD)
        return max(0, min(n, n_held)) // FRAME

    def _n_arrived(self, time_s: float) -> int:
        """Return how many samples had come by then."""
        arrivals = self._arrivals
        while len(arrivals) > 1 and (arrivals[1][1] <= time_s or arrivals[0][0] <= self._n_out):
            arrivals.popleft()
        return arrivals[0][0] if arrivals and arrivals[0][1] <= time_s else 0

    def _advance(self, n_frames: int) -> Samples:
        """Process frames, as many at once as are read in one go whatever the audio comes in."""
        out = [_NO_SAMPLES]
        while n_frames:
            n = min(n_frames, self._meter.n_until_estimate)
            out.append(self._process(n * FRAME))
            n_frames -= n
        return np.concatenate(out)

    def _process(self, n: int) -> Samples:
        near, self._held = self._held[:n], self._held[n:]
        if not self.options.echo_cancellation:
            return self._skip(self._processor.process(near, near))
        with self._lock:
            begin, self._read = self._read, self._read + n
            n_known = min(max(self._reference.end - begin, 0), n)
            far = self._reference.read(begin, n)
        self._reference.forget(begin - TARGET_RATE_HZ)
        self._n_out += n
        if n_known:
            self._missing = n - n_known
        elif self._missing is not None:
            self._missing += n
        out = self._processor.process(near, far)
        self._meter.add(near, far, out)
        self._correct()
        return self._skip(out)

    def _skip(self, out: Samples) -> Samples:
        n, self._n_skip = self._n_skip, max(0, self._n_skip - len(out))
        return out[n:]

    def _correct(self) -> None:
        """Read the reference elsewhere, when its echo comes when the canceller cannot find it."""
        lag = self._meter.lag
        if lag is None or _LEAST_LAG <= lag <= _MOST_LAG:
            return
        later = (_GOOD_LAG - lag) * FRAME
        with self._lock:
            self._ahead += later
            self._read += later
            self._first = self._read
        self._meter.forget_lag()
