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

An eager step is some 700 launches, which takes the CPU of a small board longer than the audio
lasts. Captured, it is one launch: samples and slots are copied into fixed places, positions live
on the device, each token feeds the next position there, and a few numbers come back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
import gc
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from voxtral_ros.backends.base import (
    DEFAULT_CHUNK_TOKENS, MAX_ROLLBACK_TOKENS, SpeculativeStats, Tokens, Unbiased, WeightBytes)
from voxtral_ros.backends.biasing import TokenTrie
from voxtral_ros.backends.cuda.network import CudaNetwork
from voxtral_ros.backends.cuda.phrases import Phrases
from voxtral_ros.backends.cuda.speculative import count_accepted, SpeculativeDecoding
from voxtral_ros.backends.cuda.weight_source import WeightSource
from voxtral_ros.backends.rollback import SavedStreams
from voxtral_ros.model.config import ModelConfig


# PyTorch cannot capture two graphs at the same time, even on two GPUs: its allocator is one.
_CAPTURING = Lock()
# Streams of closed backends, by device. PyTorch keeps 32 MiB for cuBLAS for every stream that
# there ever was, so a node that is configured again and again uses one again and again.
_IDLE_STREAMS: defaultdict[torch.device, list[torch.cuda.Stream]] = defaultdict(list)


@dataclass
class Captured:
    """A graph and the places that it reads from and writes to."""

    graph: torch.cuda.CUDAGraph
    inputs: dict[str, Tensor]  # on the device
    staging: dict[str, Tensor]  # the same, in pinned memory
    outputs: list[Tensor]  # on the device
    results: list[Tensor]  # the same, in pinned memory


