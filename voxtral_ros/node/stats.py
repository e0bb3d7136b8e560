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

"""What the worker of the node counts."""

from __future__ import annotations

from dataclasses import dataclass

from voxtral_ros.audio.block import AudioBlock

_MOST_STEP_S = 5.0  # between two stamps of one stream


@dataclass
class WorkerStats:
    """Counters since the worker was started."""

    processed_s: float = 0.0
    dropped_s: float = 0.0
    paused_s: float = 0.0  # of unstamped audio
    gaps: int = 0
    jumps: int = 0
    stamped: int = 0  # blocks that had a stamp
    repeated: int = 0  # of them, those with the stamp of the block before
    stamps_s: float = 0.0  # that passed between stamps
    between_stamps_s: float = 0.0  # of audio meanwhile
    bad_samples: int = 0
    failures: int = 0
    busy_s: float = 0.0
    skipped_s: float = 0.0  # of processed audio, not given to the model: nobody spoke
    idle_s: float = 0.0  # for how long nobody has spoken; 0: the model is given audio
    discarded_words: int = 0
    watchdog: int = 0  # how often it changed the pad logit or started afresh
    repetition_loops: int = 0


class StampCounter:
    """Compares what passes between stamps with the audio between them."""

    def __init__(self, stats: WorkerStats) -> None:
        """Count into `stats`."""
        self.last_ns: int | None = None  # stamp of the last block
        self._stats = stats
        self._audio_s = 0.0  # since a stamp that was new

    def count(self, block: AudioBlock) -> None:
        """Take a block into account."""
        stats, stamp_ns, last_ns = self._stats, block.stamp_ns, self.last_ns
        duration_s = block.duration_ns / 1e9
        stats.stamped += stamp_ns is not None
        if stamp_ns is not None and stamp_ns == last_ns:
            stats.repeated += 1
            self._audio_s += duration_s
            return
        if stamp_ns is not None and last_ns is not None \
                and 0 < stamp_ns - last_ns < _MOST_STEP_S * 1e9:
            stats.stamps_s += (stamp_ns - last_ns) / 1e9
            stats.between_stamps_s += self._audio_s
        self.last_ns, self._audio_s = stamp_ns, duration_s
