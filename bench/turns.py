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
How soon a turn ends: delays of EAGER_END and of the final transcript, and what a look costs.

    python bench/turns.py [NAME=TSV[:PATTERN] ...] [--sample N] [--eager-s S ...] [--show]

    python bench/turns.py 'orders=manifest.tsv:order_*' 'reading=manifest.tsv:book_*'

Manifests are tables with the columns file and text. Every recording goes through a stream of the
demo model in blocks of 20 ms, with the noise of its own room after it. A turn ends for us where
its sound does: after the last 30 ms within 30 dB of the loudest moment; recordings in which the
room is nearly as loud are left out. Delays are audio time from there, plus the CPU time that this
and earlier blocks still took when the event came: so other work on the machine does not count.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
import math
import os
from pathlib import Path
import sys
from time import process_time
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from bench.machine import processor  # noqa: E402
import numpy as np  # noqa: E402

from voxtral_ros.evaluation.manifest import read_manifest, Recording, sample  # noqa: E402
from voxtral_ros.evaluation.word_error_rate import normalize, word_errors  # noqa: E402
from voxtral_ros.recognizer.engine import Engine  # noqa: E402
from voxtral_ros.recognizer.events import Transcript, Turn, TurnKind  # noqa: E402
from voxtral_ros.recognizer.options import StreamOptions  # noqa: E402
from voxtral_ros.recognizer.stream import Stream  # noqa: E402
from voxtral_ros.recognizer.turns import TurnOptions  # noqa: E402
from voxtral_ros.resources import demo_model  # noqa: E402

RATE, BLOCK = 16000, 320
FRAME = 160  # samples, of the level
ROOM_S = 2.0  # after a recording
ROOM_FRAMES = 10  # the quietest of a recording
SLACK_S = 0.3  # between the end of the sound and where voice activity finds it
LOUD_DB, ROOM_DB = 30.0, 10.0  # under the loudest moment; over the room
EAGER_S = (0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6)
USUAL_S = TurnOptions().eager_s


@dataclass
class Told:
    """What was said of one turn, in seconds of audio and computation."""

    eager: list[tuple[float, str]] = field(default_factory=list)  # when, text
    final_s: float = math.nan
    end_s: float = math.nan  # of the sound
    voiced_s: float = math.nan  # the same by voice activity
    text: str = ''

    @property
    def eager_s(self) -> float:
        """Return when the EAGER_END came that was right; NaN without one."""
        return self.eager[-1][0] if self.eager and self.eager[-1][0] > self.end_s else math.nan

    @property
    def n_false(self) -> int:
        return len(self.eager) - math.isfinite(self.eager_s)


@dataclass
class Run:
    """One recording in one stream."""

    turns: list[Told]
    cpu_s: float
    look_s: list[float]  # CPU time of each look
    tokens_ahead: int
    n_corrected: int  # finals that were not what the model wrote in the end

    @property
    def text(self) -> str:
        return ' '.join(turn.text for turn in self.turns)


