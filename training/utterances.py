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
Utterances to train on: drawn from shards, taken apart and put together anew, played unevenly.

A minute of real speech that is heard a hundred times teaches its words, not its sounds. Spliced
from spans of several recordings, it never says the same thing twice.
"""

from __future__ import annotations

from pathlib import Path
import random
from typing import NamedTuple

import numpy as np
from training.synthesis.shards import Shards

RATE_HZ = 16000
FRAME = 160  # samples that have one level
_BEFORE_S, _AFTER_S = 0.04, 0.08  # how far from the end of a word the pause after it may be
_QUIET = 0.06  # of the level of loud speech: what counts as a pause
_FADE = 80  # samples at both sides of a cut
_MAX_SPAN = 5  # words
_KNOT = 6400  # samples between changes of speed
_UNEVEN = 0.06  # standard deviation of the speed, as a logarithm
_MISSED = 0.25  # of a word: what may be cut off at its front
_HURRIED = 0.35  # share of the utterances that are spoken at another tempo
_TEMPO = (0.9, 1.4)  # people who order speak a third faster than people who read
_HOP = 320  # samples between the frames that a new tempo is put together from
_SEARCH = 160  # samples to both sides that a frame may be moved to fit


class Speech(NamedTuple):
    """Something said."""

    samples: np.ndarray  # float32 [n], 16 kHz, in units of int16
    words: list[str]
    ends: np.ndarray  # float64 [n_words], seconds


def levels(samples: np.ndarray) -> np.ndarray:
    """Return the level of every 10 ms, [n // 160]; the root of the mean square."""
    n_frames = len(samples) // FRAME
    frames = samples[:n_frames * FRAME].astype(np.float32).reshape(-1, FRAME)
    return np.asarray(np.sqrt(np.square(frames).mean(1)))


def pauses(samples: np.ndarray, ends: np.ndarray) -> list[tuple[int, int]]:
    """
    Return where a recording can be cut: (number of words before, sample), both ends included.

    Words are cut apart where there is a moment of quiet near the end of the first one.
    """
    level = levels(samples)
    loud = np.percentile(level, 80)
    found = [(0, 0)]
    for number, end in enumerate(ends[:-1], 1):
        first = max(0, int((end - _BEFORE_S) * RATE_HZ / FRAME))
        near = level[first:int((end + _AFTER_S) * RATE_HZ / FRAME) + 1]
        if len(near) and near.min() < _QUIET * loud:
            at = (first + int(near.argmin())) * FRAME + FRAME // 2
            if at > found[-1][1]:
                found.append((number, at))
    return [*found, (len(ends), len(samples))]


def span(speech: Speech, cuts: list[tuple[int, int]]) -> Speech:
    """Return a random stretch between two cuts, of at most _MAX_SPAN words where possible."""
    first = random.randrange(len(cuts) - 1)
    allowed = [n for n in range(first + 1, len(cuts))
               if cuts[n][0] - cuts[first][0] <= _MAX_SPAN] or [first + 1]
    (word, start), (last_word, stop) = cuts[first], cuts[random.choice(allowed)]
    samples = speech.samples[start:stop].copy()
    fade = np.linspace(0, 1, min(_FADE, len(samples)), dtype=np.float32)
    samples[:len(fade)] *= fade
    samples[len(samples) - len(fade):] *= fade[::-1]
    ends = np.clip(speech.ends[word:last_word] - start / RATE_HZ, 0, len(samples) / RATE_HZ)
    return Speech(samples, speech.words[word:last_word], ends)


def tail(speech: Speech, start_s: float) -> Speech:
    """Return what is heard from `start_s` on; words of which too much was missed are not said."""
    begins = np.concatenate(([0.0], speech.ends[:-1]))
    first = int((start_s > begins + _MISSED * (speech.ends - begins)).sum())
    return Speech(speech.samples[int(start_s * RATE_HZ):], speech.words[first:],
                  speech.ends[first:] - start_s)


def play(speech: Speech, speed: float) -> Speech:
    """Play faster by `speed` on average, at a speed that wanders; pitch and formants go along."""
    length = len(speech.samples)
    knots = np.arange(0.0, length + _KNOT, _KNOT)
    wander = np.clip(np.random.normal(0, _UNEVEN, len(knots) - 1), -2 * _UNEVEN, 2 * _UNEVEN)
    times = np.concatenate(([0.0], np.cumsum(_KNOT / (speed * np.exp(wander)))))
    n_out = int(np.interp(length, knots, times))
    place = np.interp(np.arange(n_out), times, knots)
    low = np.minimum(place.astype(np.int64), length - 2)
    part = (place - low).astype(np.float32)
    samples = speech.samples[low] * (1 - part) + speech.samples[low + 1] * part
    ends = np.interp(speech.ends * RATE_HZ, knots, times) / RATE_HZ
    return Speech(samples, speech.words, ends)


def stretch(speech: Speech, tempo: float) -> Speech:
    """
    Speak faster by `tempo`, at the same pitch.

    Waveform similarity overlap-add (Verhelst and Roelands 1993): each frame is taken from where it
    continues the one before best.
    """
    source = np.pad(speech.samples, (0, 2 * _HOP + _SEARCH))
    n_frames = int(len(speech.samples) / (_HOP * tempo)) + 1
    samples = np.zeros((n_frames + 1) * _HOP, np.float32)
    rise = np.linspace(0, 1, _HOP, dtype=np.float32)
    window = np.concatenate((rise, 1 - rise))
    at = 0
    samples[:_HOP] = (1 - rise) * source[:_HOP]
    for n in range(n_frames):
        low = max(0, int(n * _HOP * tempo) - _SEARCH)
        if n:
            fits = np.correlate(source[low:low + 2 * _SEARCH + _HOP],
                                source[at + _HOP:at + 2 * _HOP], 'valid')
            at = low + int(fits.argmax())
        samples[n * _HOP:(n + 2) * _HOP] += window * source[at:at + 2 * _HOP]
    length = int(len(speech.samples) / tempo)
    return Speech(samples[:length], speech.words, speech.ends / tempo)


def join(parts: list[Speech]) -> Speech:
    """Return one utterance of several, with short pauses."""
    samples: list[np.ndarray] = []
    words: list[str] = []
    ends: list[np.ndarray] = []
    at = 0
    for part in parts:
        samples += [part.samples, np.zeros(int(random.expovariate(12) * RATE_HZ), np.float32)]
        words += part.words
        ends.append(part.ends + at / RATE_HZ)
        at += len(samples[-2]) + len(samples[-1])
    return Speech(np.concatenate(samples), words, np.concatenate(ends))


def between(low: float, high: float) -> float:
    """Return a random factor, as often above as below the middle one."""
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


class Source:
    """All shards of one kind of speech, and the sentences they speak."""

    def __init__(self, root: Path, prefix: str, sentences: str, spliced: float = 0.0) -> None:
        """
        Take the shards `<root>/shards/<prefix>*`.

        :param spliced: share of the utterances that are put together from several recordings
        """
        self.shards = Shards(root, prefix)
        self._spliced = spliced
        self._sentences = (root / sentences).read_text(encoding='utf-8').splitlines()
        self._cuts: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def _whole(self) -> tuple[Speech, tuple[int, int]]:
        """Return a random recording, and what to remember it by."""
        while True:
            reader, clip = self.shards.draw()
            words = self._sentences[clip.sentence].split()
            if len(words) == len(clip.ends) and clip.length > _KNOT // 2:
                samples = reader.samples[clip.start:clip.start + clip.length].astype(np.float32)
                whole = Speech(samples, words, clip.ends.astype(np.float64))
                return whole, (id(reader), clip.start)

    def _span(self) -> Speech:
        while True:
            speech, key = self._whole()
            if key not in self._cuts:
                self._cuts[key] = pauses(speech.samples, speech.ends)
            part = span(speech, self._cuts[key])
            if len(part.samples) > FRAME * 10:
                return part

    def draw(self, slowest: float, fastest: float) -> Speech:
        """Return a random utterance, each of its parts played at a speed of its own."""
        if random.random() < self._spliced:
            speech = join([play(self._span(), between(slowest, fastest))
                           for _ in range(random.randint(1, 5))])
        else:
            speech = play(self._whole()[0], between(slowest, fastest))
        return stretch(speech, between(*_TEMPO)) if random.random() < _HURRIED else speech
