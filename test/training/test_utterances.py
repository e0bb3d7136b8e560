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

"""Utterances that are cut at pauses, played unevenly and joined keep the times of their words."""

import random

import numpy as np
import pytest
from training.utterances import join, pauses, play, RATE_HZ, span, Speech, stretch, tail


@pytest.fixture(autouse=True)
def seeded():
    random.seed(0)
    np.random.seed(0)


def spoken(*lengths_s, pause_s=0.1):
    """Return words of constant sound, each louder than the one before, with pauses between."""
    samples, ends = [], []
    at = 0
    for number, length_s in enumerate(lengths_s):
        word = np.full(int(length_s * RATE_HZ), 5000 + 100 * number, np.float32)
        pause = np.zeros(int(pause_s * RATE_HZ), np.float32)
        ends.append((at + len(word)) / RATE_HZ)
        at += len(word) + len(pause)
        samples += [word, pause]
    return Speech(np.concatenate(samples), [f'w{n}' for n in range(len(lengths_s))],
                  np.array(ends))


def where_sound_stops(speech):
    loud = np.abs(speech.samples) > 1000
    return np.flatnonzero(loud & ~np.append(loud[1:], False)) / RATE_HZ


def test_recordings_are_cut_where_it_is_quiet():
    speech = spoken(0.3, 0.4, 0.5)
    (first, second), (third, fourth) = pauses(speech.samples, speech.ends)[1:3]
    assert (first, third) == (1, 2)
    assert 0.3 <= second / RATE_HZ <= 0.4
    assert 0.8 <= fourth / RATE_HZ <= 0.9


def test_words_that_run_together_are_not_cut_apart():
    speech = spoken(0.3, 0.4, pause_s=0.0)
    assert pauses(speech.samples, speech.ends) == [(0, 0), (2, len(speech.samples))]


def test_a_span_has_its_words_and_their_ends():
    speech = spoken(0.3, 0.4, 0.5, 0.2)
    cuts = pauses(speech.samples, speech.ends)
    seen = set()
    for _ in range(60):
        part = span(speech, cuts)
        seen.add(tuple(part.words))
        assert len(part.words) == len(part.ends)
        np.testing.assert_allclose(where_sound_stops(part), part.ends, atol=0.02)
        # The level tells which word it is.
        levels = [part.samples[int(end * RATE_HZ) - 200] for end in part.ends]
        assert levels == [5000 + 100 * int(word[1:]) for word in part.words]
    assert len(seen) == 10  # all stretches of four words


@pytest.mark.parametrize('speed', [0.84, 1.0, 1.2])
def test_word_ends_move_with_the_speed(speed):
    speech = spoken(0.3, 0.4, 0.5, 0.3, 0.6)
    played = play(speech, speed)
    np.testing.assert_allclose(where_sound_stops(played), played.ends, atol=0.002)
    assert len(played.samples) * speed == pytest.approx(len(speech.samples), rel=0.15)


@pytest.mark.parametrize('tempo', [0.9, 1.0, 1.5])
def test_another_tempo_moves_word_ends_but_not_the_pitch(tempo):
    speech = spoken(0.3, 0.4, 0.5)
    hasty = stretch(speech, tempo)
    np.testing.assert_allclose(where_sound_stops(hasty), hasty.ends, atol=0.03)
    tone = np.sin(2 * np.pi * 200 * np.arange(RATE_HZ) / RATE_HZ).astype(np.float32)
    heard = stretch(Speech(tone, ['a'], np.array([1.0])), tempo)
    assert heard.ends == pytest.approx([1 / tempo])
    spectrum = np.abs(np.fft.rfft(heard.samples * np.hanning(len(heard.samples))))
    assert spectrum.argmax() * RATE_HZ / len(heard.samples) == pytest.approx(200, abs=2)
    assert np.abs(heard.samples[1000:-1000]).max() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(('start_s', 'left'), [
    (0.0, ['w0', 'w1', 'w2']), (0.05, ['w0', 'w1', 'w2']), (0.1, ['w1', 'w2']),
    (0.42, ['w1', 'w2']), (0.44, ['w2']), (1.35, [])])
def test_a_tail_has_the_words_that_can_still_be_heard(start_s, left):
    heard = tail(spoken(0.3, 0.4, 0.5), start_s)
    assert heard.words == left
    stops = where_sound_stops(heard)
    np.testing.assert_allclose(heard.ends, stops[len(stops) - len(left):], atol=0.002)


def test_joined_utterances_keep_their_ends():
    parts = [spoken(0.3, 0.4), spoken(0.2), spoken(0.5, 0.3)]
    joined = join(parts)
    assert joined.words == ['w0', 'w1', 'w0', 'w0', 'w1']
    np.testing.assert_allclose(where_sound_stops(joined), joined.ends, atol=0.002)
