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
Training utterances: drawn from shards, spliced, and changed in speed and tempo.

A network overfits to a few recordings that it sees a hundred times: it learns their texts.
Utterances spliced from spans of several recordings are never the same twice.
"""

from __future__ import annotations

from pathlib import Path
import random
from typing import NamedTuple

import numpy as np
from training.synthesis.shards import Shards

RATE_HZ = 16000
FRAME = 160  # samples that have one level
_BEFORE_S, _AFTER_S = 0.04, 0.08  # how far before and after a word end a pause may be
_PAUSE_LEVEL = 0.06  # of the level of loud speech; a pause is below it
_FADE = 80  # samples at both sides of a cut
_MAX_SPAN = 5  # words
_KNOT = 6400  # samples between changes of speed
_SPEED_STD = 0.06  # of the logarithm of the speed
_MAX_CUT = 0.25  # of a word: more cut off at its start removes it from the text
_TIME_STRETCHED = 0.35  # fraction of the utterances with another tempo
_TEMPO = (0.9, 1.4)  # requests are spoken a third faster than read speech
_HOP = 320  # samples between the frames of the overlap-add
_SEARCH = 160  # samples that a frame may be shifted to either side


class Utterance(NamedTuple):
    """Speech with its words and their ends."""

    samples: np.ndarray  # float32 [n], 16 kHz, in units of int16
    words: list[str]
    ends: np.ndarray  # float64 [n_words], seconds


def levels(samples: np.ndarray) -> np.ndarray:
    """Return the RMS level of every 10 ms, [n // 160]."""
    n_frames = len(samples) // FRAME
    frames = samples[:n_frames * FRAME].astype(np.float32).reshape(-1, FRAME)
    return np.asarray(np.sqrt(np.square(frames).mean(1)))


def cut_points(samples: np.ndarray, ends: np.ndarray) -> list[tuple[int, int]]:
    """
    Return where a recording can be cut: (number of words before, sample), both ends included.

    It can be cut between words where there is a pause near the end of the first one.
    """
    level = levels(samples)
    loud = np.percentile(level, 80)
    found = [(0, 0)]
    for number, end in enumerate(ends[:-1], 1):
        first = max(0, int((end - _BEFORE_S) * RATE_HZ / FRAME))
        near = level[first:int((end + _AFTER_S) * RATE_HZ / FRAME) + 1]
        if len(near) and near.min() < _PAUSE_LEVEL * loud:
            at = (first + int(near.argmin())) * FRAME + FRAME // 2
            if at > found[-1][1]:
                found.append((number, at))
    return [*found, (len(ends), len(samples))]


def span(utterance: Utterance, cuts: list[tuple[int, int]]) -> Utterance:
    """Return a random span between two cut points, of at most _MAX_SPAN words if possible."""
    first = random.randrange(len(cuts) - 1)
    allowed = [n for n in range(first + 1, len(cuts))
               if cuts[n][0] - cuts[first][0] <= _MAX_SPAN] or [first + 1]
    (word, start), (last_word, stop) = cuts[first], cuts[random.choice(allowed)]
    samples = utterance.samples[start:stop].copy()
    fade = np.linspace(0, 1, min(_FADE, len(samples)), dtype=np.float32)
    samples[:len(fade)] *= fade
    samples[len(samples) - len(fade):] *= fade[::-1]
    ends = np.clip(utterance.ends[word:last_word] - start / RATE_HZ, 0, len(samples) / RATE_HZ)
    return Utterance(samples, utterance.words[word:last_word], ends)


def tail(utterance: Utterance, start_s: float) -> Utterance:
    """Return the utterance from `start_s` on, without words of which too much is cut off."""
    begins = np.concatenate(([0.0], utterance.ends[:-1]))
    first = int((start_s > begins + _MAX_CUT * (utterance.ends - begins)).sum())
    return Utterance(utterance.samples[int(start_s * RATE_HZ):], utterance.words[first:],
                     utterance.ends[first:] - start_s)


def change_speed(utterance: Utterance, speed: float) -> Utterance:
    """Resample to `speed` on average, with random variation: changes pitch and formants too."""
    length = len(utterance.samples)
    knots = np.arange(0.0, length + _KNOT, _KNOT)
    variation = np.clip(np.random.normal(0, _SPEED_STD, len(knots) - 1),
                        -2 * _SPEED_STD, 2 * _SPEED_STD)
    times = np.concatenate(([0.0], np.cumsum(_KNOT / (speed * np.exp(variation)))))
    n_out = int(np.interp(length, knots, times))
    place = np.interp(np.arange(n_out), times, knots)
    low = np.minimum(place.astype(np.int64), length - 2)
    part = (place - low).astype(np.float32)
    samples = utterance.samples[low] * (1 - part) + utterance.samples[low + 1] * part
    ends = np.interp(utterance.ends * RATE_HZ, knots, times) / RATE_HZ
    return Utterance(samples, utterance.words, ends)


def time_stretch(utterance: Utterance, tempo: float) -> Utterance:
    """
    Speed up by `tempo` at the same pitch.

    Waveform similarity overlap-add (WSOLA, Verhelst and Roelands 1993): each frame is taken from
    where it continues the previous one best.
    """
    source = np.pad(utterance.samples, (0, 2 * _HOP + _SEARCH))
    n_frames = int(len(utterance.samples) / (_HOP * tempo)) + 1
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
    length = int(len(utterance.samples) / tempo)
    return Utterance(samples[:length], utterance.words, utterance.ends / tempo)


def join(parts: list[Utterance]) -> Utterance:
    """Concatenate utterances, with short pauses."""
    samples: list[np.ndarray] = []
    words: list[str] = []
    ends: list[np.ndarray] = []
    at = 0
    for part in parts:
        samples += [part.samples, np.zeros(int(random.expovariate(12) * RATE_HZ), np.float32)]
        words += part.words
        ends.append(part.ends + at / RATE_HZ)
        at += len(samples[-2]) + len(samples[-1])
    return Utterance(np.concatenate(samples), words, np.concatenate(ends))


def log_uniform(low: float, high: float) -> float:
    """Return a log-uniform random number."""
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


class Source:
    """All shards of one kind of speech, and their sentences."""

    def __init__(self, root: Path, prefix: str, sentences: str, spliced: float = 0.0) -> None:
        """
        Take the shards `<root>/shards/<prefix>*`.

        :param spliced: fraction of the utterances that are spliced from several recordings
        """
        self.shards = Shards(root, prefix)
        self._spliced = spliced
        self._sentences = (root / sentences).read_text(encoding='utf-8').splitlines()
        self._cuts: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def _whole(self) -> tuple[Utterance, tuple[int, int]]:
        """Return a random recording and a key of it."""
        while True:
            reader, clip = self.shards.draw()
            words = self._sentences[clip.sentence].split()
            if len(words) == len(clip.ends) and clip.length > _KNOT // 2:
                samples = reader.samples[clip.start:clip.start + clip.length].astype(np.float32)
                whole = Utterance(samples, words, clip.ends.astype(np.float64))
                return whole, (id(reader), clip.start)

    def _span(self) -> Utterance:
        while True:
            utterance, key = self._whole()
            if key not in self._cuts:
                self._cuts[key] = cut_points(utterance.samples, utterance.ends)
            part = span(utterance, self._cuts[key])
            if len(part.samples) > FRAME * 10:
                return part

    def draw(self, min_speed: float, max_speed: float) -> Utterance:
        """Return a random utterance, whole or spliced, each part at its own random speed."""
        if random.random() < self._spliced:
            utterance = join([change_speed(self._span(), log_uniform(min_speed, max_speed))
                              for _ in range(random.randint(1, 5))])
        else:
            utterance = change_speed(self._whole()[0], log_uniform(min_speed, max_speed))
        if random.random() < _TIME_STRETCHED:
            return time_stretch(utterance, log_uniform(*_TEMPO))
        return utterance
