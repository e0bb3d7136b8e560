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
Sounds that are not speech: what is struck, what beeps, and recordings of these and others.

A model that has only met noise which goes on and on takes a knock for the beginning of a word.
"""

from __future__ import annotations

from pathlib import Path
import random

import numpy as np
from training.synthesis.shards import Shards
from training.utterances import between, RATE_HZ

_RECORDED = 0.6  # share of recordings, where there are any
_STRUCK = 0.7  # share of what is struck, of the others
_LONGEST = 4 * RATE_HZ  # of a recording: it is heard in parts
_LEVEL_DB = (-24, 6)  # against speech


def struck() -> np.ndarray:
    """Return a knock, a tap, a step or a dish: bursts of noise that make something ring."""
    decays = [between(0.004, 0.25) for _ in range(random.randint(1, 7))]  # seconds to 1 / e
    time = np.arange(int(5 * max(decays) * RATE_HZ)) / RATE_HZ
    ring = random.uniform(0, 0.3) * np.eye(1, len(time))[0]
    for decay in decays:
        tone = np.sin(2 * np.pi * between(70, 6500) * time) * np.exp(-time / decay)
        ring += random.uniform(0.2, 1) * tone / np.linalg.norm(tone)
    hits_s = np.cumsum([0.0] + [between(0.04, 0.4) for _ in range(random.choice((0, 0, 1, 2)))])
    sound = np.zeros(int(hits_s[-1] * RATE_HZ) + len(ring) + 400)
    for at in (hits_s * RATE_HZ).astype(int):
        burst = np.random.randn(random.randint(2, 400)) * random.uniform(0.3, 1)
        hit = np.convolve(ring, burst)
        sound[at:at + len(hit)] += hit
    return sound


def beep() -> np.ndarray:
    """Return a signal of an appliance or a telephone: tones that repeat, alternate or glide."""
    pitches = [between(200, 4000) for _ in range(random.randint(1, 4))]  # Hz
    parts = []
    on_s, off_s = between(0.03, 0.5), between(0.02, 0.4) * random.choice((0, 1))
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


class Sounds:
    """What is heard beside speech: made on the spot, and drawn from the shards `noise*`."""

    def __init__(self, root: Path) -> None:
        """Take the recordings in `<root>/shards/noise*`, if there are any."""
        self.shards = Shards(root, 'noise')

    def draw(self) -> np.ndarray:
        """Return a random sound, float32 [n], its peak as loud as that of speech or less loud."""
        if self.shards.n_clips and random.random() < _RECORDED:
            reader, clip = self.shards.draw()
            skip = random.randint(0, max(0, clip.length - _LONGEST))
            start = clip.start + skip
            sound = reader.samples[start:start + min(clip.length - skip, _LONGEST)].astype(float)
        else:
            sound = struck() if random.random() < _STRUCK else beep()
        peak = 0.7 * 32767 * 10 ** (random.uniform(*_LEVEL_DB) / 20)
        return (sound * (peak / (np.abs(sound).max() + 1e-9))).astype(np.float32)

    def scatter(self, samples: np.ndarray) -> None:
        """Add sounds to a time line, in place: from one in ten seconds to three in a second."""
        pause_s = between(0.3, 10)
        at = int(random.expovariate(1 / pause_s) * RATE_HZ)
        while at < len(samples):
            sound = self.draw()[:len(samples) - at]
            samples[at:at + len(sound)] += sound
            at += len(sound) + int(random.expovariate(1 / pause_s) * RATE_HZ)
