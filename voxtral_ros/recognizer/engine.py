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
The engine: weights, a fixed number of stream slots, and the step that advances them together.

    engine = Engine.load('models/voxtral-tiny-en')
    stream = engine.open(delay_ms=480)
    stream.feed(samples)  # float32, 16 kHz, any number
    for event in stream.poll():
        print(event)
    stream.close()

An engine and its streams belong to one thread.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
import gc
import math
from pathlib import Path

import numpy as np
import torch
from voxtral_ros.backends.cpu.library import available as cpu_passes_available
from voxtral_ros.backends.cuda.memory import can_pack, check_memory, plan_memory
from voxtral_ros.backends.eager import EagerStep, Step, Tokens
from voxtral_ros.model.checkpoint import load_network
from voxtral_ros.model.config import ModelConfig
from voxtral_ros.model.network import VoxtralRealtime
from voxtral_ros.model.protocol import Protocol
from voxtral_ros.model.tokenizer import Tokenizer
from voxtral_ros.recognizer.admission import Admission
from voxtral_ros.recognizer.slot import Slot, Token
from voxtral_ros.recognizer.stream import Stream, StreamOptions


class EngineFull(RuntimeError):
    """No further stream: all slots are taken, or it would make live ones late; see the text."""


@dataclass(frozen=True)
class EngineStats:
    """What passes over live sound were like since the engine was made; NaN before the first."""

    tokens_per_pass: float  # of a stream; 1 where every block of 80 ms is computed at once
    drafting: bool  # whether several waiting tokens are decoded in one pass now
    tokens_per_draft: float  # of those that were drafted, per pass of the decoder


class Engine:
    """Runs up to `max_streams` streams over one network, batched."""

    def __init__(self, network: VoxtralRealtime, tokenizer: Tokenizer, max_streams: int = 1,
                 max_chunk_tokens: int = 8) -> None:
        """
        Allocate the state of all streams.

        :param max_chunk_tokens: tokens of sound that one pass may take when there is a backlog;
            more is faster for files and takes memory (see StreamState)
        """
        if max_streams < 1 or max_chunk_tokens < 1:
            raise ValueError('max_streams and max_chunk_tokens must be at least 1')
        self.network = network
        self.tokenizer = tokenizer
        self.protocol = Protocol(tokenizer, network.config.audio)
        self.admission = Admission(self.protocol.token_s)
        self.device = network.decoder.norm.weight.device
        self.max_chunk_tokens = max_chunk_tokens
        self.passes = _passes(network, tokenizer, max_streams, max_chunk_tokens)
        self.max_streams = max_streams
        self._slots: dict[int, Slot] = {}
        self._free = list(range(max_streams))[::-1]
        self._scales: dict[int, torch.Tensor] = {}  # of the delays in use
        self._n_passes = self._n_tokens = 0  # over live sound

    @classmethod
    def load(cls, folder: str | Path, device: str = 'auto', dtype: str | None = None,
             max_streams: int = 1, max_chunk_tokens: int = 8, threads: int = 0,
             window: int = 0) -> Engine:
        """
        Load a checkpoint folder.

        :param device: 'auto' (CUDA where there is one), 'cpu', 'cuda' or 'cuda:1'
        :param dtype: 'float32', 'bfloat16' or 'float16'; None is float32 on the CPU, and on a GPU
            the type of the file
        :param threads: on the CPU, in the whole process; 0 is as many as torch likes
        :param window: tokens that the decoder looks back, which is what the caches of a stream
            hold; 0 is the window of the checkpoint, less saves memory
        :raises ConfigError, CheckpointError, TokenizerError: the folder is no usable model
        :raises ValueError: no such device, type or window
        """
        kind = find_device(device)
        if threads:
            torch.set_num_threads(threads)
        if dtype is None:
            dtype = 'float32' if kind.type == 'cpu' else None
        if dtype not in (None, 'float32', 'bfloat16', 'float16'):
            raise ValueError(f'dtype {dtype!r} is not float32, bfloat16 or float16')
        # The small files first: a bad one is told before gigabytes are read.
        config = ModelConfig.load(folder).with_window(window)
        wanted = getattr(torch, dtype) if dtype else None
        tokenizer = Tokenizer.load(folder, config.vocab_size)
        if kind.type == 'cuda':
            check_memory(plan_memory(folder, wanted, max_streams, max_chunk_tokens,
                                     can_pack(config, wanted), window),
                         *torch.cuda.mem_get_info(kind))
        network = load_network(folder, kind, wanted, window, _is_native(kind, wanted))
        return cls(network, tokenizer, max_streams, max_chunk_tokens)

    def open(self, delay_ms: float | None = None,  # noqa: A003
             options: StreamOptions | None = None, live: bool = False) -> Stream:
        """
        Open a stream in a free slot.

        :param delay_ms: how long the model listens before it writes; 80 to 1200 in steps of 80,
            or 2400; None is the delay of the checkpoint
        :param live: refuse the stream if with it the engine would be slower than the sound
        :raises ValueError: the delay is not supported
        :raises EngineFull: all slots are taken, or there is no time for a live stream
        """
        if live and (reason := self.admission.refusal(self.n_open)):
            raise EngineFull(reason)
        return Stream(self, self.protocol.delay_tokens(delay_ms), options or StreamOptions())

    def warm_up(self) -> None:
        """Do now what would make the first seconds slow: capture the graphs of a GPU."""
        with torch.inference_mode():
            self.passes.warm_up()

    def close(self) -> None:
        """Give the memory of weights and streams back, a GPU's too; the engine cannot be used."""
        self._slots.clear()
        self._free.clear()
        self._scales.clear()
        del self.network, self.passes
        gc.collect()
        if self.device.type == 'cuda':
            torch.cuda.empty_cache()

    @property
    def n_open(self) -> int:
        return len(self._slots)

    @property
    def stats(self) -> EngineStats:
        drafting = self.passes.drafting
        return EngineStats(
            self._n_tokens / self._n_passes if self._n_passes else math.nan,
            drafting is not None and drafting.is_on,
            drafting.n_tokens / drafting.n_passes if drafting and drafting.n_passes else math.nan)

    def take_slot(self, delay: int) -> Slot:
        """Open a slot for a stream with a delay in tokens."""
        if not self._free:
            raise EngineFull(f'all {self.max_streams} streams of this engine are open: close one, '
                             'or make the engine with a larger max_streams')
        if delay not in self._scales:
            with torch.inference_mode():
                self._scales[delay] = self.network.decoder.delay_scales(
                    torch.tensor([delay], device=self.device))[:, 0]
        slot = Slot(self._free.pop(), self.protocol, delay)
        with torch.inference_mode():
            self.passes.state.reset(slot.index, self._scales[delay])
            self.passes.pad_penalty[slot.index] = 0
        self._slots[slot.index] = slot
        return slot

    def release(self, slot: Slot) -> None:
        """Give a slot back; doing so again changes nothing."""
        if self._slots.get(slot.index) is slot:
            del self._slots[slot.index]
            self._free.append(slot.index)

    def penalise_pad(self, slot: Slot, penalty: float) -> None:
        """Subtract `penalty` from the pad logit of a stream from the next token on."""
        self.passes.pad_penalty[slot.index] = penalty

    def step(self) -> bool:
        """
        Advance every stream that has a token of sound waiting; return whether any had.

        After an exception the state of the streams that had sound waiting is undefined: abandon
        them and open others.
        """
        prompted: dict[int, list[Slot]] = defaultdict(list)  # tokens to take -> slots
        live = []
        for slot in self._slots.values():
            ready = min(slot.ready, self.max_chunk_tokens)
            if ready and slot.given:
                prompted[min(ready, slot.given)].append(slot)
            elif ready:
                live.append(slot)
        with torch.inference_mode():
            for n_tokens, slots in prompted.items():
                self._take_prompt(slots, n_tokens)
            if live:
                n_tokens = min(min(slot.ready for slot in live), self.max_chunk_tokens)
                self._generate(live, n_tokens)
        return bool(prompted or live)

    def _take_prompt(self, slots: list[Slot], n_tokens: int) -> None:
        """Pass n positions at once: their tokens are given."""
        given = [slot.prompt[slot.position:slot.position + n_tokens] for slot in slots]
        index, windows, filled = _pass_over(slots, n_tokens)
        self._collect(slots, n_tokens, self.passes.prompt(index, windows, given, filled))

    def _generate(self, slots: list[Slot], n_tokens: int) -> None:
        """Pass n positions one by one, each with the token that the one before has predicted."""
        begin = self.admission.clock()
        tokens = self.passes.generate(*_pass_over(slots, n_tokens))
        self.admission.passed(len(slots), n_tokens, self.admission.clock() - begin)
        self._n_passes += 1
        self._n_tokens += n_tokens
        self._collect(slots, n_tokens, tokens)

    def _collect(self, slots: list[Slot], n_tokens: int, tokens: Tokens) -> None:
        """Hand the tokens out, n or the last one of each stream."""
        for slot, ids, chances in zip(slots, *tokens, strict=True):
            before = slot.n_generated
            slot.advance(n_tokens)
            # The first positions of the prompt predict tokens that are given anyway.
            new = slot.n_generated - before
            for k in range(new):
                slot.tokens.append(Token(before + k, ids[k - new], chances[k - new]))


