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
"""The one thing every audio source produces: a stamped block of mono samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]  # [n] mono, full scale is -1..1

MIN_RATE_HZ = 8_000
MAX_RATE_HZ = 192_000


class AudioError(ValueError):
    """Audio data, an audio format or an audio device is unusable; the message says what to do."""


@dataclass(frozen=True, eq=False)
class AudioBlock:
    """A run of consecutive samples of one microphone, message or file."""

    samples: Samples  # [n] mono, full scale is -1..1, always finite
    rate_hz: int
    stamp_ns: int | None  # capture time of the first sample, None when unstamped
    frame_id: str = ''
    n_bad: int = 0  # samples that were NaN, infinite or absurdly large and are now 0

    @property
    def duration_ns(self) -> int:
        """Return the length of the block in nanoseconds."""
        return samples_to_ns(len(self.samples), self.rate_hz)


def samples_to_ns(n_samples: int, rate_hz: int) -> int:
    """Return how many nanoseconds `n_samples` at `rate_hz` last, rounded to the nearest."""
    return (n_samples * 1_000_000_000 + rate_hz // 2) // rate_hz


def check_rate(rate_hz: int) -> int:
    """Return `rate_hz` as an int; raise AudioError unless it is 8000..192000 Hz."""
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise AudioError(
            f'sample rate {rate_hz} Hz is outside {MIN_RATE_HZ}..{MAX_RATE_HZ} Hz; '
            'check the rate that the audio source reports')
    return int(rate_hz)
