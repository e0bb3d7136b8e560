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

"""Measure the word error rate of a model on recordings with known texts."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
import json
from pathlib import Path
import random
import re
import sys
import time
from typing import Any, NamedTuple, TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from voxtral_ros.audio.block import AudioError
from voxtral_ros.audio.files import read_file
from voxtral_ros.audio.resample import resampled, TARGET_RATE_HZ
from voxtral_ros.recognizer.events import Event, Transcript
from voxtral_ros.resources import demo_model

if TYPE_CHECKING:
    from voxtral_ros.recognizer.engine import Engine
    from voxtral_ros.recognizer.stream import Stream

_RESAMPLES = 2000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `voxtral evaluate`."""
    parser.add_argument('--manifest', required=True, type=Path, metavar='TSV',
                        help='table with a header and the columns file and text; paths are '
                             'relative to it')
    parser.add_argument('--model', type=Path, metavar='DIR',
                        help='checkpoint folder [the small demo model of the package]')
    parser.add_argument('--only', default='', metavar='PREFIX',
                        help='take only files whose name starts so')
    parser.add_argument('--by', metavar='COLUMN',
                        help='also a word error rate for each value of this column, as a speaker '
                             'or a microphone')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N [auto]')
    parser.add_argument('--dtype', choices=('float32', 'bfloat16', 'float16'))
    parser.add_argument('--delay-ms', type=float, metavar='MS')
    parser.add_argument('--streams', type=int, default=1, metavar='N',
                        help='recordings that are heard side by side [1]')
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    parser.add_argument('--texts', type=Path, metavar='FILE.tsv',
                        help='write file, reference and transcript of every recording')


class Recording(NamedTuple):
    """A line of the manifest."""

    path: Path
    text: str
    kind: str  # in the column of --by


class Score(NamedTuple):
    """One recording."""

    file: str
    reference: str
    transcript: str
    errors: int
    n_words: int
    kind: str = ''


def normalise(text: str) -> list[str]:
    """Return the words of a text, lower case, without punctuation."""
    return re.sub(r"[^\w\s']", ' ', text.lower()).split()


def word_errors(reference: list[str], transcript: list[str]) -> int:
    """Return how many words are wrong, missing or too many: the edit distance."""
    row = list(range(len(transcript) + 1))
    for i, word in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(transcript, 1):
            diagonal, row[j] = row[j], min(
                row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1]


def interval(scores: list[Score], seed: int = 0) -> tuple[float, float]:
    """Return the 95 % confidence interval of the word error rate, by bootstrap over recordings."""
    if not scores:
        return float('nan'), float('nan')
    counts = np.array([(score.errors, score.n_words) for score in scores], float)
    pick = np.random.default_rng(seed).integers(0, len(counts), (_RESAMPLES, len(counts)))
    errors, words = counts[pick].sum(1).T
    low, high = np.percentile(errors / np.maximum(words, 1), (2.5, 97.5))
    return float(low), float(high)


def error_rate(scores: list[Score]) -> tuple[float, float, float]:
    """Return the word error rate and its 95 % confidence interval."""
    n_words = sum(score.n_words for score in scores)
    return sum(score.errors for score in scores) / max(1, n_words), *interval(scores)


def summary(scores: list[Score]) -> dict[str, Any]:
    """Return recordings, words, word error rate and its 95 % confidence interval."""
    rate, *limits = error_rate(scores)
    return {'recordings': len(scores), 'words': sum(score.n_words for score in scores),
            'word_error_rate': rate, 'interval_95': limits}


