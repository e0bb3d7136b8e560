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

"""Print what is said in audio files, or in raw samples on standard input, word by word."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
import json
import math
from pathlib import Path
import sys
import time
from typing import Any, TYPE_CHECKING

import numpy as np

from voxtral_ros.audio.arrays import ARRAYS, parse_channel
from voxtral_ros.audio.block import AudioBlock, AudioError
from voxtral_ros.audio.files import file_duration_s, read_file, read_raw
from voxtral_ros.audio.resample import resampled, TARGET_RATE_HZ
from voxtral_ros.cli.display import Display
from voxtral_ros.cli.options import add_no_verify, add_phrases, read_phrases
from voxtral_ros.recognizer.events import Event, Transcript
from voxtral_ros.recognizer.interface import NotFinite, ServerAway
from voxtral_ros.resources import demo_model

if TYPE_CHECKING:
    from voxtral_ros.recognizer.phrases import PhraseList
    from voxtral_ros.recognizer.slot import Token


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `voxtral transcribe`."""
    parser.add_argument('audio', nargs='+', metavar='AUDIO',
                        help='audio file of any kind, rate and channel count; - is standard input')
    parser.add_argument('--model', type=Path, metavar='DIR',
                        help='folder with params.json, tekken.json, consolidated.safetensors '
                             '[the small demo model of the package]')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N [auto]')
    parser.add_argument('--dtype', choices=('float32', 'bfloat16', 'float16'),
                        help='type of the weights in memory [float32 on the CPU, else as in file]')
    add_no_verify(parser)
    parser.add_argument('--url', metavar='URL',
                        help='address of a voxtral or vLLM server to be used instead of a model, '
                             'as in ws://host:8000/v1/realtime; several, apart by commas: the '
                             'first that is well')
    parser.add_argument('--server-model', default='', metavar='NAME',
                        help='name to ask the server for, or its last part [the one it has]')
    parser.add_argument('--token-file', type=Path, metavar='FILE',
                        help='file whose first line is the bearer token of the server')
    parser.add_argument('--delay-ms', type=float, metavar='MS',
                        help='how far the text lags behind the audio: 80 to 1200 in steps of '
                             '80, or 2400 [as the model says, 480]')
    add_phrases(parser)
    parser.add_argument('--channel', type=_channel, default=-1, metavar='N',
                        help='channel to take, counted from 0; -1 chooses, -2 mixes all; or the '
                             f'name of an array: {", ".join(ARRAYS)} [-1]')
    parser.add_argument('--rate', type=int, metavar='HZ',
                        help='sample rate of standard input, which is raw mono s16le')
    parser.add_argument('--json', action='store_true',
                        help='print one JSON object per file instead of the text')
    parser.add_argument('--labels', type=Path, metavar='FILE.txt',
                        help='write when each utterance begins and ends, and its text, for '
                             'Audacity (File, Import, Labels); of one file')
    parser.add_argument('--plot', type=Path, metavar='FILE.png',
                        help='draw audio, tokens and words over time; of one file')


