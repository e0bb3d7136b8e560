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
Judge a model: word error rates of all test sets beside those of other recognizers, in one table.

    python -m training.judge --model models/voxtral-tiny-en --test-sets T \
        --whisper-tiny DIR --whisper-base DIR --pocketsphinx --out table.md

`T` has a manifest `<set>.tsv` for each set of SETS; those that it lacks are left out. Our model
streams through the whole product, voice activity detection included; the others (see
training.baselines) process each recording as a whole. What each recognizer writes is kept in
`T/results/<recognizer>/<set>.tsv`, so a new model needs only its own run: without the options of
the other recognizers, their kept transcripts are used. `--name` says under which name the
transcripts of the model are kept, and `--beside` which earlier models stand in the table as well.
training.compare_transcripts compares two such folders.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from functools import partial
import math
from pathlib import Path

import numpy as np
import torch
from training import condition_test_sets
from training.baselines import pocketsphinx, Recognizer, spoken_form, whisper, Word
from training.compare_baselines import (
    rate_cell, read_set, Recording, Result, run_baseline, score_recordings, stream)
from training.kept_transcripts import Kept, model_identity, Transcriber
from training.processes import map_in_processes
from training.reliability import bins, calibration_error, plot, right_words

from voxtral_ros.evaluation.phrases import PhraseScorer
from voxtral_ros.node.parameter_table import ROWS
from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.recognizer.events import mean_confidence

POCKETSPHINX, TINY, BASE = 'PocketSphinx', 'Whisper tiny.en', 'Whisper base'
FOREIGN, NOISE, ORDERS, SHIPPED = 'foreign', 'noise', 'orders', 'shipped-orders'
CONDITIONS = tuple(condition_test_sets.CONDITIONS)
SETS = {
    'People it has never met': ('people', 'words'),
    'A voice it has never met': ('everyday',),
    'Noise, rooms and channels': CONDITIONS,
    'Older sets': ('reading', ORDERS, 'commands', 'kokoro', 'piper', 'festival')}
ALL = (*(name for names in SETS.values() for name in names), FOREIGN, NOISE, SHIPPED)
_ROBOT_ORDERS = (
    'robot go to the kitchen and bring me the red cup', 'turn left and go forward three meters',
    'please put the book next to the lamp and come back',
    'stop following me and return to the charging station')
_BEGIN, _END = '<!-- tables of training.judge -->', '<!-- end of tables -->'
_DELAY_MS = 480
_N_STREAMS = 8
_CHUNK = 20480  # samples, 1.28 s: faster than 80 ms, with the same transcripts
_RATE_HZ = 16000
_MIN_CONFIDENCE = ROWS['text.min_confidence'].default  # less is unsure, and no text of the node


class Table:
    """The columns, one a recognizer, and what they wrote."""

    def __init__(self, folder: Path, columns: dict[str, Kept], only: list[str] | None) -> None:
        self._folder, self.columns, self._only = folder, columns, only
        self.texts: dict[str, dict[str, str]] = {}  # of each set, by file
        self.words: dict[tuple[str, str], dict[str, list[Word]]] = {}

    def read(self, name: str) -> list[Recording] | None:
        """Read a set and let all recognizers transcribe it; None: there is no such set."""
        manifest = self._folder / f'{name}.tsv'
        if not manifest.exists() or (self._only and name not in self._only):
            return None
        recordings = read_set(manifest)
        self.texts[name] = {recording.file: recording.text for recording in recordings}
        for column, kept in self.columns.items():
            words = kept.words(name, manifest, recordings)
            if words is not None:
                self.words[column, name] = words
        return recordings

    def cells(self, name: str, cell: Callable[[dict[str, list[Word]]], str]) -> list[str]:
        """Return a cell for every recognizer, '-' for one that has not run."""
        return [cell(self.words[column, name]) if (column, name) in self.words else '-'
                for column in self.columns]


def _row(*cells: str) -> str:
    return f'| {" | ".join(cells)} |'


def _head(*names: str) -> list[str]:
    return ['', _row(*names), '|' + '---|' * len(names)]


def error_rates(table: Table) -> Iterator[str]:
    """Return the lines of the tables of word error rates."""
    for title, names in SETS.items():
        rows = []
        for name in names:
            recordings = table.read(name)
            if not recordings:
                continue
            rows.append(_row(f'`{name}`', str(len(recordings)), str(_n_words(recordings)),
                             *table.cells(name, partial(_rate, recordings))))
            if name == ORDERS:
                rows.append(_row('`orders`, wholly right', str(len(recordings)), '',
                                 *table.cells(name, partial(_n_right, recordings))))
        if rows:
            yield f'\n### {title}'
            yield from _head('set', 'recordings', 'words', *table.columns)
            yield from rows


def _n_words(recordings: list[Recording]) -> int:
    return sum(len(spoken_form(recording.text)) for recording in recordings)


