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
from voxtral_ros.recognizer.phrases import NO_PHRASES, PhraseList
from voxtral_ros.recognizer.slot import SampleBuffer, Slot
from voxtral_ros.recognizer.stream_clock import StreamClock
from voxtral_ros.recognizer.vad import VoiceActivity

if TYPE_CHECKING:
    from voxtral_ros.recognizer.engine import Engine


class StreamAudio:
    """
    Owns the slot of a stream, while it has one.

    While people speak, the model goes first and voice activity follows it, token by token, so that
    what is decided does not depend on how the audio was fed. While the stream is idle, voice
    activity runs alone, chunk by chunk. When that finds speech and there is no slot, both wait.
    """

    def __init__(self, engine: Engine, slot: Slot | None, delay: int, idle_slot_s: float,
                 voice: VoiceActivity, gate: IdleGate, clock: StreamClock,
                 on_begun: Callable[[], None], on_processed: Callable[[], None],
                 on_tokens: Callable[[], None]) -> None:
        """
        Begin; without a slot, idle.

        :param slot: taken from the engine, and given back to it
        :param delay: in tokens
        :param idle_slot_s: idle for so long, it gives its slot to who needs one
        :param on_begun: called when the model has begun anew in another slot
        :param on_processed: called when voice activity has processed some audio
        :param on_tokens: called when the model has generated tokens
        """
        self.slot = slot
        if slot:
            slot.on_tokens = on_tokens
        self.idle = slot is None
        self.waiting = False  # for a slot: somebody speaks
        self.delay, self.idle_slot_s = delay, idle_slot_s
        self._phrases = NO_PHRASES
        self.recent_s = 0.0  # of processed audio that is kept, if the pre-roll is not longer
        self._engine, self._slots = engine, engine.slots
        self._protocol = engine.protocol
        self._rate_hz = engine.protocol.audio.sampling_rate
        self._voice, self._gate, self._clock = voice, gate, clock
        self._on_begun, self._on_processed, self._on_tokens = on_begun, on_processed, on_tokens
        self._pending = SampleBuffer()  # fed, but not yet processed by voice activity
        self._recent = SampleBuffer()  # the last of what it has processed
        self._n_processed = 0  # samples of the slot that it has processed
        self._n_held = 0  # of those, how many the model has not been given; while idle
        self._n_preroll = 0  # of those, how many it is to be given; while waiting
        self._n_skipped = 0  # samples, in idle times that are over

    @property
    def used_slot(self) -> Slot:
        """Return the slot of a stream that has one."""
        assert self.slot
        return self.slot

    @property
    def n_processed(self) -> int:
        """Return how many samples of the slot voice activity has processed."""
        return self._n_processed

    @property
    def n_pending(self) -> int:
        """Return how many samples voice activity has not processed yet."""
        return len(self._pending)

    @property
    def n_skipped(self) -> int:
        """Return how many samples the model was not given, and will not be."""
        return self._n_skipped + (self._n_lost if self.idle else 0)

    @property
    def idle_s(self) -> float:
        """Return for how long the stream has been idle, 0 if it is not."""
        return self._n_held / self._rate_hz if self.idle and not self.waiting else 0.0

    @property
    def waiting_s(self) -> float:
        """Return how many seconds of audio wait for a slot."""
        return (self._n_preroll + len(self._pending)) / self._rate_hz if self.waiting else 0.0

    @property
    def ready(self) -> int:
        """Return how many tokens of audio the model can be given now."""
        return self.slot.ready if self.slot else 0

    @property
    def n_given(self) -> int:
        """Return how many samples the model is given in this slot, or in the one waited for."""
        if self.slot:
            return self.slot.n_samples
        return self._n_preroll + len(self._pending)

    @property
    def n_skipped_tokens(self) -> int:
        """Return how many tokens the model has not been given since the stream became idle."""
        return self._n_lost // self._protocol.samples_per_token if self.idle else 0

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
        if self.idle and not self.waiting and len(self._pending):
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

    def expect_phrases(self, phrases: PhraseList) -> None:
        """Give phrases a bias, in the slot and in all that come after it."""
        self._phrases = phrases
        if self.slot:
            self._engine.expect_phrases(self.slot, phrases)

    def begin_idle(self) -> None:
        """Give the model nothing more until there is something like speech."""
        assert self.slot
        self._n_held = self.slot.take_back() - len(self._pending)
        self.slot.max_pass_tokens = 1
        self.idle = True
        self._slots.begin_idle(self)
        self._listen()

    def give_slot_away(self) -> None:
        """Stay idle without a slot: another stream needs it."""
        assert self.slot and self.idle
        self.slot.on_tokens = None
        self.slot = None

    def begin_slot(self, slot: Slot) -> None:
        """Let the model begin in a slot that there was none of, with the last moments first."""
        self._n_skipped += self._n_held - self._n_preroll
        self.idle = self.waiting = False
        self._begin(slot, self._n_preroll)
        self._on_begun()

    def restart(self, n_again: int) -> None:
        """
        Begin anew in another state of the network.

        :param n_again: samples that were processed and are processed again, as far as they are
            kept
        """
        assert self.slot
        self._recent.keep(n_again)
        self.slot.on_tokens = None
        self._begin(self._engine.restart(self.slot, self.delay), n_again)

    def close(self) -> None:
        """Give the slot back."""
        self._slots.leave(self)
        if self.slot:
            self.slot.on_tokens = None  # a cycle would keep all of this in memory for some time
        self._on_begun = self._on_tokens = self._on_processed = _nothing

    # ---- inside ----

    def _begin(self, slot: Slot, n_again: int) -> None:
        """Give the model some of what was processed, and what was not."""
        slot.on_tokens, self.slot = self._on_tokens, slot
        again = self._recent.tail(n_again)
        slot.feed(again)
        slot.feed(self._pending.peek(len(self._pending)))
        self._n_processed = len(again)
        self._clock.begin_slot(self._voice.pushed_s - len(again) / self._rate_hz)
        if self._phrases.phrases:
            self._engine.expect_phrases(slot, self._phrases)

    def _append(self, samples: np.ndarray) -> None:
        self._pending.append(samples)
        if self.idle:
            self._listen()
        elif self.slot:
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
        while self.idle and not self.waiting and len(self._pending) >= self._voice.n_missing:
            n_new = self._voice.n_missing
            self._process(n_new)
            self._n_held += n_new
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
        n_lost = max(0, self._n_held - n_preroll) // size
        # Options that are new may ask for more than is kept.
        n_forgotten = max(0, self._n_held - len(self._recent))
        return size * max(n_lost, -(-n_forgotten // size))

    def _end_idle(self) -> None:
        """Let the model go on, with the last moments first: it sees a shorter pause."""
        n_lost = self._n_lost
        self._n_preroll = self._n_held - n_lost
        if self.slot is None:
            self.waiting = True
            self._slots.wait(self)
            return
        self._slots.end_idle(self)
        self.idle = False
        self._n_skipped += n_lost
        if n_lost:
            self._clock.skip(self.slot.n_samples, n_lost)
            self._n_processed -= n_lost
        self.slot.feed(self._recent.tail(self._n_preroll))
        self.slot.feed(self._pending.peek(len(self._pending)))


def _nothing() -> None:
    pass