def run(arguments: argparse.Namespace) -> int:
    """Transcribe all recordings and print the table; return 2 when something cannot be read."""
    from voxtral_ros.recognizer.engine import Engine
    try:
        rows = _read_manifest(arguments.manifest, arguments.only, arguments.by)
        engine = Engine.load(arguments.model or demo_model(), arguments.device, arguments.dtype,
                             max_streams=arguments.streams)
        delay = engine.protocol.delay_tokens(arguments.delay_ms)
    except (ValueError, OSError) as error:
        print(f'voxtral evaluate: {error}', file=sys.stderr)
        return 2
    begin = time.perf_counter()
    scores, audio_s = _transcribe(engine, rows, arguments)
    compute_s = time.perf_counter() - begin
    if not scores:
        return 2
    result = {
        **summary(scores), 'delay_ms': delay * engine.protocol.token_ms,
        'audio_s': audio_s, 'compute_s': compute_s,
        'real_time_factor': compute_s / max(audio_s, 1e-9)}
    if arguments.by:
        result['by'] = {kind: summary([score for score in scores if score.kind == kind])
                        for kind in sorted({score.kind for score in scores})}
    if arguments.texts:
        lines = ['file\ttext\ttranscript']
        lines += [f'{score.file}\t{score.reference}\t{score.transcript}' for score in scores]
        arguments.texts.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    if arguments.json:
        print(json.dumps(result))
    else:
        for kind, part in result.get('by', {}).items():
            print(f'{arguments.by} {kind}: {part["recordings"]} recordings, '
                  f'{part["words"]} words: {_percent(part)}')
        print(f'{result["recordings"]} recordings, {result["words"]} words, {audio_s:.0f} s: '
              f'{_percent(result)}, delay {result["delay_ms"]:.0f} ms, '
              f'real-time factor {result["real_time_factor"]:.3f}')
    return 0 if len(scores) == len(rows) else 2


def _percent(result: dict[str, Any]) -> str:
    low, high = result['interval_95']
    return (f'word error rate {100 * result["word_error_rate"]:.1f} % '
            f'({100 * low:.1f} to {100 * high:.1f})')


def _read_manifest(path: Path, prefix: str, by: str | None) -> list[Recording]:
    lines = [line.split('\t') for line in path.read_text(encoding='utf-8').splitlines()]
    wanted = ['file', 'text', *([by] if by else [])]
    if not lines or not {*wanted} <= {*lines[0]}:
        raise ValueError(f'{path} needs a first line with the columns {", ".join(wanted)}')
    columns = [lines[0].index(name) for name in wanted]
    rows = []
    for number, line in enumerate(lines[1:], 2):
        if line == ['']:
            continue
        if len(line) <= max(columns):
            raise ValueError(f'{path}, line {number}: {len(line)} columns, the first line has '
                             f'{len(lines[0])}; they are separated by tabs')
        file, text, *kind = (line[column] for column in columns)
        if Path(file).name.startswith(prefix):
            rows.append(Recording(path.parent / file, text, *(kind or [''])))
    if not rows:
        raise ValueError(f'{path} names no recording that starts with {prefix!r}')
    random.Random(0).shuffle(rows)
    return rows


def _transcribe(engine: Engine, rows: list[Recording], arguments: argparse.Namespace,
                ) -> tuple[list[Score], float]:
    """Return a score for each recording that can be read, and how long they are in all."""
    scores, audio_s = [], 0.0
    progress = tqdm(total=len(rows), unit='recording', disable=not sys.stderr.isatty())
    for at in range(0, len(rows), arguments.streams):
        heard = []
        for recording in rows[at:at + arguments.streams]:
            stream = engine.open(arguments.delay_ms)
            try:
                audio_s += _feed(stream, recording.path)
            except AudioError as error:
                print(f'voxtral evaluate: {error}; not counted', file=sys.stderr)
                stream.close()
                progress.update()
                continue
            stream.flush()
            heard.append((stream, recording))
        for stream, (path, text, kind) in heard:
            transcript = _text(stream.poll() + stream.close())
            words = normalise(text)
            errors = word_errors(words, normalise(transcript))
            scores.append(Score(path.name, text, transcript, errors, len(words), kind))
            progress.update()
    progress.close()
    return scores, audio_s


def _feed(stream: Stream, path: Path) -> float:
    """Feed a file and return its length in seconds."""
    n_samples = 0
    for samples in resampled(read_file(path)):
        n_samples += len(samples)
        stream.feed(samples)
    return n_samples / TARGET_RATE_HZ


def _text(events: Iterable[Event]) -> str:
    return ' '.join(event.text for event in events
                    if isinstance(event, Transcript) and event.is_final)
