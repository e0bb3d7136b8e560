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
Misses and false wakes of wake phrases, without biasing and with.

    python bench/wake.py said=wake.tsv speech=speech.tsv noise=noise.tsv --phrases wake.txt \
        --texts build/phrase-texts

In recordings whose text has one of the phrases, it is to be found in the transcript; in others,
none is. All phrases of the list wait at the same time. Transcripts are kept in `--texts`, and
taken from there, as of bench/phrases.py.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
import sys

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from bench.machine import processor  # noqa: E402
from bench.phrases import (  # noqa: E402
    Case, inserted_cell, lines, N_STREAMS, row, TestSet, transcripts)

from voxtral_ros.evaluation.confidence import bootstrap  # noqa: E402
from voxtral_ros.evaluation.manifest import read_manifest  # noqa: E402
from voxtral_ros.evaluation.phrases import PhraseScorer  # noqa: E402
from voxtral_ros.recognizer.engine import Engine  # noqa: E402
from voxtral_ros.recognizer.phrases import DEFAULT_BOOST  # noqa: E402
from voxtral_ros.recognizer.wake import WakePhrases  # noqa: E402
from voxtral_ros.resources import demo_model  # noqa: E402


def report(test_set: TestSet, case: Case, texts: list[str], hours: float) -> Iterator[str]:
    """Yield a row: how many phrases are missed, how many found that nobody said."""
    scorer, wake = PhraseScorer(test_set.phrases), WakePhrases(test_set.phrases)
    said, missed, false = [], [], 0
    for recording, text in zip(test_set.recordings, texts, strict=True):
        is_said = scorer.score(recording.text, '').n_said > 0
        found = count(wake, text)
        false += max(0, found - is_said)
        if is_said:
            said.append(1)
            missed.append(int(not found))
    low, high = bootstrap(missed, said) if said else (0.0, 0.0)
    yield row([test_set.name, f'{case.boost:g}' if case.length else '-',
               f'{sum(missed)} of {len(said)}: {100 * sum(missed) / len(said):.1f} % '
               f'({100 * low:.1f} to {100 * high:.1f})' if said else '-',
               inserted_cell(false, hours)])


def count(wake: WakePhrases, text: str) -> int:
    """Return how often a phrase is found."""
    n = 0
    while match := wake.find(text):
        n += 1
        text = text[match.end:]
    return n


def main() -> None:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('sets', nargs='+', metavar='NAME=TSV')
    parser.add_argument('--phrases', type=Path, required=True, help='a wake phrase per line')
    parser.add_argument('--model', type=Path, default=demo_model())
    parser.add_argument('--texts', type=Path, default=ROOT / 'build/phrase-texts')
    parser.add_argument('--boosts', type=float, nargs='+', metavar='LOGITS',
                        default=[0.0, DEFAULT_BOOST])
    arguments = parser.parse_args()
    arguments.texts.mkdir(parents=True, exist_ok=True)
    phrases = lines(arguments.phrases)
    loaded: list[Engine] = []

    def engine() -> Engine:
        if not loaded:
            loaded.append(Engine.load(arguments.model, 'cpu', max_streams=N_STREAMS, threads=1))
        return loaded[0]

    print(f'{processor()}; {", ".join(phrases)}')
    print(row(['set', 'boost', 'missed', 'false wakes, per hour']))
    print(row(['---'] * 4))
    for argument in arguments.sets:
        name, manifest = argument.split('=', 1)
        test_set = TestSet(name, read_manifest(Path(manifest)), phrases, [])
        for boost in arguments.boosts:
            case = Case(len(phrases), boost) if boost else Case()
            texts, hours = transcripts(engine, test_set, case, arguments.texts)
            for line in report(test_set, case, texts, hours):
                print(line, flush=True)


if __name__ == '__main__':
    main()
