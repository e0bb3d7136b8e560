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
The step on a GPU: one CUDA graph per shape, replayed.

An eager step is some 700 launches, which takes the CPU of a small board longer than the sound
lasts. Captured, it is one launch: sound and slots are copied into fixed places, clocks and ring
offsets live on the device, each token feeds the next position there, and a few numbers come back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from voxtral_ros.backends.cuda.network import FusedNetwork
from voxtral_ros.backends.cuda.speculative import Drafting
from voxtral_ros.backends.eager import Tokens
from voxtral_ros.model.network import StreamState, VoxtralRealtime


@dataclass
class Captured:
    """A graph and the places that it reads from and writes to."""

    graph: torch.cuda.CUDAGraph
    inputs: dict[str, Tensor]  # on the device
    staging: dict[str, Tensor]  # the same, in pinned memory
    outputs: list[Tensor]  # on the device
    results: list[Tensor]  # the same, in pinned memory


class FusedStep:
    """Passes as replays of CUDA graphs, captured when a shape first appears or by warm_up."""

    def __init__(self, network: VoxtralRealtime, pad: int, special: list[int], max_streams: int,
                 max_chunk_tokens: int, drafting: bool = True) -> None:
        """
        Take the weights of `network`, see FusedNetwork, and allocate the state.

        :param drafting: with one stream, decode several waiting tokens in one pass (see Drafting)
        """
        self._spare = max_streams  # the slot of rows that are not needed
        self._max_chunk = max_chunk_tokens
        self.state = StreamState(network, max_streams, max_chunk_tokens, n_spare=1)
        self._fused = FusedNetwork(network, self.state, pad, special)
        self._device = network.decoder.norm.weight.device
        self._pad = pad
        self._context = network.mel.context
        self._hop = network.config.audio.hop_length * 2 * network.config.downsample_factor
        self.last_token = torch.zeros(max_streams + 1, dtype=torch.int64, device=self._device)
        self.pad_penalty = torch.zeros(max_streams + 1, device=self._device)
        self._audio = torch.zeros(1, max_chunk_tokens, network.config.decoder.dim,
                                  dtype=network.decoder.norm.weight.dtype, device=self._device)
        self._graphs: dict[tuple[str, int, int], Captured] = {}
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(self._device)
        self.drafting = Drafting() if drafting else None

    def prompt(self, slots: Sequence[int], windows: np.ndarray,
               given: Sequence[Sequence[int]], filled: int) -> Tokens:
        n_tokens = self._n_tokens(windows)
        captured = self._captured('prompt', len(slots), n_tokens)
        captured.staging['given'].fill_(self._pad)[:len(slots)] = torch.tensor(given)
        tokens, probabilities = self._replay(captured, slots, windows)
        return tokens[:len(slots)].tolist(), probabilities[:len(slots)].tolist()

    def generate(self, slots: Sequence[int], windows: np.ndarray, filled: int) -> Tokens:
        n_tokens = self._n_tokens(windows)
        if self.drafting and len(slots) == 1 and n_tokens > 1 and self.drafting.pays:
            return self._generate_drafted(slots, windows, n_tokens)
        captured = self._captured('generate', len(slots), n_tokens)
        tokens, probabilities = self._replay(captured, slots, windows)
        return tokens[:len(slots)].tolist(), probabilities[:len(slots)].tolist()

    def warm_up(self) -> None:
        """Capture the graphs of all chunk lengths for one stream, and of one token for many."""
        for n_tokens in range(1, self._max_chunk + 1):
            for kind in ('prompt', 'generate', *(('draft', 'verify') if self.drafting else ())):
                self._captured(kind, 1, n_tokens)
        for n_streams in range(2, self._spare + 1):
            self._captured('generate', n_streams, 1)

    def _n_tokens(self, windows: np.ndarray) -> int:
        return (windows.shape[1] - self._context) // self._hop

    def _generate_drafted(self, slots: Sequence[int], windows: np.ndarray,
                          n_tokens: int) -> Tokens:
        """Decode as many positions per pass as the draft, pads, gets right."""
        assert self.drafting is not None
        tokens: list[int] = []
        probabilities: list[float] = []
        n_passes = 0
        while len(tokens) < n_tokens:
            kind = 'verify' if n_passes else 'draft'
            captured = self._captured(kind, 1, n_tokens - len(tokens))
            ids, chances, n_kept = self._replay(captured, slots, None if n_passes else windows)
            tokens += ids[0, :n_kept[0]].tolist()
            probabilities += chances[0, :n_kept[0]].tolist()
            n_passes += 1
        self.drafting.count(n_tokens, n_passes)
        return [tokens], [probabilities]

    def _replay(self, captured: Captured, slots: Sequence[int],
                windows: np.ndarray | None = None) -> list[Tensor]:
        """Return the results in pinned memory, valid until the next replay of this graph."""
        staging = captured.staging
        staging['slots'].fill_(self._spare)[:len(slots)] = torch.tensor(slots)
        if windows is not None:
            staging['samples'][:len(slots)] = torch.from_numpy(windows)
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for name, place in captured.inputs.items():
                place.copy_(staging[name], non_blocking=True)
            captured.graph.replay()
            for result, output in zip(captured.results, captured.outputs, strict=True):
                result.copy_(output, non_blocking=True)
        self._stream.synchronize()
        return captured.results

    def _captured(self, kind: str, n_streams: int, n_tokens: int) -> Captured:
        key = (kind, _n_rows(n_streams), n_tokens)
        if key not in self._graphs:
            self._graphs[key] = self._capture(*key)
        return self._graphs[key]

    def _capture(self, kind: str, n_streams: int, n_tokens: int) -> Captured:
        inputs = {'slots': torch.full((n_streams,), self._spare, dtype=torch.int64)}
        if kind != 'verify':
            inputs['samples'] = torch.zeros(n_streams, n_tokens * self._hop + self._context)
        if kind == 'prompt':
            inputs['given'] = torch.full((n_streams, n_tokens), self._pad)
        staging = {name: tensor.pin_memory() for name, tensor in inputs.items()}
        inputs = {name: tensor.to(self._device) for name, tensor in inputs.items()}
        body: Callable[[dict[str, Tensor], int], list[Tensor]] = getattr(self, f'_{kind}')
        torch.cuda.synchronize(self._device)
        with torch.cuda.stream(self._stream):
            body(inputs, n_tokens)  # in the spare slot: libraries initialise, kernels load
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            outputs = body(inputs, n_tokens)
        results = [torch.empty_like(output, device='cpu').pin_memory() for output in outputs]
        return Captured(graph, inputs, staging, outputs, results)

    # What is captured: launches only, no host values that change from pass to pass.

    def _prompt(self, inputs: dict[str, Tensor], n_tokens: int) -> list[Tensor]:
        slots = inputs['slots']
        audio = self._fused.encode(inputs['samples'], slots)
        hidden = self._fused.decode(audio, inputs['given'], slots)
        return list(self._fused.choose(hidden[:, -1:], slots, self.pad_penalty, self.last_token))

    def _generate(self, inputs: dict[str, Tensor], n_tokens: int) -> list[Tensor]:
        slots = inputs['slots']
        audio = self._fused.encode(inputs['samples'], slots)
        chosen = []
        for n in range(n_tokens):
            hidden = self._fused.decode(audio[:, n:n + 1], self.last_token[slots, None], slots)
            chosen.append(self._fused.choose(hidden, slots, self.pad_penalty, self.last_token))
        return [torch.cat(parts, dim=1) for parts in zip(*chosen, strict=True)]

    def _draft(self, inputs: dict[str, Tensor], n_tokens: int) -> list[Tensor]:
        # Aligned to the end: what is left to verify is always the last part.
        self._audio[:, -n_tokens:] = self._fused.encode(inputs['samples'], inputs['slots'])
        return self._verify(inputs, n_tokens)

    def _verify(self, inputs: dict[str, Tensor], n_tokens: int) -> list[Tensor]:
        slots = inputs['slots']
        draft = torch.full((1, n_tokens), self._pad, device=self._device)
        draft[:, 0] = self.last_token[slots]
        hidden = self._fused.decode(self._audio[:, -n_tokens:], draft, slots, n_kept=0)
        tokens, probabilities = self._fused.choose(hidden, slots, self.pad_penalty, None)
        # Right up to and including the first token that is no pad.
        right = (tokens[:, :-1] == self._pad).int().cumprod(dim=1)
        n_kept = 1 + right.sum(dim=1)  # [1]
        self.last_token[slots] = tokens.gather(1, n_kept[:, None] - 1)[:, 0]
        self.state.decoded[slots] += n_kept
        return [tokens, probabilities, n_kept]


def _n_rows(n_streams: int) -> int:
    """Return for how many streams the graph is that so many run in: 1, 2, 4, 8, 16, 32, 48, ..."""
    return 1 << (n_streams - 1).bit_length() if n_streams <= 16 else -(-n_streams // 16) * 16