@dataclass
class Clip:
    """A recording, the room after it, and where there is sound."""

    recording: Recording
    samples: np.ndarray
    sound_s: np.ndarray  # ends of the loud moments

    @classmethod
    def load(cls, recording: Recording) -> 'Clip | None':
        """Return None if the room is too loud to tell where speech ends."""
        samples = recording.samples()
        frames = samples[:len(samples) // FRAME * FRAME].reshape(-1, FRAME)
        power = np.square(frames.astype(np.float64)).mean(1)
        room = np.convolve(power, np.full(ROOM_FRAMES, 1 / ROOM_FRAMES), 'valid').min()
        loud = power.max() * 10 ** (-LOUD_DB / 10)
        if room * 10 ** (ROOM_DB / 10) > loud:
            return None
        is_loud = power > loud
        runs = is_loud[2:] & is_loud[1:-1] & is_loud[:-2]
        noise = np.random.default_rng(0).normal(0, math.sqrt(room), round(ROOM_S * RATE))
        return cls(recording, np.append(samples, noise.astype(np.float32)),
                   (np.flatnonzero(runs) + 3) * FRAME / RATE)

    def end_s(self, before_s: float) -> float:
        """Return where the last sound before a moment ends."""
        earlier = self.sound_s[self.sound_s < before_s]
        return float(earlier[-1]) if len(earlier) else math.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('sets', nargs='*', metavar='NAME=TSV[:PATTERN]',
                        default=[f'shipped={ROOT / "test" / "data" / "manifest.tsv"}'],
                        help='recordings [those of the tests]')
    parser.add_argument('--sample', type=int, help='at most so many of each set [all]')
    parser.add_argument('--eager-s', type=float, nargs='*', default=EAGER_S, metavar='S',
                        help='values of turn.eager_s to compare [0.15 to 0.6]')
    parser.add_argument('--show', action='store_true', help='print what is not as it should be')
    arguments = parser.parse_args()
    engine = Engine.load(demo_model(), 'cpu', threads=1)
    sets = {name: load(name, path, arguments.sample)
            for name, path in (part.split('=', 1) for part in arguments.sets)}
    values = sorted({0.0, USUAL_S, *arguments.eager_s})
    runs = {name: [{eager_s: run(engine, clip, eager_s) for eager_s in values} for clip in clips]
            for name, clips in sets.items()}
    print(f'\n{processor()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; '
          f'one thread; endpoint.silence_s {StreamOptions().endpoint.silence_s}')
    print_delays(runs)
    print_texts(sets, runs)
    print_values(runs, [value for value in values if value])
    print_cost(sets, runs)
    if arguments.show:
        show(sets, runs)


def load(name: str, path: str, n_most: int | None) -> list[Clip]:
    """Return the recordings of a set whose end can be told."""
    table, _, pattern = path.partition(':')
    recordings = [recording for recording in read_manifest(Path(table))
                  if recording.path.match(pattern or '*')]
    clips = [Clip.load(recording) for recording in sample(recordings, n_most)]
    usable = [clip for clip in clips if clip]
    seconds = sum(len(clip.samples) / RATE - ROOM_S for clip in usable)
    print(f'{name}: {len(usable)} recordings, {seconds / 60:.1f} min; {len(clips) - len(usable)} '
          'left out for their noise', flush=True)
    return usable


def run(engine: Engine, clip: Clip, eager_s: float) -> Run:
    """Feed a recording block by block, and note what comes when."""
    stream = engine.open(options=StreamOptions(turns=TurnOptions(eager_s=eager_s)))
    turns, turn, done_s, begin = [], Told(), 0.0, process_time()
    with timed_looks() as look_s:
        for start in range(0, len(clip.samples), BLOCK):
            cpu = process_time()
            stream.feed(clip.samples[start:start + BLOCK])
            events = stream.poll()
            done_s = max(done_s, (start + BLOCK) / RATE) + process_time() - cpu
            for event in events:
                if isinstance(event, Transcript) and event.is_final:
                    turn.final_s, turn.text = done_s, event.text
                elif isinstance(event, Turn) and event.kind is TurnKind.EAGER_END:
                    turn.eager.append((done_s, event.text))
                elif isinstance(event, Turn) and event.kind is TurnKind.END:
                    # Somebody who goes on at this very moment is of the next turn.
                    turn.end_s = clip.end_s(min(done_s, event.end_s + SLACK_S))
                    turn.voiced_s = event.end_s
                    turns.append(turn)
                    turn = Told()
    cpu_s = process_time() - begin
    stats = stream.stats
    stream.abandon()
    return Run(turns, cpu_s, look_s, stats.tokens_ahead, stats.corrected_ends)


@contextmanager
def timed_looks() -> Iterator[list[float]]:
    """Note the CPU time of every look ahead."""
    look_ahead, spent = Stream._look_ahead, []

    def timed(stream, index):
        begin = process_time()
        ahead = look_ahead(stream, index)
        spent.append(process_time() - begin)
        return ahead
    with mock.patch.object(Stream, '_look_ahead', timed):
        yield spent


def turns_of(runs: list[dict[float, Run]], eager_s: float) -> list[Told]:
    return [turn for each in runs for turn in each[eager_s].turns if turn.text]


def percentiles(delays: list[float]) -> str:
    """Return p50 and p95 of what is known, as two cells."""
    known = [delay for delay in delays if math.isfinite(delay)]
    return ' | '.join(f'{value:.2f}' for value in np.percentile(known, (50, 95))) \
        if known else ' | '


def share(same: list[bool]) -> str:
    return f'{sum(same)} of {len(same)} ({np.mean(same):.1%})' if same else 'none'


def is_eager_right(turns: list[Told]) -> list[bool]:
    return [turn.eager[-1][1] == turn.text for turn in turns if math.isfinite(turn.eager_s)]


def print_delays(runs: dict[str, list[dict[float, Run]]]) -> None:
    print(f'\n## Seconds from the end of speech, turn.eager_s {USUAL_S}\n\n'
          '| | turns | EAGER_END p50 | p95 | final p50 | p95 | final, turns off, p50 | p95 '
          '| voice activity ends p50 | p95 |\n|---|---|---|---|---|---|---|---|---|---|')
    for name, each in runs.items():
        turns = turns_of(each, USUAL_S)
        print(f'| {name} | {len(turns)} '
              f'| {percentiles([turn.eager_s - turn.end_s for turn in turns])} '
              f'| {percentiles([turn.final_s - turn.end_s for turn in turns])} | '
              + percentiles([turn.final_s - turn.end_s for turn in turns_of(each, 0.0)])
              + f' | {percentiles([turn.voiced_s - turn.end_s for turn in turns])} |')


def print_texts(sets: dict[str, list[Clip]], runs: dict[str, list[dict[float, Run]]]) -> None:
    print(f'\n## Texts, turn.eager_s {USUAL_S}\n\n'
          '| | EAGER_END as the final | turns without | finals that the model corrected '
          '| recordings with the finals of turns off | word errors | turns off |\n'
          '|---|---|---|---|---|---|---|')
    for name, each in runs.items():
        turns = turns_of(each, USUAL_S)
        same = [[turn.text for turn in run[USUAL_S].turns]
                == [turn.text for turn in run[0.0].turns] for run in each]
        print(f'| {name} | {share(is_eager_right(turns))} '
              f'| {sum(math.isnan(turn.eager_s) for turn in turns)} '
              f'| {sum(run[USUAL_S].n_corrected for run in each)} | {share(same)} '
              f'| {errors(sets[name], each, USUAL_S)} | {errors(sets[name], each, 0.0)} |')


def errors(clips: list[Clip], runs: list[dict[float, Run]], eager_s: float) -> str:
    """Return words that are wrong, of all."""
    said = [normalize(clip.recording.text) for clip in clips]
    n_wrong = sum(word_errors(words, normalize(run[eager_s].text))
                  for words, run in zip(said, runs, strict=True))
    return f'{n_wrong} of {sum(map(len, said))}'


def print_values(runs: dict[str, list[dict[float, Run]]], values: list[float]) -> None:
    print('\n## Over turn.eager_s\n\n'
          '| | turn.eager_s | false EAGER_ENDs per turn | EAGER_END p50 | p95 '
          '| EAGER_END as the final | final p50 | p95 | looks per turn |\n'
          '|---|---|---|---|---|---|---|---|---|')
    for name, each in runs.items():
        for value in values:
            turns = turns_of(each, value)
            n_looks = sum(len(run[value].look_s) for run in each)
            print(f'| {name} | {value} | {sum(turn.n_false for turn in turns) / len(turns):.2f} '
                  f'| {percentiles([turn.eager_s - turn.end_s for turn in turns])} '
                  f'| {share(is_eager_right(turns))} '
                  f'| {percentiles([turn.final_s - turn.end_s for turn in turns])} '
                  f'| {n_looks / len(turns):.1f} |')


def print_cost(sets: dict[str, list[Clip]], runs: dict[str, list[dict[float, Run]]]) -> None:
    print(f'\n## What looking ahead costs, turn.eager_s {USUAL_S}\n\n'
          '| | looks per minute | tokens a look | CPU time a look, p50 | p95 '
          '| CPU time of the stream | of it looks | turns off |\n'
          '|---|---|---|---|---|---|---|---|')
    for name, each in runs.items():
        seconds = sum(len(clip.samples) / RATE for clip in sets[name])
        looks = [1000 * look for run in each for look in run[USUAL_S].look_s]
        p50, p95 = np.percentile(looks, (50, 95))
        print(f'| {name} | {60 * len(looks) / seconds:.1f} '
              f'| {sum(run[USUAL_S].tokens_ahead for run in each) / len(looks):.1f} '
              f'| {p50:.0f} ms | {p95:.0f} ms '
              f'| {sum(run[USUAL_S].cpu_s for run in each) / seconds:.2%} of a core '
              f'| {sum(looks) / 1000 / seconds:.2%} '
              f'| {sum(run[0.0].cpu_s for run in each) / seconds:.2%} |')


def show(sets: dict[str, list[Clip]], runs: dict[str, list[dict[float, Run]]]) -> None:
    """Print what is not as it should be, turn by turn."""
    for name, each in runs.items():
        for clip, by_value in zip(sets[name], each, strict=True):
            usual, off = by_value[USUAL_S], by_value[0.0]
            for turn in usual.turns:
                if math.isfinite(turn.eager_s) and turn.eager[-1][1] != turn.text:
                    print(f'{clip.recording.path.name} at {turn.end_s:.2f} s\n'
                          f'  EAGER_END {turn.eager[-1][1]!r}\n  final     {turn.text!r}')
                delays = turn.eager_s - turn.end_s, turn.final_s - turn.end_s
                if delays[0] > 0.7 or delays[1] > 1.2 or math.isnan(delays[0]):
                    print(f'{clip.recording.path.name}: EAGER_END {delays[0]:.2f} s, final '
                          f'{delays[1]:.2f} s, voice activity {turn.voiced_s - turn.end_s:.2f} s '
                          f'after {turn.end_s:.2f} s: {turn.text[-40:]!r}')
            finals = [[turn.text for turn in run.turns] for run in (usual, off)]
            if finals[0] != finals[1]:
                print(f'{clip.recording.path.name}\n  finals    {finals[0]}\n'
                      f'  turns off {finals[1]}')


if __name__ == '__main__':
    main()
