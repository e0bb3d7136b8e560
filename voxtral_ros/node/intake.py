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

"""Blocks of audio as they come to the samples of one stream: placed, resampled, cleaned."""

from __future__ import annotations

import logging
from typing import Protocol

import numpy as np

from voxtral_ros.audio.block import AudioBlock, Samples
from voxtral_ros.audio.echo import EchoCanceller
from voxtral_ros.audio.gaps import Kind, Timeline
from voxtral_ros.audio.resample import Resampler, TARGET_RATE_HZ
from voxtral_ros.node.stamps import Origin, StampMap
from voxtral_ros.node.stats import StampCounter, WorkerStats
from voxtral_ros.recognizer.interface import SpeechStream

_LOGGER = logging.getLogger(__name__)


class OnAudio(Protocol):
    """Called from the thread of the worker with all audio, before the stream is given it."""

    def __call__(self, samples: Samples, position: int, *, before: bool = False) -> None:
        """
        Take audio.

        :param samples: float32 [n], 16 kHz
        :param position: how many samples there were before, of this stream
        :param before: these go into the echo canceller; else they are what the stream is given
        """


def no_audio(samples: Samples, position: int, *, before: bool = False) -> None:
    """Take audio for nobody."""


class Intake:
    """Feeds one stream; what the canceller holds comes with the blocks that follow."""

    def __init__(self, stream: SpeechStream, stats: WorkerStats, counter: StampCounter,
                 max_gap_s: float, canceller: EchoCanceller | None = None,
                 on_audio: OnAudio = no_audio) -> None:
        """
        Begin with nothing; what another stream has left in the canceller is forgotten.

        :param stats: to be counted in
        :param max_gap_s: longer gaps end the utterance
        """
        self.fed = 0  # samples at 16 kHz
        self._stream, self._stats, self._counter = stream, stats, counter
        self._max_gap_s, self._canceller, self._on_audio = max_gap_s, canceller, on_audio
        self._timeline: Timeline | None = None
        self._resampler: Resampler | None = None
        self._taken = 0  # samples at 16 kHz, with those that the canceller holds
        self._stamps = StampMap()
        self._frame_id = ''
        if canceller is not None:
            canceller.drain()

    @property
    def origin(self) -> Origin:
        """Return where the audio that was fed came from."""
        return Origin(self._frame_id, self._stamps, self.fed / TARGET_RATE_HZ)

    def process(self, block: AudioBlock, received_ns: int) -> None:
        """Take a block; one that is of another time ends the utterance before it."""
        self._stats.processed_s += block.duration_ns / 1e9
        self._stats.bad_samples += block.n_bad
        if self._timeline is None or self._timeline.rate_hz != block.rate_hz:
            self._change_format(block.rate_hz)
        assert self._timeline is not None and self._resampler is not None
        self._counter.count(block)
        place = self._timeline.place(len(block.samples), block.stamp_ns, received_ns)
        samples = block.samples
        stamp_ns = place.stamp_ns
        if place.kind is Kind.JUMP:
            self._stats.jumps += 1
            _LOGGER.debug('the stamps jump: the utterance ends')
            self.flush()
        elif place.silence > 0:
            if block.stamp_ns is None:  # nothing was lost: the source has paused
                self._stats.paused_s += place.silence / block.rate_hz
            else:
                self._stats.gaps += 1
            _LOGGER.debug('%.2f s without audio: silence instead', place.silence / block.rate_hz)
            samples = place.filled(samples)
            stamp_ns -= round(place.silence / block.rate_hz * 1e9)
        self._frame_id = block.frame_id or self._frame_id
        # The next sample out of the resampler is as old as what it still holds.
        self._stamps.anchor(self._taken / TARGET_RATE_HZ,
                            stamp_ns - round(self._resampler.delay_s * 1e9))
        self._take(self._resampler.process(samples))

    def poll(self) -> None:
        """Feed what the canceller held until its reference came."""
        if self._canceller is not None:
            self._feed(self._canceller.poll())

    def drain(self) -> None:
        """Feed all that has come."""
        if self._canceller is not None:
            self._feed(self._canceller.drain())

    def flush(self) -> None:
        """End the utterance after all that has come."""
        self.drain()
        self._stream.flush()

    def tear(self) -> None:
        """End the utterance: what follows comes after audio that was dropped."""
        if self._timeline is not None:
            # What follows is another sentence: no silence in between, which would cost time.
            self.flush()
            self._timeline.reset()

    def _change_format(self, rate_hz: int) -> None:
        if self._resampler is not None:
            self._take(self._resampler.process(np.zeros(0, np.float32), last=True))
        _LOGGER.debug('audio at %d Hz', rate_hz)
        self._resampler = Resampler(rate_hz)
        self._timeline = Timeline(rate_hz, max_gap_s=self._max_gap_s)

    def _take(self, samples: Samples) -> None:
        """Take samples at 16 kHz, the last of which has just been given a stamp."""
        start_s = self._stamps(self._taken / TARGET_RATE_HZ) / 1e9
        if self._canceller is not None:
            self._on_audio(samples, self._taken, before=True)
        self._taken += len(samples)
        self._feed(samples if self._canceller is None
                   else self._canceller.process(samples, start_s))

    def _feed(self, samples: Samples) -> None:
        if len(samples):
            self._on_audio(samples, self.fed)
            self._stream.feed(samples, finite=True)
            self.fed += len(samples)
