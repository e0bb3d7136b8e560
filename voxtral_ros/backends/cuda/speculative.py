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
Speculative decoding of pads: most tokens are pads, so draft nothing else and verify in one pass.

The input at a position is audio plus the token before it. With n tokens of audio waiting, one pass
over n positions assumes that all unknown tokens are pads; it is right up to and including the
first position that predicts something else, and the next pass starts there. Rows do not depend on
each other in any kernel, so the tokens are those of serial decoding, bit for bit. A pass costs the
same for 1 to 8 positions: reading the weights.

For one stream alone. Of many streams that keep up, each has one token waiting, and there is
nothing to draft; of many that are late, hardly ever all have pads, so that a second pass over the
others is nearly always due.
"""

from __future__ import annotations

from torch import Tensor

from voxtral_ros.backends.base import SpeculativeStats

_DECAY = 0.98  # per chunk, of the running mean
_WORTHWHILE = 0.9  # passes per token above which serial decoding is as good
_RETRY = 250  # chunks


def count_accepted(tokens: Tensor, pad: int) -> Tensor:
    """
    Return how many tokens of a pass over drafted pads are right.

    :param tokens: int64 [M, n], what the network predicts at each position
    :return: int64 [M], 1..n: up to and including the first token that is no pad
    """
    return 1 + (tokens[:, :-1] == pad).int().cumprod(dim=1).sum(dim=1)


class SpeculativeDecoding:
    """Counts how many drafted tokens are accepted, and decides whether to draft at all."""

    def __init__(self) -> None:
        self.n_accepted = 0  # tokens: accepted drafts, and the one that each pass adds to them
        self.n_passes = 0  # that this took
        self._passes_per_token = 0.5  # running mean
        self._serial = 0  # chunks to decode serially before another try

    def next_chunk(self) -> bool:
        """Return whether to draft the chunk that comes now; to be asked once per chunk."""
        if self._serial > 0:
            self._serial -= 1
            return False
        return True

    @property
    def enabled(self) -> bool:
        return self._serial == 0

    @property
    def stats(self) -> SpeculativeStats:
        return SpeculativeStats(self.enabled, self.n_accepted, self.n_passes)

    def count(self, n_accepted: int, n_passes: int) -> None:
        """Record that n tokens took some passes."""
        self.n_accepted += n_accepted
        self.n_passes += n_passes
        self._passes_per_token = _DECAY * self._passes_per_token \
            + (1 - _DECAY) * n_passes / n_accepted
        if self._passes_per_token > _WORTHWHILE:
            self._serial, self._passes_per_token = _RETRY, 0.5
