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

"""Looking ahead leaves no trace in what the model writes, and a look that fails loses nothing."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
from support import checkpoints, cuda
from support.cuda import on_gpu
from support.hearing import babble, drive, hearing_engine, hum, SIZES
from support.scripted import (
    DELAY, finals, join, NEVER_IDLE, open_stream, RATE, Script, scripted_voice, ScriptedEngine,
    silence, texts, TOKEN, transcripts)

from voxtral_ros.backends.cuda.backend import CudaBackend
from voxtral_ros.backends.cuda.weight_source import CheckpointWeights
from voxtral_ros.model.checkpoint import open_weights
from voxtral_ros.recognizer.idle import IdleOptions
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.stream import Stream
from voxtral_ros.recognizer.turns import TurnOptions
from voxtral_ros.recognizer.watchdog import WatchdogOptions

cpu = pytest.importorskip('support.cpu')

NO_WATCHDOG = WatchdogOptions(speech_s=0, repeated_tokens=0)
N_STREAMS = 3


def graphs(folder, max_streams=1, max_chunk_tokens=8):
    torch = cuda.torch
    with open_weights(folder) as (config, weights):
        source = CheckpointWeights(weights, torch.device('cuda', 0), torch.bfloat16)
        return CudaBackend(config, source, cpu.PAD, [checkpoints.STREAMING_WORD],
                           max_streams, max_chunk_tokens)


@pytest.fixture(scope='module', autouse=True)
def voice_activity():
    with scripted_voice():
        yield


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return cpu.random_checkpoint(tmp_path_factory.mktemp('tiny'), **SIZES)


def scene(seed: int, n_parts: int = 6, longest: int = 50_000) -> np.ndarray:
    """Return babble with short and long pauses that hum: the same in every token."""
    rng = np.random.default_rng(seed)
    parts, n_samples = [], 0
    for n in range(n_parts):
        length = int(rng.integers(4000, 16_000)) if n % 2 == 0 else int(
            rng.choice([rng.integers(2000, 16_000), rng.integers(longest // 2, longest)]))
        parts.append(babble(length, seed + n) if n % 2 == 0 else hum(length, n_samples))
        n_samples += length
    return join(*parts, babble(8000, seed))


class Listener:
    """A stream and the tokens that it gets; the model prefers pads."""

    def __init__(self, engine, delay: int, **options) -> None:
        self.tokens = []
        self.stream = Stream(engine, delay, StreamOptions(
            watchdog=NO_WATCHDOG, on_token=self.tokens.append, **options))
        engine.penalise_pad(self.stream._audio.slot, -9.0)

    @property
    def ids(self) -> list[int]:
        return [token.id for token in self.tokens]


def assert_same(found: Listener, expected: Listener, is_exact: bool) -> None:
    """Compare the tokens; to the last bit where the products are ours."""
    assert found.ids == expected.ids
    probabilities = [[token.probability for token in each.tokens] for each in (found, expected)]
    assert probabilities[0] == (probabilities[1] if is_exact
                                else pytest.approx(probabilities[1], abs=1e-5))


@pytest.mark.parametrize('make, n_pass, position', [
    (cpu.cpu_backend, 1, 0), (cpu.cpu_backend, 8, 2 ** 31 - 200), (cpu.cpu_backend, 8, 0),
    (cpu.eager_backend, 8, 0),
    *(pytest.param(graphs, *case, marks=on_gpu) for case in ((1, 0), (8, 2 ** 31 - 200)))])
def test_tokens_are_the_same_with_and_without_looks(make, folder, n_pass, position):
    """Streams of different phase and delay; eager ones and others, over and over the windows."""
    engines = [hearing_engine(make, folder, N_STREAMS, n_pass) for _ in range(2)]
    delays = (1, 6, 15)
    listeners = [[Listener(engine, delay, idle=NEVER_IDLE,
                           turns=TurnOptions(eager_s if engine is engines[0] else 0.0))
                  for delay, eager_s in zip(delays, (0.05, 0.25, 1.0), strict=True)]
                 for engine in engines]
    for engine in engines:
        engine.backend.set_position(position)
    audio = [scene(seed) for seed in range(N_STREAMS)]
    for each, samples in zip(range(N_STREAMS), audio, strict=True):  # out of phase
        for row in listeners:
            row[each].stream.feed(samples[:(3 * each + 1) * 3000])
            row[each].stream.poll()
    for start in range(0, max(map(len, audio)), 5000):
        for row in listeners:
            for each, samples in enumerate(audio):
                after = samples[(3 * each + 1) * 3000:]
                row[each].stream.feed(after[start:start + 5000])
                row[each].stream.poll()
    for found, expected in zip(*listeners, strict=True):
        assert_same(found, expected, make is not cpu.eager_backend)
        assert found.stream.stats.looks_ahead > 0 == expected.stream.stats.looks_ahead
        assert len(set(found.ids)) > 2
    assert engines[0].backend.n_ahead > 0


@pytest.mark.parametrize('make', [cpu.cpu_backend, pytest.param(graphs, marks=on_gpu)])
def test_streams_that_share_passes_look_ahead_at_the_same_time(make, folder):
    """All have the same pauses; their tokens are those of streams alone that never look."""
    audio = [join(babble(12_000, seed), hum(9000, 12_000), babble(9000, seed + 9),
                  hum(40_000, 30_000), babble(6000, seed)) for seed in range(N_STREAMS)]
    engine = hearing_engine(make, folder, N_STREAMS)
    found = [Listener(engine, 6, idle=NEVER_IDLE) for _ in audio]
    for start in range(0, len(audio[0]), 4000):
        for listener, samples in zip(found, audio, strict=True):
            listener.stream.feed(samples[start:start + 4000])
        engine.process()
        for listener in found:
            listener.stream.poll()
    for listener, samples in zip(found, audio, strict=True):
        alone = Listener(hearing_engine(make, folder), 6, idle=NEVER_IDLE,
                         turns=TurnOptions(eager_s=0))
        drive(alone.stream, samples)
        assert_same(listener, alone, is_exact=True)
        assert listener.stream.stats.looks_ahead >= 2


@pytest.mark.parametrize('make, delay', [
    *((cpu.cpu_backend, delay) for delay in (1, 6, 15, 30)), (cpu.eager_backend, 6),
    *(pytest.param(graphs, delay, marks=on_gpu) for delay in (1, 15))])
def test_idle_streams_get_the_tokens_of_the_shortened_audio(make, folder, delay):
    """The pauses hum, so a pause that is cut is a shorter one, for the model, too."""
    engine = hearing_engine(make, folder, N_STREAMS)
    found = [Listener(engine, delay, idle=IdleOptions(0.5, preroll_s)) for preroll_s in
             (0.1, 0.3, 1.0)]
    audio = [scene(seed + 20, 6, 100_000) for seed in range(N_STREAMS)]
    for start in range(0, max(map(len, audio)), 7000):
        for listener, samples in zip(found, audio, strict=True):
            listener.stream.feed(samples[start:start + 7000])
            listener.stream.poll()
    assert sum(listener.stream.stats.skipped_s for listener in found) > 1.0
    for n, (listener, samples) in enumerate(zip(found, audio, strict=True)):
        heard = engine.backend.heard(n)
        skipped_s = listener.stream.stats.skipped_s
        assert len(samples) - skipped_s * RATE - len(heard) == pytest.approx(0, abs=TOKEN)
        alone = Listener(hearing_engine(make, folder), delay, idle=NEVER_IDLE,
                         turns=TurnOptions(eager_s=0))
        drive(alone.stream, heard)
        assert_same(listener, alone, make is not cpu.eager_backend)


# ---- looks that fail ----

@pytest.mark.parametrize('verb', ['save', 'decode', 'rollback'])
def test_a_look_that_fails_loses_nothing_and_leaves_the_slot_in_order(folder, verb):
    """The stream says so; others go on, and the slot serves the next stream."""
    engine, before = hearing_engine(cpu.cpu_backend, folder, 2), []
    failing, other = Listener(engine, 6, idle=NEVER_IDLE), Listener(engine, 6, idle=NEVER_IDLE)
    audio = join(babble(16_000, 3), hum(6000, 16_000))
    works = getattr(engine.backend, verb)

    def fail(slot, *arguments):
        if verb == 'decode' and not engine.backend._looking:
            return works(slot, *arguments)
        before.append(list(failing.tokens))
        raise RuntimeError('no memory')

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.backend, verb, fail)
        failing.stream.feed(audio)
        with pytest.raises(RuntimeError, match='no memory'):
            while True:
                engine.step(failing.stream._audio.slot)
    assert before and failing.tokens == before[0]
    events = failing.stream.abandon()
    spoken = transcripts(events)
    assert not spoken or spoken[-1].is_final
    alone = Listener(hearing_engine(cpu.cpu_backend, folder), 6, idle=NEVER_IDLE)
    heir = Listener(engine, 6, idle=NEVER_IDLE)
    for listener in (heir, other, alone):
        drive(listener.stream, audio)
    assert heir.tokens == other.tokens == alone.tokens


@pytest.mark.parametrize('when', ['before', 'within', 'after'])
def test_a_stream_goes_on_after_a_look_that_fails(when):
    script = Script()
    engine, fails = ScriptedEngine(script), [True]
    looks = engine.looking_ahead

    @contextmanager
    def looking_ahead(slot):
        failing = fails and fails.pop()
        if failing and when == 'before':
            raise RuntimeError('no memory')
        with looks(slot) as decode:
            if failing and when == 'within':
                raise RuntimeError('no memory')
            yield decode
        if failing:
            raise RuntimeError('no memory')

    engine.looking_ahead = looking_ahead
    stream = Stream(engine, DELAY, StreamOptions())
    audio = join(silence(0.8), script.say(' stop'), silence(2.0), script.say(' turn'),
                 silence(2.0))
    stream.feed(audio)
    with pytest.raises(RuntimeError, match='no memory'):
        stream.poll()
    events = stream.poll() + stream.close()
    assert texts(events) == ['stop', 'turn']
    assert [final.end_s for final in finals(events)] == pytest.approx([1.28, 3.76], abs=1e-6)
    assert engine.n_open == 0


@pytest.mark.parametrize('end', [Stream.close, Stream.abandon, Stream.flush])
def test_verbs_right_after_a_look(end):
    script = Script()
    stream = open_stream(script)
    events = drive(stream, join(silence(0.8), script.say(' stop'), silence(0.4)))
    assert stream.stats.looks_ahead == 1
    events += end(stream) or []
    if end is Stream.flush:
        events += drive(stream, join(script.say(' turn'), silence(0.4))) + stream.close()
    assert texts(events) == (['stop', 'turn'] if end is Stream.flush else ['stop'])
