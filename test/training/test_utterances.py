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

"""Utterances that are cut, changed in speed or tempo, or joined keep their word ends."""

import random

import numpy as np
import pytest
from training.utterances import (
    change_speed, cut_points, join, RATE_HZ, span, tail, time_stretch, Utterance)


@pytest.fixture(autouse=True)
def seeded():
    random.seed(0)
    np.random.seed(0)


def make_utterance(*lengths_s, pause_s=0.1):
    """Return words of constant level, each louder than the one before, with pauses between."""
    samples, ends = [], []
    at = 0
    for number, length_s in enumerate(lengths_s):
        word = np.full(int(length_s * RATE_HZ), 5000 + 100 * number, np.float32)
        pause = np.zeros(int(pause_s * RATE_HZ), np.float32)
        ends.append((at + len(word)) / RATE_HZ)
        at += len(word) + len(pause)
        samples += [word, pause]
    return Utterance(np.concatenate(samples), [f'w{n}' for n in range(len(lengths_s))],
                     np.array(ends))


def audio_ends(utterance):
    loud = np.abs(utterance.samples) > 1000
    return np.flatnonzero(loud & ~np.append(loud[1:], False)) / RATE_HZ


def test_recordings_are_cut_at_pauses():
    utterance = make_utterance(0.3, 0.4, 0.5)
    (first, second), (third, fourth) = cut_points(utterance.samples, utterance.ends)[1:3]
    assert (first, third) == (1, 2)
    assert 0.3 <= second / RATE_HZ <= 0.4
    assert 0.8 <= fourth / RATE_HZ <= 0.9


def test_words_that_run_together_are_not_cut_apart():
    utterance = make_utterance(0.3, 0.4, pause_s=0.0)
    assert cut_points(utterance.samples, utterance.ends) == [(0, 0), (2, len(utterance.samples))]


def test_a_span_has_its_words_and_their_ends():
    utterance = make_utterance(0.3, 0.4, 0.5, 0.2)
    cuts = cut_points(utterance.samples, utterance.ends)
    seen = set()
    for _ in range(60):
        part = span(utterance, cuts)
        seen.add(tuple(part.words))
        assert len(part.words) == len(part.ends)
        np.testing.assert_allclose(audio_ends(part), part.ends, atol=0.02)
        # The level identifies the word.
        levels = [part.samples[int(end * RATE_HZ) - 200] for end in part.ends]
        assert levels == [5000 + 100 * int(word[1:]) for word in part.words]
    assert len(seen) == 10  # all stretches of four words


@pytest.mark.parametrize('speed', [0.84, 1.0, 1.2])
def test_word_ends_move_with_the_speed(speed):
    utterance = make_utterance(0.3, 0.4, 0.5, 0.3, 0.6)
    played = change_speed(utterance, speed)
    np.testing.assert_allclose(audio_ends(played), played.ends, atol=0.002)
    assert len(played.samples) * speed == pytest.approx(len(utterance.samples), rel=0.15)


@pytest.mark.parametrize('tempo', [0.9, 1.0, 1.5])
def test_another_tempo_moves_word_ends_but_not_the_pitch(tempo):
    utterance = make_utterance(0.3, 0.4, 0.5)
    changed = time_stretch(utterance, tempo)
    np.testing.assert_allclose(audio_ends(changed), changed.ends, atol=0.03)
    tone = np.sin(2 * np.pi * 200 * np.arange(RATE_HZ) / RATE_HZ).astype(np.float32)
    tone_changed = time_stretch(Utterance(tone, ['a'], np.array([1.0])), tempo)
    assert tone_changed.ends == pytest.approx([1 / tempo])
    spectrum = np.abs(np.fft.rfft(tone_changed.samples * np.hanning(len(tone_changed.samples))))
    assert spectrum.argmax() * RATE_HZ / len(tone_changed.samples) == pytest.approx(200, abs=2)
    assert np.abs(tone_changed.samples[1000:-1000]).max() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(('start_s', 'left'), [
    (0.0, ['w0', 'w1', 'w2']), (0.05, ['w0', 'w1', 'w2']), (0.1, ['w1', 'w2']),
    (0.42, ['w1', 'w2']), (0.44, ['w2']), (1.35, [])])
def test_a_tail_has_the_words_that_are_left(start_s, left):
    rest = tail(make_utterance(0.3, 0.4, 0.5), start_s)
    assert rest.words == left
    stops = audio_ends(rest)
    np.testing.assert_allclose(rest.ends, stops[len(stops) - len(left):], atol=0.002)


def test_joined_utterances_keep_their_ends():
    parts = [make_utterance(0.3, 0.4), make_utterance(0.2), make_utterance(0.5, 0.3)]
    joined = join(parts)
    assert joined.words == ['w0', 'w1', 'w0', 'w0', 'w1']
    np.testing.assert_allclose(audio_ends(joined), joined.ends, atol=0.002)
