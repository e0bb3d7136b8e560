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
Sound effects, which are not speech: knocks, beeps, and recordings of these and other noises.

A model that is trained with stationary noise alone mistakes a knock for the start of a word.
"""

from __future__ import annotations

from pathlib import Path
import random

import numpy as np
from training.synthesis.shards import Shards
from training.utterances import log_uniform, RATE_HZ

_RECORDED = 0.6  # fraction of recordings, if there are any
_IMPACT = 0.7  # fraction of impacts, of the others
_MAX_SAMPLES = 4 * RATE_HZ  # of a longer recording, a random part
_LEVEL_DB = (-24, 6)  # relative to speech
_BACKGROUND_DB = (-30, 0)  # RMS, relative to that of speech
_SPEECH_RMS = 2500  # of synthetic and real speech as they are in the shards, in units of int16
_MIN_BACKGROUND = RATE_HZ  # samples of a recording that can go on in the background
_CROSSFADE = 800


def impact() -> np.ndarray:
    """Return a knock, footstep or dish: bursts of noise that excite a resonator."""
    decays = [log_uniform(0.004, 0.25) for _ in range(random.randint(1, 7))]  # seconds to 1 / e
    time = np.arange(int(5 * max(decays) * RATE_HZ)) / RATE_HZ
    ring = random.uniform(0, 0.3) * np.eye(1, len(time))[0]
    for decay in decays:
        tone = np.sin(2 * np.pi * log_uniform(70, 6500) * time) * np.exp(-time / decay)
        ring += random.uniform(0.2, 1) * tone / np.linalg.norm(tone)
    n_repeats = random.choice((0, 0, 1, 2))
    hits_s = np.cumsum([0.0] + [log_uniform(0.04, 0.4) for _ in range(n_repeats)])
    audio = np.zeros(int(hits_s[-1] * RATE_HZ) + len(ring) + 400)
    for at in (hits_s * RATE_HZ).astype(int):
        burst = np.random.randn(random.randint(2, 400)) * random.uniform(0.3, 1)
        hit = np.convolve(ring, burst)
        audio[at:at + len(hit)] += hit
    return audio


def beep() -> np.ndarray:
    """Return a signal tone: tones that repeat, alternate or glide."""
    pitches = [log_uniform(200, 4000) for _ in range(random.randint(1, 4))]  # Hz
    parts = []
    on_s, off_s = log_uniform(0.03, 0.5), log_uniform(0.02, 0.4) * random.choice((0, 1))
    glide = random.choice((0.0, 0.0, random.uniform(-1, 1)))  # octaves
    partials = random.choice((1, 1, 3, 7))  # of a square wave, as of a buzzer
    for n in range(random.randint(1, 8)):
        time = np.arange(int(on_s * RATE_HZ)) / RATE_HZ
        phase = 2 * np.pi * np.cumsum(
            pitches[n % len(pitches)] * 2 ** (glide * time / on_s)) / RATE_HZ
        tone = sum(np.sin(k * phase) / k for k in range(1, partials + 1, 2))
        edge = np.minimum(1, np.minimum(time, time[::-1]) / 0.005)
        parts += [tone * edge, np.zeros(int(off_s * RATE_HZ))]
    return np.concatenate(parts)


class SoundEffects:
    """Random sound effects: generated, and drawn from the shards `noise*`."""

    def __init__(self, root: Path) -> None:
        """Take the recordings in `<root>/shards/noise*`, if there are any."""
        self.shards = Shards(root, 'noise')

    def draw(self) -> np.ndarray:
        """Return a random sound effect, float32 [n], its peak -24 to 6 dB relative to speech."""
        if self.shards.n_clips and random.random() < _RECORDED:
            reader, clip = self.shards.draw()
            skip = random.randint(0, max(0, clip.length - _MAX_SAMPLES))
            start = clip.start + skip
            stop = start + min(clip.length - skip, _MAX_SAMPLES)
            audio = reader.samples[start:stop].astype(float)
        else:
            audio = impact() if random.random() < _IMPACT else beep()
        peak = 0.7 * 32767 * 10 ** (random.uniform(*_LEVEL_DB) / 20)
        return (audio * (peak / (np.abs(audio).max() + 1e-9))).astype(np.float32)

    def scatter(self, samples: np.ndarray) -> None:
        """Add sound effects in place: from one in 10 s to three a second."""
        pause_s = log_uniform(0.3, 10)
        at = int(random.expovariate(1 / pause_s) * RATE_HZ)
        while at < len(samples):
            audio = self.draw()[:len(samples) - at]
            samples[at:at + len(audio)] += audio
            at += len(audio) + int(random.expovariate(1 / pause_s) * RATE_HZ)

    def background(self, n_samples: int) -> np.ndarray | None:
        """
        Return a recording that goes on for `n_samples`, float32, 0 to 30 dB below speech.

        A shorter one is repeated with crossfades. None if a random recording is too short.
        """
        if not self.shards.n_clips:
            return None
        reader, clip = self.shards.draw()
        if clip.length < _MIN_BACKGROUND:
            return None
        loop = reader.samples[clip.start:clip.start + clip.length].astype(np.float32)
        fade = np.linspace(0, 1, _CROSSFADE, dtype=np.float32)
        loop[:_CROSSFADE] = loop[:_CROSSFADE] * fade + loop[-_CROSSFADE:] * fade[::-1]
        loop = np.roll(loop[:-_CROSSFADE], random.randrange(len(loop)))
        audio = np.resize(loop, n_samples)
        rms = float(np.sqrt(np.square(audio).mean())) + 1e-9
        level = _SPEECH_RMS * 10 ** (random.uniform(*_BACKGROUND_DB) / 20)
        return np.asarray(audio * (level / rms), np.float32)
