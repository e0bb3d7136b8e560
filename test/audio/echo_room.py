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

"""A robot that speaks beside its own microphone: what it plays, and what comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from voxtral_ros.audio.block import AudioError, Samples
from voxtral_ros.audio.echo import EchoCanceller
from voxtral_ros.audio.echo_linear import LinearCanceller
from voxtral_ros.audio.files import read_file
from voxtral_ros.audio.resample import resampled, Resampler

DATA = Path(__file__).parents[1] / 'data'
RATE = 16_000
BLOCK_S = 0.02
T0 = 1_700_000_000.0  # stamps are seconds since 1970
ROBOT = ('austen_0870', 'austen_0880', 'austen_0890', 'austen_0920', 'austen_0930')
PERSON = ('go_forward_ten_meters',)


def speech(names: tuple[str, ...], seconds: float, level: float = 0.1) -> Samples:
    """Return speech of a level (RMS), repeated to be as long as is wanted."""
    samples = np.concatenate([
        piece for name in names
        for piece in resampled(read_file(str(DATA / f'{name}.flac'), 1.0))])
    samples = np.resize(samples, round(seconds * RATE))
    return (samples * (level / np.sqrt(np.square(samples).mean()))).astype(np.float32)


def no_linear_canceller() -> bool:
    """Return whether the system's library is missing."""
    try:
        LinearCanceller()
    except AudioError:
        return True
    return False


def at_rate(samples: Samples, rate_hz: int) -> Samples:
    """Return samples of 16 kHz at another rate."""
    return Resampler(RATE, rate_hz).process(samples, last=True)


def in_the_room(played: Samples, delay_s: float, t60_s: float = 0.3, ppm: float = 0.0) -> Samples:
    """
    Return what the microphone picks up of what is played, with a little noise.

    :param delay_s: from the stamp of what is played to its first sound at the microphone
    :param ppm: by how much the clock of the player is faster than that of the microphone
    """
    random = np.random.default_rng(0)
    n = len(played)
    decay = np.arange(round(t60_s * RATE)) / RATE
    response = random.standard_normal(len(decay)) * np.exp(-6.9 * decay / t60_s)
    response[0] = 30.0  # the loudspeaker is near
    echo = np.fft.irfft(np.fft.rfft(played, 2 * n) * np.fft.rfft(response, 2 * n))[:n]
    echo *= np.sqrt(np.square(played).mean() / np.square(echo).mean())
    times = np.arange(n) / RATE
    echo = np.interp((times - delay_s) * (1 + ppm * 1e-6), times, echo, left=0.0, right=0.0)
    return (echo + 3e-4 * random.standard_normal(n)).astype(np.float32)


class Message(NamedTuple):
    """A block of the reference, and when it arrives."""

    arrives_s: float
    samples: Samples
    rate_hz: int
    start_s: float


def messages(played: Samples, rate_hz: int = RATE, late_s: float = 0.0, ppm: float = 0.0,
             jitter_s: float = 0.0, block_s: float = BLOCK_S) -> Iterator[Message]:
    """Yield what is played in blocks, each when it was played, or later."""
    random = np.random.default_rng(1)
    samples = at_rate(played, rate_hz)
    n = round(block_s * rate_hz)
    for begin in range(0, len(samples), n):
        start_s = begin / rate_hz / (1 + ppm * 1e-6)
        yield Message(start_s + block_s + late_s, samples[begin:begin + n], rate_hz,
                      start_s + random.uniform(-jitter_s, jitter_s))


def cancelled(canceller: EchoCanceller, microphone: Samples, reference: Any,
              clock: Any = None) -> Samples:
    """Return what comes out for what the microphone picks up, block by block, as time passes."""
    reference = iter(reference)
    message = next(reference, None)
    n = round(BLOCK_S * RATE)
    out = []
    for begin in range(0, len(microphone), n):
        now_s = begin / RATE + BLOCK_S
        if clock is not None:
            clock(now_s)
        while message is not None and message.arrives_s <= now_s:
            canceller.add_reference(message.samples, message.rate_hz, T0 + message.start_s, now_s)
            message = next(reference, None)
        out.append(canceller.process(microphone[begin:begin + n], T0 + begin / RATE))
    return np.concatenate([*out, canceller.drain()])


def erle_db(before: Samples, after: Samples, begin_s: float, end_s: float) -> float:
    """Return by how much the audio became weaker between two moments."""
    here = slice(round(begin_s * RATE), round(end_s * RATE))
    return float(10 * np.log10(np.square(before[here]).mean() / np.square(after[here]).mean()))
