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

import numpy as np
import torch
from torch import Tensor

from voxtral_ros.backends.base import kv_cache_tokens, MAX_ROLLBACK_TOKENS, Tokens, WeightBytes
from voxtral_ros.backends.rollback import SavedStreams
from voxtral_ros.model.names import part_of_pass
from voxtral_ros.model.network import VoxtralRealtime


class EagerBackend:
    """The modules of voxtral_ros.model over a StreamState, on any device and in any type."""

    speculative = None
    max_rollback_tokens = MAX_ROLLBACK_TOKENS

    def __init__(self, network: VoxtralRealtime, pad: int, max_streams: int = 1,
                 max_chunk_tokens: int = 8) -> None:
        """
        Allocate the state of all streams.

        :param pad: id of the token whose logit pad penalties lower
        """
        self.network = network
        self.max_streams, self.max_chunk_tokens = max_streams, max_chunk_tokens
        self.state = network.new_state(max_streams, kv_cache_tokens(max_chunk_tokens))
        self._pad = pad
        self._device = network.decoder.norm.weight.device
        self._kv_len = [0] * max_streams  # on the host, so that no pass waits for the device
        self.last_token = torch.zeros(max_streams, dtype=torch.int64, device=self._device)
        self.pad_penalty = torch.zeros(max_streams, device=self._device)
        self._saved = SavedStreams((
            *self.state.conv_state, self.state.encoder_position, self.state.decoder_position,
            self.last_token))

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

    def reset(self, slot: int, delay: int) -> None:
        with torch.inference_mode():
            scales = self.network.decoder.delay_scales(torch.tensor([delay], device=self._device))
            self.state.reset(slot, scales[:, 0])
            self.pad_penalty[slot] = 0
        self._kv_len[slot] = 0
        self._saved.forget(slot)

    def set_pad_penalty(self, slot: int, penalty: float) -> None:
        self.pad_penalty[slot] = penalty

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
        token, probability = self._argmax(logits, index)
        return token[:, None].tolist(), probability[:, None].tolist()

    @torch.inference_mode()
    def decode(self, slots: Sequence[int], windows: np.ndarray) -> Tokens:
        index, audio, kv_len = self._encode(slots, windows)
        tokens, probabilities = [], []
        for n in range(audio.shape[1]):
            logits = self.network.decode(audio[:, n:n + 1], self.last_token[index, None],
                                         self.state, index, kv_len)
            token, probability = self._argmax(logits, index)
            tokens.append(token)
            probabilities.append(probability)
        # Reading the tokens back is the one point at which the host waits for the device.
        return torch.stack(tokens, 1).tolist(), torch.stack(probabilities, 1).tolist()

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

    def _argmax(self, logits: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Take the likeliest token of each row and keep it as the next input; no host sync."""
        logits = logits.float()
        logits[:, self._pad] -= self.pad_penalty[index]
        best, token = logits.max(dim=-1)
        self.last_token[index] = token
        return token, (best - logits.logsumexp(dim=-1)).exp()
