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
Pad drafting: most tokens are pads, so guess that all are and check the guess in one pass.

The input at a position is sound plus the token before it. With n tokens of sound waiting, one pass
over n positions assumes that all unknown tokens are pads; it is right up to and including the
first position that predicts something else, and the next pass starts there. Rows do not depend on
each other in any kernel, so the tokens are those of serial decoding, bit for bit. A pass costs
the same for 1 to 8 positions: reading the weights.

For one stream alone. Of many streams that keep up, each has one token waiting, and there is
nothing to draft; of many that are late, hardly ever all have pads, so that a second pass over the
others is nearly always due.
"""

from __future__ import annotations

_FORGET = 0.98  # per pass over waiting sound
_LIMIT = 0.9  # passes per token above which serial decoding is as good
_RETRY = 250  # tokens


class Drafting:
    """Counts how often the draft is right, and says whether it pays."""

    def __init__(self) -> None:
        self.n_tokens = 0  # decoded with drafts
        self.n_passes = 0  # that this took
        self._recent = 0.5  # passes per token
        self._rest = 0  # tokens to decode serially before another try

    @property
    def pays(self) -> bool:
        """Return whether to draft now; asked once per chunk."""
        if self._rest > 0:
            self._rest -= 1
            return False
        return True

    @property
    def is_on(self) -> bool:
        return self._rest == 0

    def count(self, n_tokens: int, n_passes: int) -> None:
        """Record that n tokens took some passes."""
        self.n_tokens += n_tokens
        self.n_passes += n_passes
        self._recent = _FORGET * self._recent + (1 - _FORGET) * n_passes / n_tokens
        if self._recent > _LIMIT:
            self._rest, self._recent = _RETRY, 0.5
