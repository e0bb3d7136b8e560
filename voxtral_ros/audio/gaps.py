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
Where each block of a stream lies in time: continuous, after a gap, or somewhere else.

Capture stamps jitter, sound cards run some parts per million off the clock, and networks lose
messages. `Timeline` counts samples from an anchor and compares each stamp with the count:

* Stamps may be off by +-`jitter_s`. As the anchor may be off too, only a deviation of more
  than twice that means something.
* Smaller deviations slew the timeline towards the stamps, with a time constant of 10 s and by
  at most 1 ms per second (as ntpd does). So jitter averages out, the drift of any real sound
  card is followed with a lag below 10 ms, and stamps never run backwards.
* Later than that, up to `max_gap_s`: a gap. Samples were lost; silence keeps the place.
* Earlier than that, up to `max_gap_s`: an overlap. The block is kept, nothing is cut; the
  timeline slews. It is reported once, until stamps and timeline have come together again.
* Farther off on either side, in one step: a jump (a bag that loops, a source that paused). The
  timeline starts anew at the stamp, and the recogniser had better do the same. What gets there
  little by little are stamps that do not fit the samples: these go on without a cut.
* The same stamp as the block before it says nothing: samples alone are counted. So stamps may
  stand still, or be those of a larger block that was sent in pieces.

Blocks without a stamp are laid end to end from the time the first one was received, minus its
duration. Receive times are late by whatever the transport adds; they slew the timeline in the
same slow way. But when nothing came for over half a second, and the timeline is behind by that
much, then the source has paused (push to talk, a voice detector before it): a gap, or a jump if
it is longer than `max_gap_s`. A receive clock that was set back is a jump as well.
"""

from __future__ import annotations

from dataclasses import dataclass
import enum

import numpy as np

from voxtral_ros.audio.block import check_rate, samples_to_ns

_SLEW_TIME_NS = 10_000_000_000
_SLEW_LIMIT = 1000  # at most 1/1000 of the time that passes
_PAUSE_NS = 500_000_000  # networks hold messages up for less, mostly


class Kind(enum.Enum):
    """What a block does to the stream."""

    CONTINUOUS = 'continuous'
    GAP = 'gap'  # insert Placement.silence samples of silence before the block
    OVERLAP = 'overlap'  # stamped earlier than the samples before it allow; use it as it is
    REPEATED = 'repeated'  # stamped as the block before it: the stamp says nothing
    JUMP = 'jump'  # not the same stream any more: flush and reset before the block


@dataclass(frozen=True)
class Placement:
    """Where a block lies."""

    kind: Kind
    stamp_ns: int  # time of the block's first sample, after any silence
    silence: int = 0  # samples of silence to insert before it, at the source rate

    def filled(self, samples: np.ndarray) -> np.ndarray:
        """Return the samples of the block, float32 [n], after that silence."""
        if not self.silence:
            return samples
        return np.concatenate((np.zeros(self.silence, np.float32), samples))


class Timeline:
    """Expected stamp of the next sample of one stream."""

    def __init__(self, rate_hz: int, jitter_s: float = 0.05, max_gap_s: float = 2.0) -> None:
        """Prepare for a stream at `rate_hz`; raise AudioError for a rate outside 8..192 kHz."""
        self.rate_hz = check_rate(rate_hz)
        self.tolerate(jitter_s)
        self._max_gap_ns = max(round(1e9 * max_gap_s), self._tolerance_ns)
        self.reset()

    def tolerate(self, jitter_s: float) -> None:
        """Take stamps that are off by +-`jitter_s` for exact from now on."""
        self._tolerance_ns = round(2e9 * jitter_s)

    def reset(self) -> None:
        """Forget the stream: the next block starts a new one."""
        self._started = False
        self._anchor_ns = 0
        self._samples = 0  # since the anchor; counting keeps rounding from adding up
        self._last_ns = 0  # duration of the last block
        self._received_ns = 0  # when the last block was received
        self._stamp_ns: int | None = None  # the last one that was new
        self._since_stamp_ns = 0  # duration of the blocks since it
        self._overlapping = False

    def place(self, n_samples: int, stamp_ns: int | None, received_ns: int) -> Placement:
        """
        Place a block of `n_samples`, stamped at its first sample or not, received just now.

        Returned stamps never decrease, except at a jump.
        """
        duration_ns = samples_to_ns(n_samples, self.rate_hz)
        measured_ns = received_ns - duration_ns if stamp_ns is None else stamp_ns
        if not self._started:
            self._start(measured_ns, received_ns)
        off_ns = measured_ns - self._here_ns()
        if stamp_ns is None:
            kind = self._judge_unstamped(off_ns, received_ns, duration_ns)
        else:
            kind = self._judge(off_ns, stamp_ns)
        silence = 0
        if kind is Kind.JUMP:
            self._start(measured_ns, received_ns)
        elif kind is Kind.GAP:
            silence = round(off_ns * self.rate_hz / 1e9)
            self._samples += silence
        elif kind is not Kind.REPEATED:
            self._slew(off_ns)
        placement = Placement(kind, self._here_ns(), silence)
        self._samples += n_samples
        self._last_ns = duration_ns
        self._received_ns = received_ns
        if kind is not Kind.REPEATED:
            self._stamp_ns, self._since_stamp_ns = stamp_ns, 0
        self._since_stamp_ns += duration_ns
        return placement

    def _judge(self, off_ns: int, stamp_ns: int) -> Kind:
        """Classify a capture stamp that is `off_ns` later than expected."""
        if stamp_ns == self._stamp_ns:
            return Kind.REPEATED
        step_ns = off_ns if self._stamp_ns is None \
            else stamp_ns - self._stamp_ns - self._since_stamp_ns
        if min(abs(off_ns), abs(step_ns)) > self._max_gap_ns:
            return Kind.JUMP
        was_overlapping, self._overlapping = self._overlapping, off_ns < -self._tolerance_ns
        if off_ns > self._tolerance_ns:
            return Kind.GAP
        if self._overlapping and not was_overlapping:
            return Kind.OVERLAP
        return Kind.CONTINUOUS

    def _judge_unstamped(self, off_ns: int, received_ns: int, duration_ns: int) -> Kind:
        """Classify a receive time that makes the block `off_ns` later than expected."""
        pause_ns = received_ns - self._received_ns - duration_ns
        set_back = received_ns < self._received_ns - self._tolerance_ns
        if set_back or min(pause_ns, off_ns) > self._max_gap_ns:
            return Kind.JUMP
        return Kind.GAP if min(pause_ns, off_ns) > _PAUSE_NS else Kind.CONTINUOUS

    def _here_ns(self) -> int:
        return self._anchor_ns + samples_to_ns(self._samples, self.rate_hz)

    def _start(self, stamp_ns: int, received_ns: int) -> None:
        self.reset()
        self._started = True
        self._anchor_ns = stamp_ns
        self._received_ns = received_ns

    def _slew(self, off_ns: int) -> None:
        """Pull the timeline towards a stamp, for the time that the last block lasted."""
        limit_ns = self._last_ns // _SLEW_LIMIT
        step_ns = int(off_ns * min(self._last_ns / _SLEW_TIME_NS, 1.0))
        self._anchor_ns += max(-limit_ns, min(limit_ns, step_ns))