def _channel(text: str) -> int | str:
    try:
        return parse_channel(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


@dataclass
class Result:
    """What `--json` prints of one file."""

    file: str
    text: str = ''
    token_ids: list[int] = field(default_factory=list)
    words: list[dict[str, Any]] = field(default_factory=list)
    utterances: list[dict[str, Any]] = field(default_factory=list)
    audio_s: float = 0.0
    compute_s: float = 0.0

    def add(self, event: Event) -> None:
        """Keep what final transcripts say."""
        if isinstance(event, Transcript) and event.is_final:
            self.text = f'{self.text} {event.text}'.strip()
            self.words += [asdict(word) for word in event.words]
            confidence = None if math.isnan(event.confidence) else event.confidence
            self.utterances.append({
                'text': event.text, 'start_s': event.start_s, 'end_s': event.end_s,
                'confidence': confidence})


def run(arguments: argparse.Namespace) -> int:
    """
    Transcribe all files.

    Returns 2 when the model or any of the files could not be used, 1 when the model computes no
    numbers.
    """
    for option in ('plot', 'labels'):
        if getattr(arguments, option) and len(arguments.audio) > 1:
            return _complain(f'--{option} is of one file; give one')
    if arguments.url and (arguments.plot or arguments.model):
        return _complain('with --url the model is on the server: leave out --model and --plot')
    try:
        phrases = read_phrases(arguments)
        engine = _engine(arguments)
    except (ValueError, FileNotFoundError) as error:
        return _complain(str(error))
    code = 0
    for name in arguments.audio:
        try:
            _transcribe(engine, name, phrases, arguments)
        except AudioError as error:
            code = _complain(str(error))
        except (NotFinite, ServerAway) as error:  # as it will be with the other files
            _complain(str(error))
            return 1
        except BrokenPipeError:  # `voxtral transcribe ... | head`
            sys.stderr.close()
            return 0
        except OSError as error:  # of --labels or --plot
            code = _complain(f'{error.filename}: {error.strerror}')
    return code


def _engine(arguments: argparse.Namespace) -> Any:
    """
    Return the recogniser: a model here, or a server.

    :raises ValueError, FileNotFoundError: it cannot be used
    """
    # Not at the top: `voxtral --help` needs none of it, and who has a server no model.
    if arguments.url:
        from voxtral_ros.cli.remote import PatientEngine
        return PatientEngine(arguments.url, arguments.server_model, arguments.token_file)
    from voxtral_ros.recognizer.engine import Engine
    engine = Engine.load(arguments.model or demo_model(), arguments.device, arguments.dtype,
                         verify=arguments.verify)
    engine.protocol.delay_tokens(arguments.delay_ms)
    return engine


def _transcribe(engine: Any, name: str, phrases: PhraseList | None,
                arguments: argparse.Namespace) -> None:
    from voxtral_ros.recognizer.options import offline_options
    blocks, duration_s = _open(name, arguments)
    result = Result(name)
    tokens: list[Token] = []
    fed: list[np.ndarray] = []
    stream = engine.open(arguments.delay_ms, offline_options(tokens.append), phrases=phrases)
    title = name if len(arguments.audio) > 1 else ''
    with Display(title, duration_s, quiet=arguments.json) as display:
        try:
            for samples in resampled(blocks):
                if arguments.plot:
                    fed.append(samples)
                result.audio_s += len(samples) / TARGET_RATE_HZ
                before = time.perf_counter()
                stream.feed(samples, finite=True)
                events = stream.poll()
                result.compute_s += time.perf_counter() - before
                _show(events, result, display)
                display.advance(result.audio_s)
            before = time.perf_counter()
            events = stream.close()
            result.compute_s += time.perf_counter() - before
            _show(events, result, display)
        finally:
            stream.abandon()
    result.token_ids = [token.id for token in tokens]
    if arguments.json:
        print(_json(asdict(result)), flush=True)
    if arguments.labels:
        _write_labels(arguments.labels, result)
    if arguments.plot:
        from voxtral_ros.cli.plot import draw
        delay = engine.protocol.delay_tokens(arguments.delay_ms)
        draw(arguments.plot, engine, delay, np.concatenate(fed), tokens, result)


def _open(name: str, arguments: argparse.Namespace) -> tuple[Iterator[AudioBlock], float | None]:
    """Return the blocks of a file and its length in seconds, None when unknown."""
    if name != '-':
        return read_file(name, channel=arguments.channel), file_duration_s(name)
    if not arguments.rate:
        raise AudioError('standard input is raw samples without a rate: add --rate HZ')
    return read_raw(sys.stdin.buffer, arguments.rate), None


def _show(events: list[Event], result: Result, display: Display) -> None:
    for event in events:
        result.add(event)
        if isinstance(event, Transcript):
            display.show(event)


def _write_labels(path: Path, result: Result) -> None:
    """Write a label track: start and end in seconds and the text, apart by tabs."""
    path.write_text(''.join(
        f'{part["start_s"]:.3f}\t{part["end_s"]:.3f}\t{part["text"]}\n'
        for part in result.utterances), encoding='utf-8')


def _json(value: Any) -> str:
    """Return JSON that standard output can take: escaped where a name or its encoding needs it."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or 'utf-8')
    except UnicodeEncodeError:
        return json.dumps(value)
    return text


def _complain(message: str) -> int:
    print(f'voxtral transcribe: {message}', file=sys.stderr)
    return 2
