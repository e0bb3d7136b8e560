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
What phrases to expect bring and cost: found phrases, false ones, the other words, and time.

    python bench/phrases.py --distractors distractors.txt --texts build/phrase-texts \
        test=test.tsv:test.txt speech=speech.tsv:test.txt noise=noise.tsv:test.txt
    python bench/phrases.py --distractors distractors.txt --steps 4000

Each set is a manifest (columns file and text) and a list of phrases, one per line. Every recording
goes through the demo model without phrases, and with lists of each length at each boost. A list
has the phrases that are said in the recording, others of the set, and distractors, which are said
in none of its recordings. Transcripts are kept in `--texts`, and taken from there when they are
complete: remove them when the model or the biasing has changed. How many positions the decoder
has passed is printed beside the time: with phrases, some are passed again. `--steps` measures
steps of 80 ms instead, with and without 1,000 phrases in turns. training/phrase_test_sets.py makes
sets.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
import math
from pathlib import Path
import random
import sys
import time
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from bench.machine import processor  # noqa: E402
import numpy as np  # noqa: E402

from voxtral_ros.backends.base import Backend, Tokens  # noqa: E402
from voxtral_ros.evaluation.confidence import bootstrap  # noqa: E402
from voxtral_ros.evaluation.manifest import read_manifest, read_table, Recording  # noqa: E402
from voxtral_ros.evaluation.phrases import PhraseScore, PhraseScorer  # noqa: E402
from voxtral_ros.evaluation.transcribe import transcribe  # noqa: E402
from voxtral_ros.evaluation.word_error_rate import normalize  # noqa: E402
from voxtral_ros.recognizer.engine import Engine  # noqa: E402
from voxtral_ros.recognizer.options import offline_options  # noqa: E402
from voxtral_ros.recognizer.phrases import DEFAULT_BOOST, PhraseList  # noqa: E402
from voxtral_ros.resources import demo_model  # noqa: E402

STEP = 1280  # samples
WARM_UP = 200  # steps
N_STREAMS = 8
LONGEST = 1000


class Case(NamedTuple):
    """A length of the list and a boost; no phrases if the length is 0."""

    length: int = 0
    boost: float = 0.0

    @property
    def name(self) -> str:
        """Return the name of its transcripts."""
        return f'{self.length}-{self.boost:g}' if self.length else 'without'


@dataclass
class TestSet:
    """Recordings, and the phrases that are listed for them."""

    name: str
    recordings: list[Recording]
    phrases: list[str]
    distractors: list[str]

    @classmethod
    def load(cls, argument: str, distractors: Path) -> 'TestSet':
        """Read a set from NAME=MANIFEST:LIST."""
        name, paths = argument.split('=', 1)
        manifest, phrases = paths.rsplit(':', 1)
        recordings = read_manifest(Path(manifest))
        listed = lines(Path(phrases))
        said = [f' {" ".join(normalize(recording.text))} ' for recording in recordings]
        taken = {tuple(normalize(phrase)) for phrase in listed}
        others = [line for line in lines(distractors)
                  if tuple(normalize(line)) not in taken
                  and not any(f' {" ".join(normalize(line))} ' in text for text in said)]
        return cls(name, recordings, listed, others)

    def list_for(self, recording: Recording, case: Case) -> PhraseList:
        """Return the list for a recording: what is said in it, others of the set, distractors."""
        text = f' {" ".join(normalize(recording.text))} '
        own = [phrase for phrase in self.phrases if f' {" ".join(normalize(phrase))} ' in text]
        rest = [phrase for phrase in self.phrases if phrase not in own]
        random.Random(recording.path.name).shuffle(rest)
        chosen = [*own, *rest, *self.distractors][:case.length]
        return PhraseList.parse(sorted(chosen), case.boost)


