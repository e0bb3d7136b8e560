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

"""Idle: what the model is given, what is written about it and when, whatever comes when."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.hearing import babble, drive, HearingEngine, hum, seconds
from support.scripted import (
    DELAY, feed, finals, join, NEVER_IDLE, open_stream, RATE, Script, scripted_voice,
    ScriptedDetector, ScriptedEngine, silence, texts, TOKEN, TOKEN_S, transcripts, voice)

from voxtral_ros.recognizer.endpoint import EndpointOptions
from voxtral_ros.recognizer.events import SpeechActivity
from voxtral_ros.recognizer.idle import IdleOptions
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.stream import Stream
from voxtral_ros.recognizer.turns import TurnOptions
from voxtral_ros.recognizer.watchdog import WatchdogOptions

CHUNK = 512
NO_WATCHDOG = WatchdogOptions(speech_s=0, repeated_tokens=0)
NO_LOOKS = TurnOptions(eager_s=0)


@pytest.fixture(scope='module', autouse=True)
def voice_activity():
    with scripted_voice():
        yield


# ---- what the model is given ----

def plainly_kept(audio: np.ndarray, delay: int, options: IdleOptions) -> np.ndarray:
    """Return what the model is given of audio without words: the rules, sample by sample."""
    loud = 4 * audio >= options.threshold
    n_chunks = len(audio) // CHUNK
    stirs = [loud[n * CHUNK:(n + 1) * CHUNK].any() for n in range(n_chunks)]
    kept, at, seen, stirred = [], 0, 0, 0  # seen, stirred: chunks up to there
    n_generated = -delay
    last_nonzero = np.maximum.accumulate(np.where(audio, np.arange(1, len(audio) + 1), 0))
    while at + TOKEN + 40 <= len(audio):
        kept.append(audio[at:at + TOKEN])
        at += TOKEN
        n_generated += 1
        before, seen = seen, max(seen, at // CHUNK)
        stirred = seen if any(stirs[before:seen]) else stirred
        n_zeros = at - last_nonzero[at - 1]
        transcribed = at - delay * TOKEN
        quiet = n_zeros >= 0.64 * RATE \
            or (seen - stirred) * CHUNK >= options.after_s * RATE - 1e-6
        if n_generated <= 0 or not quiet or transcribed < stirred * CHUNK + 0.5 * RATE - 1e-6:
            continue
        woken = next((n + 1 for n in range(seen, n_chunks) if stirs[n]), None)
        if woken is None:
            break
        n_held = woken * CHUNK - at + 200
        at += max(0, n_held - round(options.preroll_s * RATE)) // TOKEN * TOKEN
        seen = stirred = woken
    return np.concatenate([*kept, audio[:0]])


def sound(rng: np.random.Generator) -> np.ndarray:
    """Return audio without words, no two moments of which are the same but for silence."""
    found, start = [], 0
    for kind in rng.choice(['voice', 'faint', 'hum', 'hum', 'zeros', 'zeros'], 8):
        loudness = {'voice': 0.225, 'faint': 0.03, 'hum': 0.02, 'zeros': 0.0}[kind]
        n_samples = int(rng.choice([rng.integers(1, 8000), rng.integers(1, 100_000)]))
        found.append(babble(n_samples, start, loudness))
        start += n_samples
    return np.concatenate(found)


@pytest.mark.parametrize('seed', range(40))
def test_the_model_is_given_what_the_rules_say(seed):
    rng = np.random.default_rng(seed)
    delay = int(rng.choice([1, 6, 15, 30]))
    options = IdleOptions(rng.choice([0.5, 2.0, 3.0]), rng.choice([0.0, 0.1, 1.0, 4.0]))
    audio, engine = sound(rng), HearingEngine()
    stream = Stream(engine, delay, StreamOptions(
        watchdog=NO_WATCHDOG, idle=options, turns=NO_LOOKS))
    drive(stream, audio, [len(audio)])
    assert np.array_equal(engine.heard, plainly_kept(audio, delay, options))


# ---- what is written about it, and when ----

WORDS = (' stop', ' turn', ' left', ' the robot.', ' caf\u00e9')
QUIET = {'room': 0.05, 'zeros': 0.0, 'faint': 0.2}  # probability of speech


class Scene:
    """Audio of random parts, all of whole tokens, and the words in it."""

    def __init__(self, seed: int, late: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.rng = rng
        parts = [('room', 10)]
        for _ in range(rng.integers(2, 12)):
            kind = str(rng.choice(['word', 'word', 'voice', 'room', 'zeros', 'faint']))
            parts.append((kind, int(rng.integers(5, 11) if kind == 'word' else
                                    rng.choice([rng.integers(1, 12), rng.integers(8, 90)]))))
        self.script = Script()
        self.words: list[str] = []
        self.ends_s: list[float] = []
        self.cuts: list[int] = []  # samples between the parts
        pieces, n_tokens = [], 0
        for kind, n in parts:
            n_tokens += n
            if kind == 'word':
                text = WORDS[len(self.ends_s) % len(WORDS)]
                pieces.append(self.script.say(text, seconds=n * TOKEN_S, late=late))
                self.words += text.split()
                self.ends_s.append(round(n_tokens * TOKEN_S, 9))
            else:
                pieces.append(voice(n * TOKEN_S, QUIET.get(kind, 0.9)))
            self.cuts.append(n_tokens * TOKEN)
        self.audio = join(*pieces)


def words(events):
    return [word for final in finals(events) for word in final.words]


def some(scene: Scene, *values):
    return values[scene.rng.integers(len(values))]


@pytest.mark.parametrize('seed', range(40))
def test_all_words_are_written_and_end_where_their_audio_ends(seed):
    scene = Scene(seed)
    stream = open_stream(scene.script, StreamOptions(
        watchdog=NO_WATCHDOG, turns=TurnOptions(some(scene, 0.0, 0.25)),
        idle=IdleOptions(some(scene, 0.3, 2.0), some(scene, 0.0, 0.24, 1.0, 4.0))),
        some(scene, 1, 6, 15, 30))
    events = drive(stream, scene.audio, [4000]) + stream.close()
    found = words(events)
    assert [word.text for word in found] == scene.words
    ends_s = iter(scene.ends_s)
    for word in found:
        if word.text != 'robot.':  # the second word of its group
            assert word.end_s == pytest.approx(next(ends_s), abs=1e-6)
    assert [final.utterance_id for final in finals(events)] == list(
        range(1, len(finals(events)) + 1))


@pytest.mark.parametrize('seed', range(40, 60))
def test_tokens_are_those_of_a_stream_that_is_fed_the_shortened_audio(seed):
    scene, tokens, expected = Scene(seed), [], []
    delay = some(scene, 1, 6, 15)
    engine = HearingEngine(scene.script)
    stream = Stream(engine, delay, StreamOptions(
        watchdog=NO_WATCHDOG, on_token=tokens.append,
        idle=IdleOptions(some(scene, 0.3, 2.0), some(scene, 0.0, 0.24, 1.0))))
    drive(stream, join(scene.audio, voice(2.0)), [4000])
    assert stream.stats.idle_s == 0.0
    assert len(engine.heard) == round(
        len(scene.audio) + 2 * RATE - TOKEN - stream.stats.skipped_s * RATE)
    twin = open_stream(scene.script, StreamOptions(
        watchdog=NO_WATCHDOG, idle=NEVER_IDLE, turns=NO_LOOKS, on_token=expected.append), delay)
    drive(twin, join(engine.heard, silence(40 / RATE)))
    assert tokens == expected


@pytest.mark.parametrize('seed', range(60, 90))
def test_nothing_depends_on_how_the_audio_is_fed(seed):
    scene = Scene(seed, late=seed % 5)
    delay, eager_s = some(scene, 1, 6, 15), some(scene, 0.1, 0.25)
    sizes = scene.rng.integers(500, 20_000, 4).tolist()
    found = []
    for n_pass, how in ((1, ([TOKEN], [True])), (8, (sizes, [True, False, False])),
                        (8, ([len(scene.audio)], [True]))):
        engine, tokens = HearingEngine(scene.script, max_chunk_tokens=n_pass), []
        stream = Stream(engine, delay, StreamOptions(
            turns=TurnOptions(eager_s), idle=IdleOptions(after_s=1.0), on_token=tokens.append))
        events = drive(stream, scene.audio, *how) + stream.close()
        found.append((events, tokens, replace(stream.stats, fed_s=0.0), engine.heard))
    for other in found[1:]:
        assert found[0][:3] == other[:3]
        assert np.array_equal(found[0][3], other[3])
