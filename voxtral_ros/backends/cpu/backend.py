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

"""The step on a CPU: one call of the compiled network per pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from voxtral_ros.backends.cpu.passes import NativePasses
from voxtral_ros.backends.cuda.speculative import Drafting
from voxtral_ros.backends.eager import Tokens
from voxtral_ros.model.network import StreamState, VoxtralRealtime


class NativeStep:
    """Compiled passes over all streams."""

    def __init__(self, network: VoxtralRealtime, pad: int, max_streams: int,
                 max_chunk_tokens: int) -> None:
        """Share the weights of `network`, which must be float32 where they are not packed."""
        self.state = StreamState(network, max_streams, max_chunk_tokens)
        self.last_token = torch.zeros(max_streams, dtype=torch.int64)
        self.pad_penalty = torch.zeros(max_streams)
        self.drafting: Drafting | None = None
        self._passes = NativePasses(network, self.state, pad, self.pad_penalty, self.last_token,
                                    max_chunk_tokens)

    def prompt(self, slots: Sequence[int], windows: np.ndarray,
               given: Sequence[Sequence[int]], filled: int) -> Tokens:
        ids, chances = self._passes.prompt(slots, torch.from_numpy(windows), given)
        return [[token] for token in ids], [[chance] for chance in chances]

    def generate(self, slots: Sequence[int], windows: np.ndarray, filled: int) -> Tokens:
        return self._passes.generate(slots, torch.from_numpy(windows))

    def warm_up(self) -> None:
        pass