class Counted:
    """A backend that counts the positions that it decodes, those that it decodes again, too."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.n_positions = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def decode(self, slots: Sequence[int], windows: np.ndarray) -> Tokens:
        tokens = self.backend.decode(slots, windows)
        self.n_positions += sum(map(len, tokens.ids))
        return tokens


def lines(path: Path) -> list[str]:
    """Return the lines of a file that are not empty."""
    return [line for line in path.read_text(encoding='utf-8').splitlines() if line]


def transcripts(engine: Callable[[], Engine], test_set: TestSet, case: Case, folder: Path,
                ) -> tuple[list[str], float]:
    """Return the transcripts of a set in its order, and its length in hours."""
    path = folder / f'{test_set.name}-{case.name}.tsv'
    if not path.exists():
        loaded, begin = engine(), time.perf_counter()
        counted = loaded.backend = Counted(loaded.backend)
        # Those that go side by side are equally long: no stream waits for another.
        order = sorted(test_set.recordings, key=lambda one: one.path.stat().st_size)
        results = {result.recording.path: result for result in transcribe(
            loaded, order, side_by_side=N_STREAMS,
            phrases=partial(test_set.list_for, case=case) if case.length else None)}
        rows = ['file\tseconds\ttext\ttranscript']
        for recording in test_set.recordings:
            result = results[recording.path]
            if result.error:
                sys.exit(f'bench/phrases.py: {result.error}')
            rows.append(f'{recording.path.name}\t{result.duration_s:.3f}\t{recording.text}\t'
                        f'{result.transcript}')
        path.write_text('\n'.join(rows) + '\n', encoding='utf-8')
        print(f'{path.name}: {time.perf_counter() - begin:.0f} s, '
              f'{counted.n_positions} positions', file=sys.stderr)
        loaded.backend = counted.backend
    table = read_table(path, ('file', 'seconds', 'transcript'))
    if [row['file'] for row in table] != [one.path.name for one in test_set.recordings]:
        sys.exit(f'bench/phrases.py: {path} has other recordings: remove it')
    return ([row['transcript'] for row in table],
            sum(float(row['seconds']) for row in table) / 3600)


def poisson_interval(count: int) -> tuple[float, float]:
    """Return the exact 95 % interval of the expectation of a number of events."""
    def solve(n: int, tail: float) -> float:
        """Return the expectation at which n events or fewer have this probability."""
        low, high = 0.0, 10.0 * n + 20
        for _ in range(60):
            middle = (low + high) / 2
            log_terms = (k * math.log(middle) - math.lgamma(k + 1) for k in range(n + 1))
            below = sum(math.exp(term - middle) for term in log_terms)
            low, high = (middle, high) if below > tail else (low, middle)
        return low

    return solve(count - 1, 0.975) if count else 0.0, solve(count, 0.025)


def report(test_set: TestSet, cases: Sequence[Case], engine: Callable[[], Engine], folder: Path,
           ) -> Iterator[str]:
    """Yield a row for each case; the first one is without phrases."""
    scorer = PhraseScorer(test_set.phrases)
    before, hours = transcripts(engine, test_set, Case(), folder)
    usual = [scorer.score(recording.text, text)
             for recording, text in zip(test_set.recordings, before, strict=True)]
    yield row([test_set.name, '-', '-', found_cell(usual), '-', '-', *rest_cells(usual, usual)])
    for case in cases:
        texts, _ = transcripts(engine, test_set, case, folder)
        scores = [scorer.score(recording.text, text)
                  for recording, text in zip(test_set.recordings, texts, strict=True)]
        inserted = [count_inserted(test_set, case, some) for some in (before, texts)]
        yield row([test_set.name, str(case.length), f'{case.boost:g}', found_cell(scores),
                   *(inserted_cell(count, hours) for count in inserted),
                   *rest_cells(scores, usual)])


def row(cells: Sequence[str]) -> str:
    """Return a row of a table in Markdown."""
    return f'| {" | ".join(cells)} |'


def count_inserted(test_set: TestSet, case: Case, texts: Sequence[str]) -> int:
    """Return how many phrases of the list of each recording are written and were not said."""
    scorers: dict[PhraseList, PhraseScorer] = {}
    count = 0
    for recording, text in zip(test_set.recordings, texts, strict=True):
        phrases = test_set.list_for(recording, case)
        if phrases not in scorers:
            scorers[phrases] = PhraseScorer(phrase.text for phrase in phrases.phrases)
        count += scorers[phrases].score(recording.text, text).n_inserted
    return count


def found_cell(scores: Sequence[PhraseScore]) -> str:
    """Return how many of the phrases said are found, with the interval in percent."""
    said, found = [score.n_said for score in scores], [score.n_found for score in scores]
    if not sum(said):
        return '-'
    low, high = bootstrap(found, said)
    return (f'{sum(found)} of {sum(said)}: {100 * sum(found) / sum(said):.1f} % '
            f'({100 * low:.1f} to {100 * high:.1f})')


def inserted_cell(count: int, hours: float) -> str:
    """Return phrases that were not said, and how many an hour."""
    low, high = poisson_interval(count)
    return f'{count}: {count / hours:.1f} ({low / hours:.1f} to {high / hours:.1f})'


def rest_cells(scores: Sequence[PhraseScore], before: Sequence[PhraseScore]) -> tuple[str, str]:
    """Return the word error rate of the other words, and how much higher than before it is."""
    n_words = [score.n_words for score in scores]
    if not sum(n_words):
        return f'{sum(score.errors for score in scores)} words', '-'
    more = [late.errors - early.errors for late, early in zip(scores, before, strict=True)]
    low, high = bootstrap(more, n_words)
    rate = 100 * sum(score.errors for score in scores) / sum(n_words)
    if scores is before:
        return f'{rate:.1f} %', '-'
    return (f'{rate:.1f} %',
            f'{100 * sum(more) / sum(n_words):+.1f} ({100 * low:+.1f} to {100 * high:+.1f})')


def step_times(model: Path, n_steps: int, phrases: PhraseList) -> tuple[list[float], list[float]]:
    """Return CPU seconds of steps without and with phrases, in turns, of the same audio."""
    engine = Engine.load(model, 'cpu', max_streams=2, threads=1)
    streams = [engine.open(None, offline_options()),
               engine.open(None, offline_options(), phrases=phrases)]
    recording, = read_manifest(ROOT / 'test/data/manifest.tsv')[:1]
    samples = recording.samples()
    times: list[list[float]] = [[], []]
    for step in range(WARM_UP + n_steps):
        at = step * STEP % (len(samples) - STEP)
        for which in (0, 1) if step % 2 else (1, 0):
            streams[which].feed(samples[at:at + STEP])
            begin = time.thread_time()
            streams[which].poll()
            times[which].append(time.thread_time() - begin)
    return times[0][WARM_UP:], times[1][WARM_UP:]


def print_steps(model: Path, n_steps: int, phrases: PhraseList) -> None:
    """Print what the phrases cost in a step."""
    without, with_phrases = (1e3 * np.array(times)
                             for times in step_times(model, n_steps, phrases))
    difference = with_phrases - without
    pick = np.random.default_rng(0).integers(0, n_steps, (2000, n_steps))
    low, high = np.percentile(np.median(difference[pick], axis=1), (2.5, 97.5))
    usual = float(np.median(without))
    print(f'{len(phrases)} phrases, {n_steps} steps each way, in turns, one thread:\n'
          f'a step takes {usual:.3f} ms without, {np.median(with_phrases):.3f} ms with; in pairs '
          f'{np.median(difference):+.4f} ms ({low:+.4f} to {high:+.4f}), that is '
          f'{100 * np.median(difference) / usual:+.2f} % ({100 * low / usual:+.2f} to '
          f'{100 * high / usual:+.2f})')


def main() -> None:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('sets', nargs='*', metavar='NAME=TSV:LIST')
    parser.add_argument('--model', type=Path, default=demo_model())
    parser.add_argument('--distractors', type=Path, required=True, help='a phrase per line')
    parser.add_argument('--texts', type=Path, default=ROOT / 'build/phrase-texts',
                        help='folder of the transcripts')
    parser.add_argument('--boosts', type=float, nargs='+', metavar='LOGITS',
                        default=[DEFAULT_BOOST * times for times in (0.5, 1, 1.5, 2)])
    parser.add_argument('--lengths', type=int, nargs='+', default=[10, 100, LONGEST])
    parser.add_argument('--cases', nargs='*', metavar='LENGTH:BOOST',
                        help='only these, instead of all lengths at all boosts')
    parser.add_argument('--steps', type=int, help='measure so many steps instead')
    arguments = parser.parse_args()
    print(f'{processor()}; default boost {DEFAULT_BOOST:g}')
    if arguments.steps:
        chosen = PhraseList.parse(lines(arguments.distractors)[:LONGEST])
        print_steps(arguments.model, arguments.steps, chosen)
        return
    arguments.texts.mkdir(parents=True, exist_ok=True)
    loaded: list[Engine] = []

    def engine() -> Engine:
        if not loaded:
            loaded.append(Engine.load(arguments.model, 'cpu', max_streams=N_STREAMS, threads=1))
        return loaded[0]

    cases = [Case(length, boost) for length in arguments.lengths for boost in arguments.boosts]
    if arguments.cases is not None:
        cases = [Case(int(length), float(boost)) for length, boost in
                 (case.split(':') for case in arguments.cases)]
    print(row(['set', 'list', 'boost', 'found', 'without: not said, per hour',
               'not said, per hour', 'other words wrong', 'more']))
    print(row(['---'] * 8))
    for argument in arguments.sets:
        test_set = TestSet.load(argument, arguments.distractors)
        for line in report(test_set, cases, engine, arguments.texts):
            print(line, flush=True)


if __name__ == '__main__':
    main()
