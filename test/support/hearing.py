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

"""Helpers of tests of what the model is given, while streams are idle and look ahead."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from support.scripted import RATE, Script, ScriptedEngine, TOKEN

from voxtral_ros.backends.base import Backend, Tokens
from voxtral_ros.model.config import ModelConfig
from voxtral_ros.model.protocol import load_protocol
from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.recognizer.events import Event
from voxtral_ros.recognizer.slot import Slot
from voxtral_ros.recognizer.stream import Stream

EDGE = 200  # samples of a window before those of its first token
AHEAD = 40  # and after those of its last one
LEFT_PAD = 32 * TOKEN
# Small enough for tests; the windows wrap after seconds.
SIZES = {
    'n_layers': 2, 'dim': 256, 'head_dim': 64, 'hidden_dim': 256, 'n_heads': 4, 'n_kv_heads': 2,
    'vocab_size': 1088, 'sliding_window': 21, 'encoder.n_layers': 2, 'encoder.dim': 128,
    'encoder.head_dim': 64, 'encoder.hidden_dim': 128, 'encoder.n_heads': 2,
    'encoder.n_kv_heads': 2, 'encoder.sliding_window': 9}


class HearingEngine(ScriptedEngine):
    """A scripted engine that remembers the audio of all tokens of its only stream."""

    def __init__(self, script: Script | None = None, **options: Any) -> None:
        super().__init__(script, **options)
        self._heard: list[np.ndarray] = []

    @property
    def heard(self) -> np.ndarray:
        return np.concatenate(self._heard)[LEFT_PAD:]

    def _advance(self, slot: Slot, n_tokens: int) -> None:
        if slot is self.slots.open.get(slot.index):  # it does not look ahead
            self._heard.append(slot.window(n_tokens)[EDGE:][:n_tokens * TOKEN].copy())
        super()._advance(slot, n_tokens)


class HearingBackend:
    """A backend that remembers the audio of all tokens of every slot but for looks ahead."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._windows: dict[int, list[np.ndarray]] = {}
        self._looking: set[int] = set()
        self.n_ahead = 0  # passes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def heard(self, slot: int) -> np.ndarray:
        """Return the audio, with what the last token has seen beyond it."""
        windows = self._windows[slot]
        parts = [window[EDGE:-AHEAD] for window in windows]
        return np.concatenate([*parts, windows[-1][-AHEAD:]])[LEFT_PAD:]

    def reset(self, slot: int, delay: int) -> None:
        """Forget what was heard, too."""
        self._windows[slot] = []
        self._backend.reset(slot, delay)

    def save(self, slot: int) -> None:
        """Hear nothing from here to the rollback."""
        self._backend.save(slot)
        self._looking.add(slot)

    def rollback(self, slot: int) -> None:
        """Hear again."""
        self._looking.discard(slot)
        self._backend.rollback(slot)

    def prefill(self, slots: Sequence[int], windows: np.ndarray,
                prompt_tokens: Sequence[Sequence[int]]) -> Tokens:
        """Hear the windows."""
        self._hear(slots, windows)
        return self._backend.prefill(slots, windows, prompt_tokens)

    def decode(self, slots: Sequence[int], windows: np.ndarray) -> Tokens:
        """Hear the windows."""
        self._hear(slots, windows)
        return self._backend.decode(slots, windows)

    def _hear(self, slots: Sequence[int], windows: np.ndarray) -> None:
        self.n_ahead += bool(self._looking)
        for slot, window in zip(slots, windows, strict=True):
            if slot not in self._looking:
                self._windows[slot].append(window.copy())


def hearing_engine(make: Any, folder: Path, max_streams: int = 1,
                   max_chunk_tokens: int = 8) -> Engine:
    """
    Return an engine whose backend hears.

    :param make: makes the backend of a folder, as those in support.cpu
    """
    config = ModelConfig.load(folder)
    backend = HearingBackend(make(folder, max_streams, max_chunk_tokens))
    return Engine(backend, load_protocol(folder, config).tokenizer, config.audio)


def drive(stream: Stream, audio: np.ndarray, sizes: Sequence[int] = (TOKEN,),
          polls: Sequence[bool] = (True,), flushes: Sequence[int] = ()) -> list[Event]:
    """
    Feed audio in chunks of these sizes over and over, polling after some of them.

    :param flushes: the samples after which the stream is flushed, in order
    :return: the events of all polls; there is one at the end
    """
    events, start, waiting = [], 0, list(flushes)
    turns = zip(cycle(sizes), cycle(polls))  # noqa: B905
    while start < len(audio) or waiting:
        while waiting and waiting[0] == start:
            stream.flush()
            waiting.pop(0)
        size, is_polled = next(turns)
        stop = min(start + size, len(audio), *waiting[:1])
        stream.feed(audio[start:stop])
        start = stop
        if is_polled:
            events += stream.poll()
    return events + stream.poll()


def hum(n_samples: int, start: int = 0, loudness: float = 0.02) -> np.ndarray:
    """
    Return audio that is no speech and the same in every token, from a sample of the stream on.

    So it is the same audio when whole tokens of it are left out.
    """
    period = np.random.default_rng(7).uniform(-loudness, loudness, TOKEN).astype(np.float32)
    period[:: 256] = loudness
    return period[(start + np.arange(n_samples)) % TOKEN]


def babble(n_samples: int, seed: int, loudness: float = 0.225) -> np.ndarray:
    """Return noise that the scripted voice activity takes for speech, from 0.125 on."""
    rng = np.random.default_rng(seed)
    samples = rng.uniform(-loudness, loudness, n_samples).astype(np.float32)
    samples[::256] = loudness
    return samples


def seconds(samples: np.ndarray) -> float:
    return len(samples) / RATE