class CudaBackend:
    """Passes as replays of CUDA graphs, captured when a shape first appears or by warm_up."""

    max_rollback_tokens = MAX_ROLLBACK_TOKENS

    def __init__(self, config: ModelConfig, weights: WeightSource, pad: int, special: list[int],
                 max_streams: int = 1, max_chunk_tokens: int = DEFAULT_CHUNK_TOKENS,
                 speculative: bool = True, int8_cache: bool = False) -> None:
        """
        Read the weights and allocate the state of all streams.

        :param special: tokens whose logits are always computed exactly
        :param int8_cache: keys and values in INT8
        :param speculative: with one stream, decode several waiting tokens in one pass
        """
        self.max_streams, self.max_chunk_tokens = max_streams, max_chunk_tokens
        self._spare = max_streams  # the slot of rows that are not needed
        self.network = CudaNetwork(config, weights, max_streams, max_chunk_tokens, pad, special,
                                   int8_cache)
        self.state = self.network.state
        self.speculative_decoding = SpeculativeDecoding() if speculative else None
        self._device, self._pad, self._audio_config = weights.device, pad, config.audio
        self.last_token = torch.zeros(max_streams + 1, dtype=torch.int64, device=self._device)
        self.pad_penalty = torch.zeros(max_streams + 1, device=self._device)
        self._phrases = Phrases(max_streams + 1, self._device)
        self._saved = SavedStreams((
            *self.state.conv_state, self.state.encoder_position, self.state.decoder_position,
            self.last_token, self._phrases.state))
        self._audio = torch.zeros(1, max_chunk_tokens, config.decoder.dim, dtype=weights.dtype,
                                  device=self._device)
        self._graphs: dict[tuple[str, int, int], Captured] = {}
        self._is_warm = False
        self._pool = torch.cuda.graph_pool_handle()
        idle = _IDLE_STREAMS[self._device]
        self._stream = idle.pop() if idle else torch.cuda.Stream(self._device)

    # ---- the interface ----

    @property
    def device(self) -> str:
        return str(self._device)

    @property
    def description(self) -> str:
        return 'fused kernels in CUDA graphs'

    @property
    def weight_bytes(self) -> WeightBytes:
        return self.network.weight_bytes

    @property
    def cache_bytes(self) -> int:
        return self.state.nbytes

    @property
    def cache_bits(self) -> int:
        return self.state.cache_bits

    @property
    def speculative(self) -> SpeculativeStats | None:
        return self.speculative_decoding.stats if self.speculative_decoding else None

    @torch.inference_mode()
    def reset(self, slot: int, delay: int) -> None:
        self.network.reset(slot, delay)
        self.pad_penalty[slot] = 0
        self.set_phrases(slot, None)

    def set_pad_penalty(self, slot: int, penalty: float) -> None:
        self.pad_penalty[slot] = penalty

    def set_phrases(self, slot: int, trie: TokenTrie | None) -> None:
        self._phrases.set(slot, trie)
        self._saved.forget(slot)

    def replace_token(self, slot: int, token: int, phrase_state: int) -> None:
        self.last_token[slot] = token
        self._phrases.state[slot] = phrase_state

    # As reset, these run on the current CUDA stream, which waits for no pass (the host has waited
    # for it) and which the next pass waits for.

    @torch.inference_mode()
    def save(self, slot: int) -> None:
        self._saved.save(slot)

    @torch.inference_mode()
    def rollback(self, slot: int) -> None:
        self.state.clear_ahead(slot, self._saved.rollback(slot))

    def set_position(self, position: int) -> None:
        self.state.encoder_position.fill_(position)
        self.state.decoder_position.fill_(position)
        self._saved.forget_all()

    @torch.inference_mode()
    def prefill(self, slots: Sequence[int], windows: np.ndarray,
                prompt_tokens: Sequence[Sequence[int]]) -> Tokens:
        n_tokens = self._audio_config.n_tokens(windows.shape[1])
        self._saved.count(slots, n_tokens)
        if self._is_new('prefill', len(slots), n_tokens):
            parts = [_copy(self._prefill_now([slot], window[None], [tokens])) for
                     slot, window, tokens in zip(slots, windows, prompt_tokens, strict=True)]
            ids, values = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        else:
            ids, values = self._prefill_now(slots, windows, prompt_tokens)
        return self._tokens(slots, ids, values)

    @torch.inference_mode()
    def decode(self, slots: Sequence[int], windows: np.ndarray) -> Tokens:
        n_tokens = self._audio_config.n_tokens(windows.shape[1])
        # A look ahead is at silence, so pads are always drafted; the statistics, which say whether
        # that pays for what people say, do not count it.
        ahead = self._saved.looks_ahead(slots[0])
        self._saved.count(slots, n_tokens)
        speculative = self.speculative_decoding
        if speculative and len(slots) == 1 and n_tokens > 1 \
                and (ahead or speculative.next_chunk()):
            *tokens, n_passes = self._decode_speculatively(slots, windows, n_tokens)
            if not ahead:
                speculative.count(n_tokens, n_passes)
            return self._tokens(slots, *tokens)
        if self._is_new('decode', len(slots), n_tokens):
            size, context = self._audio_config.samples_per_token, self._audio_config.context
            parts = [_copy(self._decode_now(slots, windows[:, start:start + size + context]))
                     for start in range(0, n_tokens * size, size)]
            ids, values = (torch.cat(part, dim=2) for part in zip(*parts, strict=True))
        else:
            ids, values = self._decode_now(slots, windows)
        return self._tokens(slots, ids, values)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """
        Capture graphs: of all chunk lengths for one stream, of the shortest and longest for many.

        Capturing one takes 80 ms and more, during which nobody is transcribed. So none is captured
        afterwards: what has no graph of its own is computed stream by stream (prefill) or token by
        token, with the same results.
        """
        kinds = ('prefill', 'decode', *(('draft', 'verify') if self.speculative_decoding else ()))
        for n_tokens in range(1, self.max_chunk_tokens + 1):
            for kind in kinds:
                self._captured(kind, 1, n_tokens)
        for n_streams in range(2, self.max_streams + 1):
            for n_tokens in {1, self.max_chunk_tokens}:
                self._captured('decode', n_streams, n_tokens)
        self._is_warm = True

    def close(self) -> None:
        self._graphs.clear()
        _IDLE_STREAMS[self._device].append(self._stream)
        del self.network, self.state, self.last_token, self.pad_penalty, self._audio, self._saved
        del self._phrases
        gc.collect()
        torch.cuda.empty_cache()

    # ---- inside ----

    def _is_new(self, kind: str, n_streams: int, n_tokens: int) -> bool:
        """Return whether a pass would have to be captured, after everything has been."""
        return self._is_warm and (kind, _n_rows(n_streams), n_tokens) not in self._graphs

    def _prefill_now(self, slots: Sequence[int], windows: np.ndarray,
                     prompt_tokens: Sequence[Sequence[int]]) -> list[Tensor]:
        captured = self._captured('prefill', len(slots), len(prompt_tokens[0]))
        captured.staging['tokens'].fill_(self._pad)[:len(slots)] = torch.tensor(prompt_tokens)
        return self._replay(captured, slots, windows)

    def _decode_now(self, slots: Sequence[int], windows: np.ndarray) -> list[Tensor]:
        n_tokens = self._audio_config.n_tokens(windows.shape[1])
        return self._replay(self._captured('decode', len(slots), n_tokens), slots, windows)

    def _tokens(self, slots: Sequence[int], ids: Tensor, values: Tensor) -> Tokens:
        """Return the results of `choose` as host values, without the rows that are not needed."""
        (tokens, others, _), (probs, other_probs, costs) = (
            part[:, :len(slots)].tolist() for part in (ids, values))
        unbiased = None if self._phrases.tries.keys().isdisjoint(slots) else [
            [Unbiased(*choice) for choice in zip(*rows, strict=True)]
            for rows in zip(others, other_probs, costs, strict=True)]
        return Tokens(tokens, probs, unbiased)

    def _decode_speculatively(self, slots: Sequence[int], windows: np.ndarray, n_tokens: int,
                              ) -> tuple[Tensor, Tensor, int]:
        """
        Decode as many positions per pass as the draft, pads, gets right.

        Of a stream that expects phrases, all positions of a pass are in the same state, which pads
        do not change; so this holds for it, too.

        :return: ids and values as of `choose`, and the number of passes of the decoder
        """
        parts: list[tuple[Tensor, Tensor]] = []
        n_done = 0
        while n_done < n_tokens:
            kind = 'verify' if parts else 'draft'
            captured = self._captured(kind, 1, n_tokens - n_done)
            ids, values, n_accepted = self._replay(captured, slots, None if parts else windows)
            accepted = slice(0, int(n_accepted[0]))
            # The next replay may overwrite the results.
            parts.append((ids[..., accepted].clone(), values[..., accepted].clone()))
            n_done += accepted.stop
        ids, values = (torch.cat(part, dim=2) for part in zip(*parts, strict=True))
        return ids, values, len(parts)

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
            # With the GPU as the current one: beginning a graph waits for that.
            with _CAPTURING, torch.cuda.device(self._device):
                self._graphs[key] = self._capture(*key)
        return self._graphs[key]

    def _capture(self, kind: str, n_streams: int, n_tokens: int) -> Captured:
        inputs = {'slots': torch.full((n_streams,), self._spare, dtype=torch.int64)}
        if kind != 'verify':
            n_samples = n_tokens * self._audio_config.samples_per_token
            inputs['samples'] = torch.zeros(n_streams, n_samples + self._audio_config.context)
        if kind == 'prefill':
            inputs['tokens'] = torch.full((n_streams, n_tokens), self._pad)
        staging = {name: tensor.pin_memory() for name, tensor in inputs.items()}
        inputs = {name: tensor.to(self._device) for name, tensor in inputs.items()}
        body = self._bodies[kind]
        torch.cuda.synchronize(self._device)
        with torch.cuda.stream(self._stream):
            body(inputs, n_tokens)  # in the spare slot: libraries initialise, kernels load
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Engines of other GPUs go on meanwhile, in their threads.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream,
                              capture_error_mode='thread_local'):
            outputs = body(inputs, n_tokens)
        results = [torch.empty_like(output, device='cpu').pin_memory() for output in outputs]
        return Captured(graph, inputs, staging, outputs, results)

    # What is captured: launches only, no host values that change from pass to pass.

    @property
    def _bodies(self) -> dict[str, Callable[[dict[str, Tensor], int], list[Tensor]]]:
        return {'prefill': self._prefill, 'decode': self._decode, 'draft': self._draft,
                'verify': self._verify}

    def _prefill(self, inputs: dict[str, Tensor], n_tokens: int) -> list[Tensor]:
        slots = inputs['slots']
        audio = self.network.encode(inputs['samples'], slots)
        hidden = self.network.decode(audio, inputs['tokens'], slots)
        self._phrases.state.index_fill_(0, slots, 0)  # whatever earlier positions have predicted
        return list(self._choose(hidden[:, -1:], slots, self.last_token))

    def _choose(self, hidden: Tensor, slots: Tensor, last_token: Tensor | None,
                ) -> tuple[Tensor, Tensor]:
        return self.network.choose(hidden, slots, self.pad_penalty, self._phrases, last_token)

    def _decode(self, inputs: dict[str, Tensor], n_tokens: int) -> list[Tensor]:
        slots = inputs['slots']
        audio = self.network.encode(inputs['samples'], slots)
        generated = []
        for n in range(n_tokens):
            hidden = self.network.decode(audio[:, n:n + 1], self.last_token[slots, None], slots)
            generated.append(self._choose(hidden, slots, self.last_token))
        return [torch.cat(parts, dim=2) for parts in zip(*generated, strict=True)]

    def _draft(self, inputs: dict[str, Tensor], n_tokens: int) -> list[Tensor]:
        # Aligned to the end: what is left to verify is always the last part.
        self._audio[:, -n_tokens:] = self.network.encode(inputs['samples'], inputs['slots'])
        return self._verify(inputs, n_tokens)

    def _verify(self, inputs: dict[str, Tensor], n_tokens: int) -> list[Tensor]:
        slots = inputs['slots']
        draft = torch.full((1, n_tokens), self._pad, device=self._device)
        draft[:, 0] = self.last_token[slots]
        hidden = self.network.decode(self._audio[:, -n_tokens:], draft, slots, n_accepted=0)
        ids, values = self._choose(hidden, slots, None)
        n_accepted = count_accepted(ids[0], self._pad)
        last = n_accepted[:, None] - 1
        self.last_token[slots] = ids[0].gather(1, last)[:, 0]
        self._phrases.state[slots] = ids[2].gather(1, last)[:, 0]
        self.state.decoder_position[slots] += n_accepted
        return [ids, values, n_accepted]


def _n_rows(n_streams: int) -> int:
    """Return for how many streams the graph is that so many run in: 1, 2, 4, 8, 16, 32, 48, ..."""
    return 1 << (n_streams - 1).bit_length() if n_streams <= 16 else -(-n_streams // 16) * 16


def _copy(results: list[Tensor]) -> list[Tensor]:
    """Return what the next replay of the graph does not overwrite."""
    return [result.clone() for result in results]