def _rate(recordings: list[Recording], words: dict[str, list[Word]]) -> str:
    return rate_cell(score_recordings(Result(words, 0.0), recordings))


def _n_right(recordings: list[Recording], words: dict[str, list[Word]]) -> str:
    """Return how many recordings have no error."""
    return str(sum(not score.errors for score in score_recordings(Result(words, 0.0), recordings)))


def nothing_to_write(table: Table) -> Iterator[str]:
    """Return the lines of the table of words where no English is spoken."""
    rows = []
    for name, unit, per_s in ((FOREIGN, 'words a minute', 60), (NOISE, 'words an hour', 3600)):
        recordings = table.read(name)
        if not recordings:
            continue
        kinds = sorted({recording.kind for recording in recordings})
        for kind in [*kinds, ''] if name == FOREIGN else ['']:
            of = [recording for recording in recordings if kind in ('', recording.kind)]
            seconds = sum(len(recording.samples) for recording in of) / _RATE_HZ
            rows.append(_row(f'`{name}` {kind}, {unit}' if kind else f'`{name}`, {unit}',
                             f'{seconds:.0f}',
                             *table.cells(name, partial(_n_written, of, per_s / seconds))))
        if name == FOREIGN:
            rows.append(_row('`foreign`, without what is unsure, words a minute', f'{seconds:.0f}',
                             *table.cells(name, partial(_n_sure, recordings, per_s / seconds))))
    if rows:
        yield '\n### No English'
        yield from _head('set', 'seconds', *table.columns)
        yield from rows


def _n_written(recordings: list[Recording], scale: float, words: dict[str, list[Word]]) -> str:
    """Return the number of words that were written, times `scale`."""
    count = sum(len(spoken_form(word.text)) for recording in recordings
                for word in words[recording.file])
    return f'{scale * count:.0f}'


def _unsure(words: list[Word]) -> bool:
    """Return whether the confidence of a recording, the geometric mean, is too low for a text."""
    return mean_confidence([word.confidence for word in words]) < _MIN_CONFIDENCE


def _n_sure(recordings: list[Recording], scale: float, words: dict[str, list[Word]]) -> str:
    """Return _n_written of the recordings that are not unsure, '-' without confidences."""
    if any(math.isnan(word.confidence) for some in words.values() for word in some):
        return '-'
    return _n_written([recording for recording in recordings
                       if not _unsure(words[recording.file])], scale, words)


def shipped_orders(table: Table) -> Iterator[str]:
    """Return the lines on the recording of four orders that ships, as far as it is in a set."""
    recordings = table.read(SHIPPED)
    if recordings:
        scorer = PhraseScorer(_ROBOT_ORDERS, spoken_form)
        yield '\n### The four orders that ship'
        yield from _head('', *table.columns)
        yield _row('wholly right, of 4', *table.cells(SHIPPED, lambda words: str(scorer.score(
            recordings[0].text, ' '.join(word.text for word in words[recordings[0].file]),
        ).n_found)))


def confidence(table: Table, image: Path | None) -> Iterator[str]:
    """
    Return the lines on the calibration of each recognizer that gives confidences.

    They are about the sets that the table has read.
    """
    curves, rows = {}, []
    speech = [name for names in SETS.values() for name in names]
    for column in table.columns:
        values, right = _confidences(table, column, speech)
        if values:
            found = curves[column] = bins(values, right)
            flags, all_values = np.array(right), np.array(values)
            foreign = np.array(_confidences(table, column, [FOREIGN])[0])
            rows.append(_row(column, str(len(values)), f'{calibration_error(found):.3f}', *(
                f'{np.median(some):.2f}' if len(some) else '-'
                for some in (all_values[flags], all_values[~flags], foreign)),
                f'{_right_in_unsure(table, column, speech):.1f}'))
    if curves:
        yield '\n### Confidence'
        yield from _head('recognizer', 'words', 'expected calibration error',
                         'median of right words', 'of wrong words', 'in foreign speech',
                         'right words that are unsure, %')
        yield from rows
        yield from _head('confidence', *(f'{name}, {what}' for name in curves
                                         for what in ('words', 'right')))
        for bands in zip(*curves.values(), strict=True):
            yield _row(f'{bands[0].low:.1f} to {bands[0].high:.1f}', *(
                cell for one in bands for cell in (
                    str(one.n_words), f'{one.right:.2f}' if one.n_words else '-')))
        if image:
            plot(image, curves)


def _confidences(table: Table, column: str, names: Iterable[str],
                 ) -> tuple[list[float], list[bool]]:
    """Return the confidence of every word in these sets, and whether it is right."""
    values: list[float] = []
    right: list[bool] = []
    for name in names:
        for file, words in table.words.get((column, name), {}).items():
            if words and not np.isnan(words[0].confidence):
                values += [word.confidence for word in words]
                right += right_words(table.texts[name][file], words)
    return values, right


