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

from hypothesis import example, given, settings
from hypothesis import strategies as st
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
    while at + TOKEN + 40 <= len(audio):
        kept.append(audio[at:at + TOKEN])
        at += TOKEN
        n_generated += 1
        before, seen = seen, max(seen, at // CHUNK)
        stirred = seen if any(stirs[before:seen]) else stirred
        nonzero = np.flatnonzero(audio[:at])
        n_zeros = at - (nonzero[-1] + 1 if len(nonzero) else 0)
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


SOUNDS = st.lists(st.tuples(
    st.sampled_from(['voice', 'faint', 'hum', 'hum', 'zeros', 'zeros']),
    st.integers(1, 120_000)), min_size=1, max_size=8)


def sound(parts: list[tuple[str, int]]) -> np.ndarray:
    """Return audio without words, no two moments of which are the same but for silence."""
    found, start = [], 0
    for kind, n_samples in parts:
        loudness = {'voice': 0.225, 'faint': 0.03, 'hum': 0.02, 'zeros': 0.0}[kind]
        found.append(babble(n_samples, start, loudness))
        start += n_samples
    return np.concatenate(found)


@example([('voice', 8000), ('zeros', 100_000), ('voice', 8000)], 6, 2.0, 1.0)
@example([('voice', 8000), ('hum', 100_000), ('faint', 512), ('hum', 8000)], 1, 2.0, 1.0)
@settings(max_examples=60)
@given(SOUNDS, st.sampled_from([1, 6, 15, 30]), st.sampled_from([0.5, 2.0, 3.0]),
       st.sampled_from([0.0, 0.1, 1.0, 4.0]))
def test_the_model_is_given_what_the_rules_say(parts, delay, after_s, preroll_s):
    options = IdleOptions(after_s, preroll_s)
    audio, engine = sound(parts), HearingEngine()
    stream = Stream(engine, delay, StreamOptions(
        watchdog=NO_WATCHDOG, idle=options, turns=NO_LOOKS))
    drive(stream, audio, [len(audio)])
    assert engine.heard.tolist() == plainly_kept(audio, delay, options).tolist()


# ---- what is written about it, and when ----

WORDS = (' stop', ' turn', ' left', ' the robot.', ' caf\u00e9')
QUIET = {'room': 0.05, 'zeros': 0.0, 'faint': 0.2}  # probability of speech
# What is to be heard, and tokens of it
SCENES = st.lists(st.one_of(
    st.tuples(st.just('word'), st.integers(1, 8)),
    st.tuples(st.sampled_from(['voice', *QUIET]), st.integers(1, 60)),
    st.tuples(st.sampled_from(['room', 'zeros']), st.integers(30, 200))), min_size=1, max_size=14)


class Scene:
    """Audio, and the words in it."""

    def __init__(self, parts: list[tuple[str, int]], late: int = 0) -> None:
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


@settings(max_examples=60)
@given(SCENES, st.sampled_from([1, 6, 15, 30]), st.sampled_from([0.3, 2.0]),
       st.sampled_from([0.0, 0.24, 1.0, 4.0]), st.sampled_from([0.0, 0.25]))
def test_all_words_are_written_and_end_where_their_audio_ends(
        parts, delay, after_s, preroll_s, eager_s):
    scene, n_fed_s = Scene(parts), 0.0
    stream = open_stream(scene.script, StreamOptions(
        watchdog=NO_WATCHDOG, idle=IdleOptions(after_s, preroll_s),
        turns=TurnOptions(eager_s)), delay)
    events = drive(stream, scene.audio, [4000]) + stream.close()
    found = words(events)
    assert [word.text for word in found] == scene.words
    ends_s = iter(scene.ends_s)
    for text, word in zip(scene.words, found, strict=True):
        if text != 'robot.':  # the second word of its group
            assert word.end_s == pytest.approx(next(ends_s), abs=1e-6)
    assert [final.utterance_id for final in finals(events)] == list(
        range(1, len(finals(events)) + 1))
    assert n_fed_s <= stream.stats.skipped_s <= stream.stats.fed_s


@settings(max_examples=40)
@given(SCENES, st.sampled_from([1, 6, 15]), st.sampled_from([0.3, 2.0]),
       st.sampled_from([0.0, 0.24, 1.0]))
def test_tokens_are_those_of_a_stream_that_is_fed_the_shortened_audio(
        parts, delay, after_s, preroll_s):
    scene, tokens, expected = Scene([*parts, ('word', 4), ('voice', 40)]), [], []
    options = StreamOptions(watchdog=NO_WATCHDOG, idle=IdleOptions(after_s, preroll_s),
                            on_token=tokens.append)
    engine = HearingEngine(scene.script)
    stream = Stream(engine, delay, options)
    drive(stream, scene.audio, [4000])
    assert stream.stats.idle_s == 0.0
    assert len(engine.heard) == pytest.approx(
        len(scene.audio) - stream.stats.skipped_s * RATE, abs=TOKEN + 1)
    twin = open_stream(scene.script, StreamOptions(
        watchdog=NO_WATCHDOG, idle=NEVER_IDLE, turns=NO_LOOKS, on_token=expected.append), delay)
    drive(twin, join(engine.heard, silence(40 / RATE)))
    assert tokens == expected


@settings(max_examples=60)
@given(SCENES, st.lists(st.one_of(st.integers(1, 3000), st.integers(1, 160_000)), min_size=1,
                        max_size=5), st.lists(st.booleans(), min_size=1, max_size=4),
       st.integers(0, 4), st.sampled_from([1, 6, 15]), st.sampled_from([0.1, 0.25]))
def test_nothing_depends_on_how_the_audio_is_fed(parts, sizes, polls, late, delay, eager_s):
    scene = Scene(parts, late)
    found = []
    for n_pass, how in ((1, ([TOKEN], [True])), (8, (sizes, polls))):
        engine, tokens = HearingEngine(scene.script, max_chunk_tokens=n_pass), []
        stream = Stream(engine, delay, StreamOptions(
            turns=TurnOptions(eager_s), idle=IdleOptions(after_s=1.0), on_token=tokens.append))
        events = drive(stream, scene.audio, *how)
        found.append((events + stream.close(), tokens, engine.heard.tolist(), stream.stats))
    assert found[0][0] == found[1][0]
    assert found[0] == found[1]
