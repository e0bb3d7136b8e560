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
What a backend is: the state of all streams, and the passes of the network that advance it.

There are three: eager.py runs the network in PyTorch as it is, on any device; cpu/ runs it
compiled, with packed weights; cuda/ replays CUDA graphs of fused kernels. selection.py chooses.
All of them take and return host values, so nothing above this folder knows torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from voxtral_ros.backends.biasing import TokenTrie

# Tokens that a look ahead may take: the longest delay that is looked over, 15, then what a stream
# is flushed with after its delay, 11, and what fills the last chunk.
MAX_ROLLBACK_TOKENS = 32
DEFAULT_CHUNK_TOKENS = 8  # of 80 ms: the most that one pass takes of a stream


def kv_cache_tokens(max_chunk_tokens: int) -> int:
    """
    Return how many tokens KV caches need places for, beside the window of the first of them.

    The first token of a pass attends when the last one is written already. So does the first token
    after a rollback, when all that it takes back was written; one does for the other.
    """
    return max(max_chunk_tokens, MAX_ROLLBACK_TOKENS)


class Unbiased(NamedTuple):
    """What a token would be if no phrases were expected."""

    id: int  # noqa: A003
    probability: float
    cost: float  # by how much its logit is larger than that of the token that was chosen


class Tokens(NamedTuple):
    """What a pass has generated, for M streams and n positions."""

    ids: list[list[int]]
    probs: list[list[float]]
    unbiased: list[list[Unbiased]] | None = None  # None where no stream expects phrases


@dataclass(frozen=True)
class WeightBytes:
    """What a pass reads of the weights, in the format that the backend holds them in."""

    encoder: int  # convolutions and adapter included
    decoder: int
    head: int  # as it is read for every token


@dataclass(frozen=True)
class SpeculativeStats:
    """How speculative decoding of pads is doing."""

    enabled: bool  # whether the next backlog will be decoded that way
    n_accepted: int  # tokens so far: accepted drafts, and the one that each pass adds to them
    n_passes: int  # passes of the decoder that this took


class Backend(Protocol):
    """
    Runs one network for up to `max_streams` streams, each in a slot of its own.

    A slot has its own convolution state, KV cache, position, delay and last token. One position is
    one token of 80 ms: 1280 samples in, one text token out. A backend belongs to one thread.
    """

    max_streams: int
    max_chunk_tokens: int  # tokens of audio that one pass may take
    max_rollback_tokens: int  # tokens that a stream can be taken back by

    @property
    def device(self) -> str:
        """Return where it runs: 'cpu' or 'cuda:0'."""

    @property
    def description(self) -> str:
        """Return what runs, for people, as 'compiled for the CPU (avx512)'."""

    @property
    def weight_bytes(self) -> WeightBytes:
        """Return what a pass reads of the weights, in bytes."""

    @property
    def cache_bytes(self) -> int:
        """Return the size of the KV caches of all slots, in bytes."""

    @property
    def cache_bits(self) -> int:
        """Return the bits of a number in the KV caches: 8, 16 or 32."""

    @property
    def speculative(self) -> SpeculativeStats | None:
        """Return how speculative decoding is doing, None where there is none."""

    def reset(self, slot: int, delay: int) -> None:
        """Begin a new stream in a slot, with a delay in tokens."""

    def set_pad_penalty(self, slot: int, penalty: float) -> None:
        """Subtract this from the logit of the pad token of a stream from now on."""

    def set_phrases(self, slot: int, trie: TokenTrie | None) -> None:
        """
        Give the tokens of phrases that a stream is to expect a bias, from its next token on.

        None: nothing is expected, which costs nothing. What was saved of the slot becomes void;
        a reset forgets the phrases.
        """

    def replace_token(self, slot: int, token: int, phrase_state: int) -> None:
        """Let a stream go on with another token than the last one, and in another state."""

    def save(self, slot: int) -> None:
        """
        Remember where a stream is: position, convolution state and last token.

        This replaces what was remembered of the slot; reset and set_position make it void. From
        here to its rollback a stream is taken to look ahead.
        """

    def rollback(self, slot: int) -> None:
        """
        Take a stream back to where it was saved.

        What follows is as if the passes since then had never been, bit for bit. Pad penalties
        stay. What was saved stays, too: a stream can be taken back there again.

        :raises RuntimeError: nothing is saved, or more than max_rollback_tokens ago
        """

    def set_position(self, position: int) -> None:
        """
        Let all streams be at this position, as if they had come so far; the caches stay.

        For benchmarks and tests of streams that run for days.
        """

    def prefill(self, slots: Sequence[int], windows: np.ndarray,
                prompt_tokens: Sequence[Sequence[int]]) -> Tokens:
        """
        Pass n positions at once whose tokens are known; return what the last one predicts.

        :param slots: [M], different ones
        :param windows: float32 [M, n * 1280 + 240], overlapping by 240 samples
        :param prompt_tokens: [M][n]
        :return: [M][1]
        """

    def decode(self, slots: Sequence[int], windows: np.ndarray) -> Tokens:
        """
        Pass n positions, each with the token that the one before has predicted.

        :param slots: [M], different ones
        :param windows: float32 [M, n * 1280 + 240], overlapping by 240 samples
        :return: [M][n]
        """

    def warm_up(self) -> None:
        """Do now what would make the first passes slow."""

    def close(self) -> None:
        """Give the memory back; the backend cannot be used any more."""
