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

"""One stream in the engine, as the host sees it: audio that waits, tokens that come out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
import sys

from typing import TYPE_CHECKING

import numpy as np

from voxtral_ros.model.protocol import StreamingProtocol

if TYPE_CHECKING:
    from voxtral_ros.recognizer.phrase_search import PhraseSearch


@dataclass(frozen=True)
class Token:
    """A generated token."""

    index: int  # k: counted from 0, the prefill not included
    id: int  # noqa: A003
    probability: float


class SampleBuffer:
    """A queue of samples that hands out overlapping windows without copying twice."""

    def __init__(self) -> None:
        self._data = np.zeros(1 << 14, np.float32)
        self._start = self._stop = 0
        self._mark: int | None = None

    def __len__(self) -> int:
        return self._stop - self._start

    def append(self, samples: np.ndarray) -> None:
        """Add samples at the end."""
        if self._stop + len(samples) > len(self._data):
            first = self._start if self._mark is None else self._mark
            held = self._data[first:self._stop]
            # Twice what is needed: moving the samples costs a constant per sample on average.
            # A buffer that a backlog has blown up shrinks here again.
            data = np.zeros(max(1 << 14, 2 * (len(held) + len(samples))), np.float32)
            data[:len(held)] = held
            self._start, self._stop, self._data = self._start - first, len(held), data
            self._mark = None if self._mark is None else 0
        self._data[self._stop:self._stop + len(samples)] = samples
        self._stop += len(samples)

    def peek(self, n: int) -> np.ndarray:
        """Return a view of the first n samples; valid until the next append."""
        return self._data[self._start:self._start + n]

    def drop(self, n: int) -> None:
        """Remove the first n samples."""
        self._start += n

    def mark(self) -> None:
        """Keep what is dropped from here on, until the mark is removed."""
        self._mark = self._start

    def back_to_mark(self) -> None:
        """Put back what was dropped since the mark."""
        if self._mark is not None:
            self._start = self._mark

    def remove_mark(self) -> None:
        self._mark = None

    def tail(self, n: int) -> np.ndarray:
        """Return a view of the last n samples, or of all; valid until the next append."""
        return self._data[max(self._start, self._stop - n):self._stop]

    def keep(self, n: int) -> None:
        """Remove all but the last n samples."""
        self._start = max(self._start, self._stop - n)


class Slot:
    """Host-side state of one open stream."""

    def __init__(self, index: int, protocol: StreamingProtocol, delay: int) -> None:
        self.index = index
        self.prompt_tokens = protocol.prompt_tokens(delay)
        self.position = 0  # tokens of audio processed, the left pad included
        self.max_pass_tokens = sys.maxsize  # that the next pass may take
        self.on_tokens: Callable[[], None] | None = None  # called after each pass
        self.n_samples = 0  # fed, the left pad not included
        self.tokens: deque[Token] = deque()  # generated, until somebody takes them
        self.search: PhraseSearch | None = None  # for phrases, if any are expected
        self._protocol = protocol
        self._samples = SampleBuffer()
        self._saved_position = 0
        self._samples.append(np.zeros(protocol.left_pad, np.float32))

    def feed(self, samples: np.ndarray) -> None:
        """Queue float32 samples at 16 kHz."""
        self._samples.append(samples)
        self.n_samples += len(samples)

    def take_back(self) -> int:
        """Remove the samples that wait and return how many they were."""
        n_samples = len(self._samples)
        self._samples.drop(n_samples)
        self.n_samples -= n_samples
        return n_samples

    @property
    def ready(self) -> int:
        """Return how many tokens of audio the next pass may take."""
        most = self.search.max_pass_tokens if self.search else sys.maxsize
        return min(self.waiting, self.max_pass_tokens, most)

    @property
    def waiting(self) -> int:
        """Return how many whole tokens of audio wait."""
        return self._protocol.audio.n_tokens(len(self._samples))

    @property
    def prefill(self) -> int:
        """Return how many prompt tokens are still to be passed."""
        return max(0, len(self.prompt_tokens) - self.position)

    def window(self, n_tokens: int) -> np.ndarray:
        """Return the samples that the next n tokens are computed from."""
        protocol = self._protocol
        return self._samples.peek(n_tokens * protocol.samples_per_token + protocol.context)

    @property
    def waiting_samples(self) -> np.ndarray:
        """Return a view of the samples that wait; valid until the next feed."""
        return self._samples.peek(len(self._samples))

    def advance(self, n_tokens: int) -> None:
        """Count n tokens of audio as processed."""
        self._samples.drop(n_tokens * self._protocol.samples_per_token)
        self.position += n_tokens

    def save(self) -> None:
        """Remember this place, and keep the audio after it."""
        self._saved_position = self.position
        self._samples.mark()

    def rollback(self) -> None:
        """Go back to the place that was saved."""
        self.position = self._saved_position
        self._samples.back_to_mark()

    def forget_saved(self) -> None:
        self._samples.remove_mark()

    @property
    def n_generated(self) -> int:
        return max(0, self.position - len(self.prompt_tokens) + 1)
