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
Interrupting a robot that speaks: which words come out, whose they are, and how soon.

    pip install pyroomacoustics pywebrtc-audio
    python bench/echo.py --people PEOPLE.tsv --robot ROBOT.tsv [--robot-db DB ...] [--show]

Manifests are tables with the columns file and text: recordings of people, and what a synthesiser
makes of the robot's texts. Every scene is a simulated room in which the robot begins to speak, and
after three seconds somebody speaks too, until they have ended; the canceller begins anew in each.
The same scene is run without the robot (what the model makes of this person in this room) and
without the person (where every word that comes out is the robot's). Rooms are dealt out evenly.
Audio comes in blocks of 20 ms, and with it what the robot plays in them.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
import math
import os
from pathlib import Path
import sys
from time import process_time
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from bench.echo_rooms import RATE, Room, Scene, scene  # noqa: E402
from bench.machine import processor  # noqa: E402
import jiwer  # noqa: E402
import numpy as np  # noqa: E402

from voxtral_ros.audio.block import Samples  # noqa: E402
from voxtral_ros.audio.echo import EchoCanceller, EchoOptions  # noqa: E402
from voxtral_ros.evaluation.confidence import bootstrap, difference, error_rate  # noqa: E402
from voxtral_ros.evaluation.manifest import read_manifest, sample  # noqa: E402
from voxtral_ros.evaluation.word_error_rate import normalize, Score, word_errors  # noqa: E402
from voxtral_ros.recognizer.engine import Engine  # noqa: E402
from voxtral_ros.recognizer.events import (  # noqa: E402
    Event, SpeechActivity, Transcript, Turn, TurnKind, Word)
from voxtral_ros.recognizer.robot_words import RobotText, RobotWords  # noqa: E402
from voxtral_ros.resources import demo_model  # noqa: E402

BLOCK = 320  # samples
TAIL_S = 0.3  # of robot_speaking_tail_s
GOAL_S = 0.7  # from the first word to the first event
EARLY_S, LATE_S = 0.1, 0.6  # around the person's speech, within which words are theirs
T60_S, LOUDSPEAKER_M, PERSON_M = (0.2, 0.4, 0.6), (0.1, 0.2, 0.3), (1.0, 2.0)


class Way(NamedTuple):
    """One way to treat the robot's voice."""

    options: EchoOptions | None = None
    is_muted: bool = False  # while the robot speaks
    is_marked: bool = False  # and what is marked is left out
    is_compared: bool = False  # with the text of the robot, as by robot_speaking_mode: duck

    @property
    def audio(self) -> tuple[EchoOptions | None, bool]:
        """Return what makes the audio that the model is given."""
        return self.options, self.is_muted


CANCEL = EchoOptions(echo_cancellation=True)
WAYS = {
    'nothing': Way(),
    'mute': Way(is_muted=True),
    'mark': Way(is_marked=True),
    'text comparison': Way(is_compared=True),
    'echo cancellation': Way(CANCEL),
    'echo cancellation, text comparison': Way(CANCEL, is_compared=True),
}
MORE_WAYS = {
    'noise suppression': Way(EchoOptions(noise_suppression=True)),
    'gain control': Way(EchoOptions(gain_control=True)),
    'echo cancellation, noise suppression': Way(EchoOptions(True, True)),
    'echo cancellation, gain control': Way(EchoOptions(True, False, True)),
    'all three': Way(EchoOptions(True, True, True)),
}


@dataclass
class Cost:
    """What a canceller takes."""

    cpu_s: float = 0.0


@dataclass
class Run:
    """What came out for one recording of a scene."""

    words: list[Word] = field(default_factory=list)
    turns_s: list[tuple[float, float]] = field(default_factory=list)  # when START and END came
    cpu_s: float = 0.0  # of the canceller
    seconds: float = 0.0

    @property
    def n_words(self) -> int:
        return len(self.within(-math.inf, math.inf))

    def within(self, start_s: float, end_s: float) -> list[str]:
        """Return the words between two moments."""
        return [word for each in self.words if start_s < each.end_s <= end_s
                for word in normalize(each.text)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--people', type=Path, required=True, metavar='TSV',
                        help='manifest of people')
    parser.add_argument('--robot', type=Path, required=True, metavar='TSV',
                        help="manifest of the robot's synthesiser")
    parser.add_argument('--scenes', type=int, metavar='N', help='at most so many [all people]')
    parser.add_argument('--robot-db', type=float, nargs='*', default=(0.0, 6.0, 12.0),
                        metavar='DB', help='how much louder the robot is [0 6 12]')
    parser.add_argument('--options-at', type=float, default=6.0, metavar='DB',
                        help='where all options of the canceller are compared [6]')
    parser.add_argument('--ways', nargs='*', metavar='WAY', choices=[*WAYS, *MORE_WAYS],
                        help='only these [all]')
    parser.add_argument('--distortion', type=float, default=1.0,
                        help='of the loudspeaker, 0 for none [1]')
    parser.add_argument('--model', type=Path, default=demo_model(), metavar='DIR',
                        help='checkpoint folder [the demo model]')
    parser.add_argument('--delay-ms', type=float, help='of the model [that of the checkpoint]')
    parser.add_argument('--show', action='store_true', help='print what comes out of each scene')
    arguments = parser.parse_args()
    people = sample(read_manifest(arguments.people), arguments.scenes)
    robot = read_manifest(arguments.robot)
    engine = Engine.load(arguments.model, 'cpu', threads=1)
    levels = {level: {
        name: way
        for name, way in (WAYS | (MORE_WAYS if level == arguments.options_at else {})).items()
        if not arguments.ways or name in arguments.ways} for level in arguments.robot_db}
    measured = {level: Measurement() for level in levels}
    for index, (person, room) in enumerate(zip(people, rooms(len(people)), strict=True)):
        said = [robot[(index + n) % len(robot)] for n in range(len(robot))]
        alone = None
        for level, ways in levels.items():
            simulated = scene(room, person, said, level, arguments.distortion, index)
            alone = alone or run(engine, simulated, simulated.person_alone, {'': Way()},
                                 arguments.delay_ms)['']
            measured[level].add(engine, simulated, alone, ways, arguments)
        print(f'{index + 1} of {len(people)}: {room}', file=sys.stderr, flush=True)
    print_all(measured)


def rooms(count: int) -> list[Room]:
    """Return different rooms, in which all conditions are as frequent as can be."""
    conditions = list(product(T60_S, PERSON_M, LOUDSPEAKER_M))
    order = np.random.default_rng(0).permutation(len(conditions))
    picked = [conditions[order[n % len(order)]] for n in range(count)]
    return [Room(t60_s, loudspeaker_m, person_m, seed)
            for seed, (t60_s, person_m, loudspeaker_m) in enumerate(picked)]


@dataclass
class Measurement:
    """All scenes at one level of the robot."""

    scenes: list[Scene] = field(default_factory=list)
    alone: list[Run] = field(default_factory=list)
    together: dict[str, list[Run]] = field(default_factory=dict)
    robot: dict[str, list[Run]] = field(default_factory=dict)

    def add(self, engine: Engine, simulated: Scene, alone: Run, ways: dict[str, Way],
            arguments: argparse.Namespace) -> None:
        """Run a scene in all ways."""
        self.scenes.append(simulated)
        self.alone.append(alone)
        for audio in dict.fromkeys(way.audio for way in ways.values()):
            same = {name: way for name, way in ways.items() if way.audio == audio}
            for runs, samples in ((self.together, simulated.together),
                                  (self.robot, simulated.robot_alone)):
                for name, each in run(engine, simulated, samples, same,
                                      arguments.delay_ms).items():
                    runs.setdefault(name, []).append(each)
        if arguments.show:
            print(f'{simulated.room}, {simulated.robot_db:+.0f} dB\n'
                  f'  said   {simulated.person.text}\n  robot  {simulated.robot_text}\n'
                  f'  without the robot  {told(alone)}')
            for name in ways:
                print(f'  {name}\n    both   {told(self.together[name][-1])}\n'
                      f'    robot  {told(self.robot[name][-1])}', flush=True)

    def scores(self, name: str | None) -> list[Score]:
        """Return the person's scores in a way; None: without the robot."""
        runs = self.alone if name is None else self.together[name]
        return [person_score(simulated, each)
                for simulated, each in zip(self.scenes, runs, strict=True)]


def told(each: Run) -> str:
    return ' '.join(f'{word.text}@{word.end_s:.1f}' for word in each.words)


def run(engine: Engine, simulated: Scene, samples: Samples, ways: dict[str, Way],
        delay_ms: float | None = None) -> dict[str, Run]:
    """Feed a recording of a scene block by block, and note what comes when; all of one audio."""
    way = next(iter(ways.values()))
    if way.is_muted:
        samples = samples.copy()
        samples[round(simulated.robot_s[0] * RATE):round(heard_s(simulated)[1] * RATE)] = 0
    results = {name: Run(seconds=len(samples) / RATE) for name in ways}
    compare = {name: comparison(each, simulated) for name, each in ways.items()}
    stream, cost = engine.open(delay_ms, start_s=simulated.begin_s), Cost()
    for now_s, block in blocks(way, simulated, samples, cost):
        stream.feed(block)
        events = stream.poll()
        for name, result in results.items():
            for event in compare[name](events):
                note(result, event, now_s)
    stream.abandon()
    for result in results.values():
        result.cpu_s = cost.cpu_s
    return results


def note(result: Run, event: Event, now_s: float) -> None:
    """Note what has come out at a moment."""
    if isinstance(event, Turn) and event.kind == TurnKind.START:
        result.turns_s.append((now_s, math.inf))
    elif isinstance(event, Turn) and event.kind == TurnKind.END:
        result.turns_s[-1] = result.turns_s[-1][0], now_s
    elif isinstance(event, Transcript) and event.is_final:
        result.words += event.words


def heard_s(simulated: Scene) -> tuple[float, float]:
    """Return from when to when the robot is taken to speak: its voice lingers."""
    return simulated.robot_s[0], simulated.robot_s[1] + TAIL_S


def comparison(way: Way, simulated: Scene) -> Callable[[list[Event]], list[Event]]:
    """Return what takes out of events what a way leaves out."""
    begin_s, end_s = heard_s(simulated)
    if way.is_marked:
        return lambda events: [event for event in events if isinstance(event, SpeechActivity)
                               or event.end_s <= begin_s or end_s <= event.start_s]
    if not way.is_compared:
        return lambda events: events
    text = RobotText()
    for start_s, sentence in simulated.said:
        text.say(sentence, start_s)
    words = RobotWords(text)
    return lambda events: words.take(
        events, lambda from_s, to_s: from_s < end_s and begin_s < to_s, lambda time_s: time_s)


def blocks(way: Way, simulated: Scene, samples: Samples,
           cost: Cost) -> Iterator[tuple[float, Samples]]:
    """Yield what the model is given, and when; the canceller also gets what was before."""
    canceller = EchoCanceller(way.options) if way.options else None
    n_before = round(simulated.begin_s * RATE)
    for start in range(0 if canceller else n_before, len(samples), BLOCK):
        block, at_s = samples[start:start + BLOCK], start / RATE
        now_s = (start + len(block)) / RATE
        if canceller:
            begin = process_time()
            canceller.add_reference(simulated.playback[start:start + BLOCK], RATE, at_s, now_s)
            block = canceller.process(block, at_s)
            if now_s == len(samples) / RATE:
                block = np.concatenate((block, canceller.drain()))
            cost.cpu_s += process_time() - begin
            block, n_before = block[n_before:], max(0, n_before - len(block))
        if len(block):
            yield now_s, block


def person_score(simulated: Scene, each: Run) -> Score:
    """Compare what came out while the person spoke with what they said."""
    words = each.within(*window(simulated))
    said = normalize(simulated.person.text)
    return Score(simulated.person.path.name, ' '.join(said), ' '.join(words),
                 word_errors(said, words), len(said))


def window(simulated: Scene) -> tuple[float, float]:
    """Return from when to when words are the person's."""
    return simulated.start_s - EARLY_S, simulated.end_s + LATE_S


def count_robot(simulated: Scene, each: Run) -> int:
    """
    Return how many words are the robot's, while the person speaks and before and after.

    While nobody else speaks, they are all the robot's. While the person does, those are that are
    wrong and that the robot says in this scene.
    """
    inside = each.within(*window(simulated))
    robot = {*normalize(simulated.robot_text)}
    wrong = wrong_words(normalize(simulated.person.text), inside)
    return each.n_words - len(inside) + sum(word in robot for word in wrong)


def wrong_words(said: Sequence[str], words: Sequence[str]) -> list[str]:
    """Return the words that are not where they were said."""
    if not said or not words:
        return list(words)
    output = jiwer.process_words(' '.join(said), ' '.join(words))
    return [word for chunk in output.alignments[0] if chunk.type in ('substitute', 'insert')
            for word in words[chunk.hyp_start_idx:chunk.hyp_end_idx]]


def barge_in_s(simulated: Scene, each: Run) -> float:
    """
    Return how long after the person began their turn did; NaN: it did not.

    It is negative where a turn was open already, of the robot's own words.
    """
    last_s = simulated.end_s + LATE_S
    turns = [turn for turn in each.turns_s if turn[1] > simulated.start_s and turn[0] < last_s]
    return turns[0][0] - simulated.start_s if turns else math.nan


def robot_minutes(scenes: Sequence[Scene]) -> list[float]:
    """Return for how long the robot speaks in each scene."""
    return [(end_s - begin_s) / 60 for begin_s, end_s in (each.robot_s for each in scenes)]


def cell(rate: tuple[float, float, float], scale: float = 100, digits: int = 1) -> str:
    """Return a rate and its interval."""
    value, low, high = (f'{scale * part:.{digits}f}' for part in rate)
    return f'{value} ({low} to {high})'


def per_minute(scenes: Sequence[Scene], counts: Sequence[int]) -> str:
    minutes = robot_minutes(scenes)
    # Of what is counted by the minute, all is times a thousand: the bootstrap divides by words.
    low, high = bootstrap(np.array(counts) * 1e3, np.array(minutes) * 1e3)
    return cell((sum(counts) / sum(minutes), low, high), 1, 2)


def print_all(measured: dict[float, Measurement]) -> None:
    """Print all tables."""
    first = next(iter(measured.values()))
    n_words = sum(score.n_words for score in first.scores(None))
    print(f'{processor()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}\n'
          f'{len(first.scenes)} scenes, {n_words} words of people, '
          f'{sum(robot_minutes(first.scenes)):.1f} min of the robot; without the robot '
          f'{cell(error_rate(first.scores(None)))} % of the words are wrong')
    for level, each in measured.items():
        print_level(level, each)
    print_rooms(measured)


def print_level(level: float, each: Measurement) -> None:
    print(f'\n## The robot {level:+.0f} dB\n\n'
          '| | word error rate, % | more than without the robot '
          "| the robot's words a minute, robot alone | while both speak, before and after |\n"
          + '|---' * 5 + '|')
    alone = each.scores(None)
    for name, runs in each.together.items():
        scores = each.scores(name)
        counts = [count_robot(*pair) for pair in zip(each.scenes, runs, strict=True)]
        print(f'| {name} | {cell(error_rate(scores))} | {cell(difference(alone, scores))} | '
              + per_minute(each.scenes, [one.n_words for one in each.robot[name]])
              + f' | {per_minute(each.scenes, counts)} |')
    print('\n| | START within 0.7 s | late | missed | before the person | p50, s '
          '| canceller, ms of CPU a second |\n' + '|---' * 7 + '|')
    for name, runs in {'without the robot': each.alone, **each.together}.items():
        cost_ms = 1000 * sum(one.cpu_s for one in runs) / sum(one.seconds for one in runs)
        print(f'| {name} | {barge_ins(each.scenes, runs)} | {cost_ms:.1f} |')


def barge_ins(scenes: Sequence[Scene], runs: Sequence[Run]) -> str:
    """Return how many turns start in time, late, never and too early, and when in the middle."""
    delays = np.array([barge_in_s(simulated, each)
                       for simulated, each in zip(scenes, runs, strict=True)])
    good = delays[delays >= 0]
    p50 = f'{np.median(good):.2f}' if len(good) else ''
    return f'{np.sum(good <= GOAL_S)} | {np.sum(good > GOAL_S)} | {np.sum(np.isnan(delays))} ' \
        f'| {np.sum(delays < 0)} | {p50}'


def print_rooms(measured: dict[float, Measurement]) -> None:
    """Print what the rooms change."""
    if not all('echo cancellation' in each.together for each in measured.values()):
        return
    print('\n## Rooms, echo cancellation: more words wrong than without the robot, %\n\n'
          '| | scenes ' + ''.join(f'| {level:+.0f} dB ' for level in measured) + '|\n'
          + '|---' * (2 + len(measured)) + '|')
    for name, values in (('t60_s', T60_S), ('person_m', PERSON_M),
                         ('loudspeaker_m', LOUDSPEAKER_M)):
        for value in values:
            cells = []
            for each in measured.values():
                is_here = [getattr(simulated.room, name) == value for simulated in each.scenes]
                before, after = ([score for score, here in zip(scores, is_here, strict=True)
                                  if here] for scores in (each.scores(None),
                                                          each.scores('echo cancellation')))
                cells.append(cell(difference(before, after)) if before else '')
            print(f'| {name} {value} | {sum(is_here)} | ' + ' | '.join(cells) + ' |')


if __name__ == '__main__':
    main()
