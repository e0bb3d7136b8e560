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
One pass over sound: encode n tokens of it and decode them, for some streams at once.

EagerStep runs the network as it is, on any device. FusedStep (fused_step.py) replays CUDA graphs
of the fused kernels. Both take and return host values; reading the tokens back is the one point at
which the host waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from voxtral_ros.backends.cuda.speculative import Drafting
from voxtral_ros.model.network import StreamState, VoxtralRealtime

Tokens = tuple[list[list[int]], list[list[float]]]  # ids and probabilities, [M][n]


class Step(Protocol):
    """State of all streams, and the passes that advance it."""

    state: StreamState
    last_token: Tensor  # int64 [slots], the next input
    pad_penalty: Tensor  # float32 [slots], subtracted from the logit of pad
    drafting: Drafting | None  # how that goes, where tokens are drafted

    def prompt(self, slots: Sequence[int], windows: np.ndarray,
               given: Sequence[Sequence[int]], filled: int) -> Tokens:
        """
        Pass n positions at once whose tokens are given; return what the last one predicts.

        :param slots: [M], different ones
        :param windows: float32 [M, n * 1280 + 240], overlapping by 240 samples
        :param given: [M][n]
        :param filled: tokens of the longest of these streams after this pass
        """

    def generate(self, slots: Sequence[int], windows: np.ndarray, filled: int) -> Tokens:
        """Pass n positions, each with the token that the one before has predicted."""

    def warm_up(self) -> None:
        """Do now what would make the first passes slow."""


class EagerStep:
    """The network, operation by operation."""

    def __init__(self, network: VoxtralRealtime, pad: int, max_streams: int,
                 max_chunk_tokens: int) -> None:
        self.network = network
        self.state = StreamState(network, max_streams, max_chunk_tokens)
        self._device = network.decoder.norm.weight.device
        self._pad = pad
        self.last_token = torch.zeros(max_streams, dtype=torch.int64, device=self._device)
        self.pad_penalty = torch.zeros(max_streams, device=self._device)
        self.drafting: Drafting | None = None

    def prompt(self, slots: Sequence[int], windows: np.ndarray,
               given: Sequence[Sequence[int]], filled: int) -> Tokens:
        index, audio = self._encode(slots, windows, filled)
        tokens = torch.tensor(given, device=self._device)
        logits = self.network.decode(audio, tokens, self.state, index, filled)
        token, probability = self._choose(logits, index)
        return token[:, None].tolist(), probability[:, None].tolist()

    def generate(self, slots: Sequence[int], windows: np.ndarray, filled: int) -> Tokens:
        index, audio = self._encode(slots, windows, filled)
        tokens, probabilities = [], []
        for n in range(audio.shape[1]):
            logits = self.network.decode(audio[:, n:n + 1], self.last_token[index, None],
                                         self.state, index, filled)
            token, probability = self._choose(logits, index)
            tokens.append(token)
            probabilities.append(probability)
        return torch.stack(tokens, 1).tolist(), torch.stack(probabilities, 1).tolist()

    def warm_up(self) -> None:
        pass

    def _encode(self, slots: Sequence[int], windows: np.ndarray,
                filled: int) -> tuple[Tensor, Tensor]:
        index = torch.tensor(slots, device=self._device)
        samples = torch.from_numpy(windows).to(self._device)
        return index, self.network.encode(samples, self.state, index, filled)

    def _choose(self, logits: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Take the likeliest token of each row and keep it as the next input; no host sync."""
        logits = logits.float()
        logits[:, self._pad] -= self.pad_penalty[index]
        best, token = logits.max(dim=-1)
        self.last_token[index] = token
        return token, (best - logits.logsumexp(dim=-1)).exp()