def _right_in_unsure(table: Table, column: str, names: Iterable[str]) -> float:
    """Return the share of the right words that are in unsure recordings, %."""
    n_right = {True: 0, False: 0}
    for name in names:
        for file, words in table.words.get((column, name), {}).items():
            if words:
                n_right[_unsure(words)] += sum(right_words(table.texts[name][file], words))
    return 100 * n_right[True] / max(1, sum(n_right.values()))


def baseline(make: Callable[[], Recognizer]) -> Callable[[], Transcriber]:
    """Return what makes a transcriber of a recognizer."""
    def loaded() -> Transcriber:
        recognizer = make()
        return lambda recordings, name: run_baseline(recognizer, recordings, name)
    return loaded


def ours(model: Path, threads: int) -> Transcriber:
    """Return a transcriber of our model."""
    engine = Engine.load(model, 'cpu', max_streams=_N_STREAMS, threads=threads)
    return lambda recordings, _: stream(engine, recordings, _DELAY_MS, _N_STREAMS, _CHUNK)


def transcribe_side_by_side(model: Path, results: Path, sets: list[Path], jobs: int) -> None:
    """Let `jobs` processes with one thread each transcribe the sets with our model."""
    for _ in map_in_processes(partial(_transcribe_alone, model, results),
                              sorted(sets, key=_size, reverse=True), jobs):
        pass


def _size(manifest: Path) -> int:
    return sum(path.stat().st_size for path in manifest.with_suffix('').glob('*'))


def _transcribe_alone(model: Path, results: Path, manifest: Path) -> None:
    torch.set_num_threads(1)
    Kept(results, lambda: ours(model, 1), model_identity(model)).words(
        manifest.stem, manifest, read_set(manifest))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('--model', type=Path, help='[none: only what is kept]')
    parser.add_argument('--name', help='of the model in the table [that of its folder]')
    parser.add_argument('--beside', nargs='+', default=[], metavar='NAME',
                        help='earlier models whose transcripts are kept')
    parser.add_argument('--test-sets', type=Path, required=True, help='folder with the manifests')
    parser.add_argument('--results', type=Path, help='kept transcripts [T/results]')
    parser.add_argument('--sets', nargs='+', help='names of manifests [all of the table]')
    parser.add_argument('--whisper-tiny', metavar='DIR', help='Whisper tiny.en for CTranslate2')
    parser.add_argument('--whisper-base', metavar='DIR', help='Whisper base for CTranslate2')
    parser.add_argument('--pocketsphinx', action='store_true', help='run it')
    parser.add_argument('--jobs', type=int, default=1, help='processes with our model [1]')
    parser.add_argument('--plot', type=Path, help='reliability diagram, PNG or SVG')
    parser.add_argument('--out', type=Path, help='file for the tables; what it has between the '
                        'marks of docs/demo-model.md is replaced')
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = arguments.results or arguments.test_sets / 'results'
    runs: dict[str, Callable[[], Transcriber] | None] = {
        POCKETSPHINX: baseline(pocketsphinx) if arguments.pocketsphinx else None,
        TINY: _whisper(arguments.whisper_tiny), BASE: _whisper(arguments.whisper_base)}
    columns = {name: Kept(results / name, run) for name, run in runs.items()
               if run or (results / name).exists()}
    columns |= {name: Kept(results / name) for name in arguments.beside}
    if arguments.model:
        name = arguments.name or arguments.model.name
        columns[name] = Kept(results / name, lambda: ours(arguments.model, 1),
                             model_identity(arguments.model))
        if arguments.jobs > 1:
            transcribe_side_by_side(arguments.model, results / name, [
                path for path in map(arguments.test_sets.joinpath, (
                    f'{name}.tsv' for name in arguments.sets or ALL)) if path.exists()],
                arguments.jobs)
    table = Table(arguments.test_sets, columns, arguments.sets)
    lines = ['Word error rates in %, with 95 % intervals.']
    for line in (*error_rates(table), *nothing_to_write(table), *shipped_orders(table),
                 *confidence(table, arguments.plot)):
        lines.append(line)
        print(line, flush=True)
    if arguments.out:
        write(arguments.out, lines)


def write(path: Path, lines: list[str]) -> None:
    """Write the tables into a file: between the marks, if it has them, else in place of all."""
    text = '\n'.join(lines) + '\n'
    old = path.read_text(encoding='utf-8') if path.exists() else ''
    if _BEGIN in old and _END in old:
        before, rest = old.split(_BEGIN, 1)
        text = f'{before}{_BEGIN}\n\n{text}\n{_END}{rest.split(_END, 1)[1]}'
    path.write_text(text, encoding='utf-8')


def _whisper(folder: str | None) -> Callable[[], Transcriber] | None:
    return baseline(lambda: whisper(folder)) if folder else None


if __name__ == '__main__':
    main()
