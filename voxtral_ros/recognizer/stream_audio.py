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

"""The audio of a stream, on its way to voice activity and to a slot of the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from voxtral_ros.recognizer.idle import IdleGate
from voxtral_ros.recognizer.slot import SampleBuffer, Slot
from voxtral_ros.recognizer.stream_clock import StreamClock
from voxtral_ros.recognizer.vad import VoiceActivity

if TYPE_CHECKING:
    from voxtral_ros.recognizer.engine import Engine


class StreamAudio:
    """
    Owns the slot of a stream.

    While people speak, the model goes first and voice activity follows it, token by token, so that
    what is decided does not depend on how the audio was fed. While the stream is idle, voice
    activity runs alone, chunk by chunk.
    """

    def __init__(self, engine: Engine, slot: Slot, delay: int, voice: VoiceActivity,
                 gate: IdleGate, clock: StreamClock, on_processed: Callable[[], None],
                 on_tokens: Callable[[], None]) -> None:
        """
        Begin.

        :param slot: taken from the engine, and given back to it
        :param on_processed: called when voice activity has processed some audio
        :param on_tokens: called when the model has generated tokens
        """
        self.slot = slot
        self.slot.on_tokens = on_tokens
        self.idle = False
        self.n_skipped = 0  # samples that the model was not given
        self.recent_s = 0.0  # of processed audio that is kept, if the pre-roll is not longer
        self._engine, self._delay = engine, delay
        self._protocol = engine.protocol
        self._rate_hz = engine.protocol.audio.sampling_rate
        self._voice, self._gate, self._clock = voice, gate, clock
        self._on_processed, self._on_tokens = on_processed, on_tokens
        self._pending = SampleBuffer()  # fed, but not yet processed by voice activity
        self._recent = SampleBuffer()  # the last of what it has processed
        self._n_processed = 0  # samples of the slot that it has processed
        self._n_held = 0  # of those, how many the model has not been given; while idle

    @property
    def n_processed(self) -> int:
        """Return how many samples of the slot voice activity has processed."""
        return self._n_processed

    @property
    def n_pending(self) -> int:
        """Return how many samples voice activity has not processed yet."""
        return len(self._pending)

    @property
    def idle_s(self) -> float:
        """Return for how long the stream has been idle, 0 if it is not."""
        return self._n_held / self._rate_hz if self.idle else 0.0

    @property
    def end_s(self) -> float:
        """Return the processed time at which what was fed ends."""
        return self._voice.pushed_s + len(self._pending) / self._rate_hz

    def feed(self, samples: np.ndarray) -> None:
        """Take audio; while the stream is idle, it is processed at once."""
        self._clock.feed(len(samples))
        self._append(samples)

    def insert(self, n_samples: int) -> None:
        """Put silence after the audio."""
        self._clock.insert(n_samples)
        self._append(np.zeros(n_samples, np.float32))

    def complete_chunk(self) -> None:
        """Let an idle stream look at the last samples, too, which do not fill a chunk."""
        if self.idle and len(self._pending):
            self.insert(self._voice.n_missing - len(self._pending))

    def process(self, n_samples: int) -> None:
        """Let voice activity process what the model has processed: n samples of the slot."""
        while self._n_processed < n_samples:
            self._process(min(n_samples - self._n_processed, self._voice.n_missing))

    def process_ahead(self) -> None:
        """
        Let voice activity process whole chunks of the next token, of which not all is there.

        So a pause is found as soon as it can be. Where the next token ends, voice activity is as
        far as without this.
        """
        if self.idle or not self._n_processed:
            return
        size = self._protocol.samples_per_token
        n_left = min(len(self._pending), size - self._n_processed % size)
        while n_left >= self._voice.n_missing:
            n_left -= self._voice.n_missing
            self._process(self._voice.n_missing)

    def begin_idle(self) -> None:
        """Give the model nothing more until there is something like speech."""
        self._n_held = self.slot.take_back() - len(self._pending)
        self.slot.max_pass_tokens = 1
        self.idle = True
        self._listen()

    def restart(self, n_again: int) -> None:
        """
        Begin anew in another state of the network.

        :param n_again: samples that were processed and are processed again, as far as they are
            kept
        """
        self._recent.keep(n_again)
        again = self._recent.peek(len(self._recent))
        self.slot.on_tokens = None
        self.slot = self._engine.restart(self.slot, self._delay)
        self.slot.on_tokens = self._on_tokens
        self.slot.feed(again)
        self.slot.feed(self._pending.peek(len(self._pending)))
        self._n_processed = len(again)
        self._clock.begin_slot(self._voice.pushed_s - len(again) / self._rate_hz)

    def close(self) -> None:
        """Give the slot back."""
        self.slot.on_tokens = None  # a cycle would keep all of this in memory for some time
        self._on_tokens = self._on_processed = _nothing
        self._engine.release(self.slot)

    # ---- inside ----

    def _append(self, samples: np.ndarray) -> None:
        self._pending.append(samples)
        if self.idle:
            self._listen()
        else:
            self.slot.feed(samples)

    def _process(self, n_samples: int) -> None:
        new = self._pending.peek(n_samples)
        self._pending.drop(n_samples)
        self._n_processed += n_samples
        # Digital silence costs nothing; awake, the detector follows every sample.
        self._voice.push(new, is_silence=self.idle and not new.any())
        self._gate.update(new)
        self._recent.append(new)
        preroll_s = self._gate.options.preroll_s + self._protocol.token_s
        self._recent.keep(round(self._rate_hz * max(self.recent_s, preroll_s)))
        self._on_processed()

    def _listen(self) -> None:
        """Process what is pending, until there is something like speech."""
        while self.idle and len(self._pending) >= self._voice.n_missing:
            n_new, before = self._voice.n_missing, self._n_lost
            self._process(n_new)
            self._n_held += n_new
            self.n_skipped += self._n_lost - before
            if self._gate.stirs:
                self._end_idle()

    @property
    def _n_lost(self) -> int:
        """
        Return how many samples the model will not be given.

        Whole tokens: what comes after them keeps its place in the grid of tokens.
        """
        size = self._protocol.samples_per_token
        n_preroll = round(self._rate_hz * self._gate.options.preroll_s)
        return max(0, self._n_held - n_preroll) // size * size

    def _end_idle(self) -> None:
        """Let the model go on, with the last moments first: it sees a shorter pause."""
        n_lost = self._n_lost
        self.idle = False
        if n_lost:
            self._clock.skip(self.slot.n_samples, n_lost)
            self._n_processed -= n_lost
        self.slot.feed(self._recent.tail(self._n_held - n_lost))
        self.slot.feed(self._pending.peek(len(self._pending)))


def _nothing() -> None:
    pass
