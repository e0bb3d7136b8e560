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
"""Any sample rate to the recogniser's 16 kHz, while the audio is still arriving."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from voxtral_ros.audio.block import AudioBlock, AudioError, check_rate, Samples

TARGET_RATE_HZ = 16_000


class Resampler:
    """
    Streaming resampler of one mono stream (soxr, quality HQ: linear phase, passband to 91 %).

    The output does not depend on how the input is cut into blocks, and after the last block
    it has exactly round(n_in * target / source) samples. Equal rates pass through untouched.
    """

    def __init__(self, source_rate_hz: int, target_rate_hz: int = TARGET_RATE_HZ) -> None:
        """Prepare for one stream; raise AudioError for a rate outside 8..192 kHz."""
        self.source_rate_hz = check_rate(source_rate_hz)
        self.target_rate_hz = check_rate(target_rate_hz)
        self.reset()

    @property
    def delay_s(self) -> float:
        """
        Return how many seconds of input are held inside and not yet in the output.

        The next output sample belongs to the time of the next input sample minus this.
        """
        behind = self._n_in * self.target_rate_hz - self._n_out * self.source_rate_hz
        return behind / (self.source_rate_hz * self.target_rate_hz)

    def process(self, samples: Samples, last: bool = False) -> Samples:
        """
        Take float32 `samples` [n] at the source rate, return what is ready at the target rate.

        `last` drains the delayed tail and makes the resampler ready for a new stream.
        With equal rates the very same array comes back. Raise AudioError unless [n].
        """
        if samples.ndim != 1:
            raise AudioError(f'expected mono samples [n], got shape {list(samples.shape)}')
        self._n_in += len(samples)
        out = samples
        if self._stream is not None:
            out = self._stream.resample_chunk(
                np.ascontiguousarray(samples, np.float32), last=last)
        if last:
            out = self._fit(out)
            self.reset()
        else:
            self._n_out += len(out)
        return out

    def reset(self) -> None:
        """Forget everything so far, the delayed tail included."""
        self._n_in = 0
        self._n_out = 0
        # A new stream costs 25 us, and leaves no doubt about what clear() keeps.
        self._stream = None if self.source_rate_hz == self.target_rate_hz else (
            soxr.ResampleStream(
                self.source_rate_hz, self.target_rate_hz, 1, dtype='float32', quality='HQ'))

    def _fit(self, tail: Samples) -> Samples:
        """Make the total length exact: soxr rounds halves up, Python to even."""
        missing = (
            round(self._n_in * self.target_rate_hz / self.source_rate_hz)
            - self._n_out - len(tail))
        if missing > 0:
            return np.concatenate([tail, np.zeros(missing, np.float32)])
        return tail[:len(tail) + missing]


def resampled(blocks: Iterable[AudioBlock]) -> Iterator[Samples]:
    """Yield the samples of blocks of one rate at 16 kHz, the delayed tail at the end."""
    resampler = None
    for block in blocks:
        resampler = resampler or Resampler(block.rate_hz)
        yield resampler.process(block.samples)
    if resampler:
        yield resampler.process(np.zeros(0, np.float32), last=True)
