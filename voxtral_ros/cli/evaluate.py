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
import sys
import time
from typing import Any

from tqdm import tqdm

from voxtral_ros.cli.options import add_kv_cache, add_no_verify, add_phrases, read_phrases
from voxtral_ros.evaluation.confidence import bootstrap, error_rate
from voxtral_ros.evaluation.manifest import checked, ManifestError, read_manifest, Recording
from voxtral_ros.evaluation.phrases import PhraseScorer
from voxtral_ros.evaluation.transcribe import Result, transcribe
from voxtral_ros.evaluation.word_error_rate import count_words, Score, score
from voxtral_ros.recognizer.interface import NotFinite
from voxtral_ros.recognizer.phrases import PhraseList
from voxtral_ros.resources import demo_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `voxtral evaluate`."""
    parser.add_argument('--manifest', required=True, type=Path, metavar='TSV',
                        help='table with a header and the columns file and text; paths are '
                             'relative to it; with a column checked, only lines that have '
                             'something there count')
    parser.add_argument('--model', type=Path, metavar='DIR',
                        help='checkpoint folder [the small demo model of the package]')
    parser.add_argument('--only', default='', metavar='PREFIX',
                        help='take only files whose name starts so')
    parser.add_argument('--by', metavar='COLUMN',
                        help='also a word error rate for each value of this column, as a speaker '
                             'or a microphone')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N [auto]')
    parser.add_argument('--dtype', choices=('float32', 'bfloat16', 'float16'))
    add_kv_cache(parser)
    add_no_verify(parser)
    parser.add_argument('--delay-ms', type=float, metavar='MS')
    add_phrases(parser)
    parser.add_argument('--streams', type=int, default=1, metavar='N',
                        help='recordings to process side by side [1]')
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    parser.add_argument('--texts', type=Path, metavar='FILE.tsv',
                        help='write file, reference and transcript of every recording')


def run(arguments: argparse.Namespace) -> int:
    """Transcribe all recordings and print the table; return 2 when something cannot be read."""
    # Not at the top: `voxtral --help` needs none of it.
    from voxtral_ros.recognizer.engine import Engine
    try:
        phrases = read_phrases(arguments)
        recordings = _recordings(arguments)
        engine = Engine.load(arguments.model or demo_model(), arguments.device, arguments.dtype,
                             max_streams=arguments.streams, verify=arguments.verify,
                             kv_cache=arguments.kv_cache)
        delay = engine.protocol.delay_tokens(arguments.delay_ms)
    except OSError as error:
        print(f'voxtral evaluate: {error.filename or ""} cannot be read: '
              f'{error.strerror or error}', file=sys.stderr)
        return 2
    except ValueError as error:
        print(f'voxtral evaluate: {error}', file=sys.stderr)
        return 2
    begin = time.perf_counter()
    try:
        scores, audio_s = _scores(
            transcribe(engine, recordings, arguments.delay_ms, arguments.streams, phrases),
            len(recordings), arguments.by)
    except NotFinite as error:
        print(f'voxtral evaluate: {error}', file=sys.stderr)
        return 1
    compute_s = time.perf_counter() - begin
    if not scores:
        return 2
    result = {
        **_summary(scores), 'delay_ms': delay * engine.protocol.token_ms,
        'audio_s': audio_s, 'compute_s': compute_s,
        'real_time_factor': compute_s / max(audio_s, 1e-9)}
    if arguments.by:
        result['by'] = {kind: _summary([score for score in scores if score.kind == kind])
                        for kind in sorted({score.kind for score in scores})}
    if phrases:
        result['phrases'] = _phrases(phrases, scores, audio_s)
    if arguments.texts:
        lines = ['file\ttext\ttranscript']
        lines += [f'{score.file}\t{score.reference}\t{score.transcript}' for score in scores]
        arguments.texts.write_text('\n'.join(lines) + '\n', encoding='utf-8',
                                   errors='surrogateescape')
    if arguments.json:
        print(json.dumps(result))
    else:
        _print(result, arguments.by)
    return 0 if len(scores) == len(recordings) else 2


def _recordings(arguments: argparse.Namespace) -> list[Recording]:
    """Return what to transcribe, in random order, so that progress speaks for all of it."""
    columns = ['file', 'text', *([arguments.by] if arguments.by else [])]
    recordings = [recording for recording in read_manifest(arguments.manifest, columns)
                  if recording.path.name.startswith(arguments.only)]
    if not recordings:
        raise ManifestError(f'{arguments.manifest} names no recording that starts with '
                            f'{arguments.only!r}')
    counted = checked(recordings)
    if len(counted) < len(recordings):
        print(f'voxtral evaluate: {len(recordings) - len(counted)} of {len(recordings)} texts are '
              'not checked; not counted', file=sys.stderr)
    random.Random(0).shuffle(counted)
    return counted


def _scores(results: Iterable[Result], total: int, by: str | None) -> tuple[list[Score], float]:
    """Return a score for each recording that can be read, and how long they are in all."""
    scores, audio_s = [], 0.0
    for (path, text, columns), transcript, duration_s, error in tqdm(
            results, total=total, unit='recording', disable=not sys.stderr.isatty()):
        if error:
            print(f'voxtral evaluate: {error}; not counted', file=sys.stderr)
            continue
        scores.append(score(path.name, text, transcript, columns[by] if by else ''))
        audio_s += duration_s
    return scores, audio_s


def _summary(scores: list[Score]) -> dict[str, Any]:
    """Return recordings, words, word error rate and its 95 % confidence interval."""
    rate, *limits = error_rate(scores)
    return {'recordings': len(scores), 'words': count_words(scores), 'word_error_rate': rate,
            'interval_95': limits}


def _phrases(phrases: PhraseList, scores: list[Score], audio_s: float) -> dict[str, Any]:
    """Return how many listed phrases were said, found and inserted, and the errors of the rest."""
    scorer = PhraseScorer(phrase.text for phrase in phrases.phrases)
    parts = [scorer.score(score.reference, score.transcript) for score in scores]
    n_said, n_found, n_inserted, errors, n_words = map(sum, zip(*parts, strict=True))
    return {'listed': len(phrases), 'said': n_said, 'found': n_found,
            'recall_interval_95': bootstrap([part.n_found for part in parts],
                                            [part.n_said for part in parts]),
            'inserted': n_inserted, 'inserted_per_hour': 3600 * n_inserted / max(audio_s, 1e-9),
            'other_words': n_words, 'other_word_error_rate': errors / max(1, n_words)}


def _print(result: dict[str, Any], by: str | None) -> None:
    for kind, part in result.get('by', {}).items():
        print(f'{by} {kind}: {part["recordings"]} recordings, {part["words"]} words: '
              f'{_percent(part)}')
    print(f'{result["recordings"]} recordings, {result["words"]} words, '
          f'{result["audio_s"]:.0f} s: {_percent(result)}, delay {result["delay_ms"]:.0f} ms, '
          f'real-time factor {result["real_time_factor"]:.3f}')
    if 'phrases' in result:
        part = result['phrases']
        low, high = part['recall_interval_95']
        print(f'{part["listed"]} phrases: {part["found"]} of {part["said"]} found '
              f'({100 * low:.1f} to {100 * high:.1f} %), {part["inserted"]} inserted, '
              f'{part["inserted_per_hour"]:.1f} an hour; the other {part["other_words"]} words: '
              f'word error rate {100 * part["other_word_error_rate"]:.1f} %')


def _percent(result: dict[str, Any]) -> str:
    low, high = result['interval_95']
    return (f'word error rate {100 * result["word_error_rate"]:.1f} % '
            f'({100 * low:.1f} to {100 * high:.1f})')