def _pass_over(slots: list[Slot], n_tokens: int) -> tuple[list[int], np.ndarray, int]:
    """Return indices, windows [M, n * 1280 + 240] and the positions of the longest stream."""
    windows = np.stack([slot.window(n_tokens) for slot in slots])
    return ([slot.index for slot in slots], windows,
            max(slot.position for slot in slots) + n_tokens)


def _passes(network: VoxtralRealtime, tokenizer: Tokenizer, max_streams: int,
            max_chunk_tokens: int) -> Step:
    """Return fused kernels in CUDA graphs or compiled passes, else the network as it is."""
    weight = network.decoder.norm.weight
    if weight.device.type == 'cuda' and can_pack(network.config, weight.dtype):
        from voxtral_ros.backends.cuda.backend import FusedStep
        special = [tokenizer.pad, tokenizer.word, tokenizer.eos]
        return FusedStep(network, tokenizer.pad, special, max_streams, max_chunk_tokens)
    if _is_native(weight.device, weight.dtype):
        from voxtral_ros.backends.cpu.backend import NativeStep
        return NativeStep(network, tokenizer.pad, max_streams, max_chunk_tokens)
    return EagerStep(network, tokenizer.pad, max_streams, max_chunk_tokens)


def _is_native(device: torch.device, dtype: torch.dtype | None) -> bool:
    """Return whether passes compiled for the CPU will run."""
    return device.type == 'cpu' and dtype == torch.float32 and cpu_passes_available()


def find_device(name: str) -> torch.device:
    """
    Return the device of a name: 'auto' (CUDA where there is one), 'cpu', 'cuda' or 'cuda:1'.

    :raises ValueError: there is no such device
    """
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ('cpu', 'cuda'):
        raise ValueError(f'device {name!r} is not auto, cpu, cuda or cuda:N')
    if device.type == 'cuda' and not torch.cuda.is_available():
        raise ValueError('device is cuda, but this torch sees no CUDA GPU: take cpu, or install '
                         'a torch with CUDA (torch.version.cuda is '
                         f'{torch.version.cuda})')
    return device
