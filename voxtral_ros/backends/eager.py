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

"""The network in PyTorch, operation by operation: the reference, and the last resort."""

from __future__ import annotations

from collections.abc import Sequence
import gc
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from voxtral_ros.backends.base import (
    DEFAULT_CHUNK_TOKENS, kv_cache_tokens, MAX_ROLLBACK_TOKENS, Tokens, Unbiased, WeightBytes)
from voxtral_ros.backends.biasing import TokenTrie
from voxtral_ros.backends.rollback import SavedStreams
from voxtral_ros.model.names import part_of_pass
from voxtral_ros.model.network import VoxtralRealtime


class EagerBackend:
    """The modules of voxtral_ros.model over a StreamState, on any device and in any type."""

    speculative = None
    max_rollback_tokens = MAX_ROLLBACK_TOKENS

    def __init__(self, network: VoxtralRealtime, pad: int, max_streams: int = 1,
                 max_chunk_tokens: int = DEFAULT_CHUNK_TOKENS, int8_cache: bool = False) -> None:
        """
        Allocate the state of all streams.

        :param pad: id of the token whose logit pad penalties lower
        :param int8_cache: keys and values in INT8
        """
        self.network = network
        self.max_streams, self.max_chunk_tokens = max_streams, max_chunk_tokens
        self.state = network.new_state(
            max_streams, kv_cache_tokens(max_chunk_tokens), int8_cache)
        self._pad = pad
        self._device = network.decoder.norm.weight.device
        self._kv_len = [0] * max_streams  # on the host, so that no pass waits for the device
        self.last_token = torch.zeros(max_streams, dtype=torch.int64, device=self._device)
        self.pad_penalty = torch.zeros(max_streams, device=self._device)
        self._tries: dict[int, TokenTrie] = {}
        self._phrase_state = np.zeros(max_streams, np.int64)
        self._saved = SavedStreams((
            *self.state.conv_state, self.state.encoder_position, self.state.decoder_position,
            self.last_token, self._phrase_state))

    @property
    def device(self) -> str:
        return str(self._device)

    @property
    def description(self) -> str:
        return 'PyTorch, operation by operation'

    @property
    def weight_bytes(self) -> WeightBytes:
        sizes = {'encoder': 0, 'decoder': 0, 'head': 0}
        for name, parameter in self.network.named_parameters():
            if part := part_of_pass(name):
                sizes[part] += parameter.nbytes
        return WeightBytes(**sizes)

    @property
    def cache_bytes(self) -> int:
        return self.state.nbytes

    @property
    def cache_bits(self) -> int:
        return self.state.cache_bits

    def reset(self, slot: int, delay: int) -> None:
        with torch.inference_mode():
            scales = self.network.decoder.delay_scales(torch.tensor([delay], device=self._device))
            self.state.reset(slot, scales[:, 0])
            self.pad_penalty[slot] = 0
        self._kv_len[slot] = 0
        self.set_phrases(slot, None)

    def set_pad_penalty(self, slot: int, penalty: float) -> None:
        self.pad_penalty[slot] = penalty

    def set_phrases(self, slot: int, trie: TokenTrie | None) -> None:
        self._tries.pop(slot, None)
        if trie is not None:
            self._tries[slot] = trie
        self._phrase_state[slot] = 0
        self._saved.forget(slot)

    def replace_token(self, slot: int, token: int, phrase_state: int) -> None:
        self.last_token[slot] = token
        self._phrase_state[slot] = phrase_state

    @torch.inference_mode()
    def save(self, slot: int) -> None:
        self._saved.save(slot)

    @torch.inference_mode()
    def rollback(self, slot: int) -> None:
        n_tokens = self._saved.rollback(slot)
        self.state.clear_ahead(slot, n_tokens)
        self._kv_len[slot] -= n_tokens

    def set_position(self, position: int) -> None:
        self.state.encoder_position.fill_(position)
        self.state.decoder_position.fill_(position)
        self._kv_len = [position] * self.max_streams
        self._saved.forget_all()

    @torch.inference_mode()
    def prefill(self, slots: Sequence[int], windows: np.ndarray,
                prompt_tokens: Sequence[Sequence[int]]) -> Tokens:
        index, audio, kv_len = self._encode(slots, windows)
        tokens = torch.tensor(prompt_tokens, device=self._device)
        logits = self.network.decode(audio, tokens, self.state, index, kv_len)
        self._phrase_state[list(slots)] = 0  # whatever earlier positions have predicted
        return _tokens([self._choose(logits, index, slots)])

    @torch.inference_mode()
    def decode(self, slots: Sequence[int], windows: np.ndarray) -> Tokens:
        index, audio, kv_len = self._encode(slots, windows)
        choices = []
        for n in range(audio.shape[1]):
            logits = self.network.decode(audio[:, n:n + 1], self.last_token[index, None],
                                         self.state, index, kv_len)
            choices.append(self._choose(logits, index, slots))
        return _tokens(choices)

    def warm_up(self) -> None:
        pass

    def close(self) -> None:
        del self.network, self.state, self._saved
        gc.collect()
        if self._device.type == 'cuda':
            torch.cuda.empty_cache()

    def _encode(self, slots: Sequence[int], windows: np.ndarray) -> tuple[Tensor, Tensor, int]:
        """Return slots, audio embeddings [M, n, dim] and the length of the longest stream."""
        n_tokens = self.network.config.audio.n_tokens(windows.shape[1])
        self._saved.count(slots, n_tokens)
        for slot in slots:
            self._kv_len[slot] += n_tokens
        kv_len = max(self._kv_len[slot] for slot in slots)
        index = torch.tensor(slots, device=self._device)
        samples = torch.from_numpy(windows).to(self._device)
        return index, self.network.encode(samples, self.state, index, kv_len), kv_len

    def _choose(self, logits: Tensor, index: Tensor, slots: Sequence[int]) -> _Choices:
        """
        Take the likeliest token of each row and keep it as the next input.

        The host waits for the device only where phrases are expected.
        """
        logits = logits.float()
        logits[:, self._pad] -= self.pad_penalty[index]
        best, token = logits.max(dim=-1)
        probability = (best - logits.logsumexp(dim=-1)).exp()
        unbiased = None
        if not self._tries.keys().isdisjoint(slots):
            unbiased = [Unbiased(*choice, 0.0) for choice in zip(
                token.tolist(), probability.tolist(), strict=True)]
            for row, slot in enumerate(slots):
                if slot in self._tries:
                    token[row], probability[row], cost = self._choose_biased(logits[row], slot)
                    unbiased[row] = unbiased[row]._replace(cost=cost)
        self.last_token[index] = token
        return _Choices(token, probability, unbiased)

    def _choose_biased(self, logits: Tensor, slot: int) -> tuple[int, float, float]:
        """Return the token of one stream, its probability, and its cost as in `Unbiased`."""
        trie, state = self._tries[slot], int(self._phrase_state[slot])
        token, probability = trie.choose(logits.cpu().numpy(), state)
        self._phrase_state[slot] = trie.advance(state, token)
        return token, probability, float(logits.max() - logits[token])


class _Choices(NamedTuple):
    """The tokens of one position of all streams of a pass."""

    token: Tensor  # [M]
    probability: Tensor  # [M]
    unbiased: list[Unbiased] | None  # [M]


def _tokens(choices: list[_Choices]) -> Tokens:
    # Reading the tokens back is the one point at which the host waits for the device.
    ids = torch.stack([choice.token for choice in choices], 1).tolist()
    probs = torch.stack([choice.probability for choice in choices], 1).tolist()
    unbiased = [choice.unbiased for choice in choices if choice.unbiased]
    return Tokens(ids, probs, [list(row) for row in zip(*unbiased, strict=True)] or None)
