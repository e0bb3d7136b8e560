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
"""Audio files and raw streams, read block by block and never whole."""

from __future__ import annotations

from collections.abc import Iterator
import logging
import os
from pathlib import Path
from typing import Any, BinaryIO

import soundfile

from voxtral_ros.audio.block import AudioBlock, AudioError, check_rate, samples_to_ns
from voxtral_ros.audio.channels import AUTOMATIC, Downmix
from voxtral_ros.audio.pcm import decode, frame_bytes, sanitize
from voxtral_ros.audio.signature import container

_log = logging.getLogger(__name__)


def read_file(
        path: str | Path, block_s: float = 0.5,
        channel: int | str = AUTOMATIC) -> Iterator[AudioBlock]:
    """
    Open any file that libsndfile reads and return its blocks of `block_s` s at its own rate.

    Stamps count from 0 at the start of the file. `channel` is as in Downmix.
    A damaged or truncated file yields what can be read, less the block in which the damage
    lies, then ends with a logged warning (none for a short WAV, whose header libsndfile mends).
    Samples that are NaN or the like are 0, counted in each block, and logged once, at the end.

    Raise AudioError at once for a missing, empty or unreadable file or a wrong channel, and
    while reading when not even the first block can be decoded.
    """
    audio_file = _open(path)
    try:
        rate_hz = check_rate(audio_file.samplerate)
        downmix = Downmix(channel)
        downmix.check(audio_file.channels)
    except AudioError as error:
        audio_file.close()
        raise AudioError(f'{path}: {error}') from None
    return _blocks(audio_file, path, rate_hz, max(1, round(block_s * rate_hz)), downmix)


def file_duration_s(path: str | Path) -> float:
    """
    Return the length of an audio file in seconds, as its header says.

    Raise AudioError for a missing, empty or unreadable file.
    """
    with _open(path) as audio_file:
        return float(audio_file.frames / audio_file.samplerate)


def read_raw(
        stream: BinaryIO, rate_hz: int, sample_format: str = 'S16LE', channels: int = 1,
        block_s: float = 0.08, channel: int | str = AUTOMATIC) -> Iterator[AudioBlock]:
    """
    Return blocks of the headerless PCM in a blocking byte stream, stdin for example.

    Stamps count from 0 at the first byte. A partial frame at the end is dropped with a logged
    warning; bad samples are as in `read_file`. Raise AudioError at once for a bad rate, format or
    channel, and while reading when the stream holds no sample, or starts like a WAV, FLAC, Ogg or
    MP3 file.
    """
    check_rate(rate_hz)
    n_bytes = frame_bytes(sample_format, channels)
    downmix = Downmix(channel)
    downmix.check(channels)
    return _raw_blocks(
        stream, rate_hz, sample_format, channels, downmix,
        n_bytes, n_bytes * max(1, round(block_s * rate_hz)))


def _open(path: str | Path) -> Any:
    """Open `path` for reading, or raise AudioError with the one reason that fits."""
    file = Path(path)
    if not file.exists():
        raise AudioError(f'{path}: no such file')
    if file.is_dir():
        raise AudioError(f'{path}: is a directory, not an audio file')
    if file.is_file() and file.stat().st_size == 0:
        raise AudioError(f'{path}: the file is empty (0 bytes)')
    try:
        audio_file = soundfile.SoundFile(os.fsencode(file))  # a name need not be UTF-8
    except TypeError:  # soundfile wants the layout of .raw spelled out
        raise AudioError(
            f'{path}: raw samples have no header; pipe them in and say their rate') from None
    except (RuntimeError, OSError) as error:
        raise AudioError(
            f'{path}: not an audio file that libsndfile can read ({_reason(error)}); '
            'convert it to WAV or FLAC') from error
    if audio_file.frames == 0:
        audio_file.close()
        raise AudioError(f'{path}: the file contains no samples')
    return audio_file


def _reason(error: Exception) -> str:
    """Return libsndfile's own words without soundfile's repetition of the path."""
    return str(getattr(error, 'error_string', error)).strip().rstrip('.')


def _blocks(
        audio_file: Any, path: str | Path, rate_hz: int, block_frames: int,
        downmix: Downmix) -> Iterator[AudioBlock]:
    done = 0
    bad = _BadSamples(str(path))
    with audio_file, bad:
        while True:
            try:
                frames = audio_file.read(block_frames, dtype='float32', always_2d=True)  # [n, c]
            except (RuntimeError, OSError) as error:
                if not done:
                    raise AudioError(
                        f'{path}: damaged, nothing could be decoded ({_reason(error)})'
                    ) from error
                _log.warning(
                    '%s: damaged after %.2f s (%s)', path, done / rate_hz, _reason(error))
                return
            if len(frames) == 0:
                break
            frames, n_bad = sanitize(frames)
            bad.count(n_bad, frames.size, done / rate_hz)
            yield AudioBlock(
                downmix(frames, rate_hz), rate_hz, samples_to_ns(done, rate_hz), n_bad=n_bad)
            done += len(frames)
        if not done:
            raise AudioError(f'{path}: damaged, nothing could be decoded')
        if done < audio_file.frames:
            _log.warning(
                '%s: truncated, ends after %.2f s of %.2f s',
                path, done / rate_hz, audio_file.frames / rate_hz)


class _BadSamples:
    """Counts what had to be replaced by silence, and says so once, when reading ends."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._n_bad = self._n_samples = 0
        self._first_s = 0.0

    def __enter__(self) -> _BadSamples:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._n_bad:
            _log.warning(
                '%s: %d of %d samples, from %.2f s on, were NaN, infinite or absurdly large and '
                'count as silence: look at the program that wrote them',
                self._name, self._n_bad, self._n_samples, self._first_s)

    def count(self, n_bad: int, n_samples: int, start_s: float) -> None:
        """Take a block into account; samples of all channels count."""
        if n_bad and not self._n_bad:
            self._first_s = start_s
        self._n_bad += n_bad
        self._n_samples += n_samples


def _raw_blocks(
        stream: BinaryIO, rate_hz: int, sample_format: str, channels: int, downmix: Downmix,
        n_bytes: int, block_bytes: int) -> Iterator[AudioBlock]:
    done = 0
    rest = b''
    with _BadSamples('the raw audio stream') as bad:
        while True:
            data = stream.read(block_bytes - len(rest))
            if not data:
                break
            data = rest + data  # a pipe may cut anywhere, also inside a frame
            if not done:
                _refuse_container(data)
            whole = len(data) - len(data) % n_bytes
            data, rest = data[:whole], data[whole:]
            if not data:
                continue
            frames, n_bad = decode(data, sample_format, channels)
            bad.count(n_bad, frames.size, done / rate_hz)
            samples = downmix(frames, rate_hz)
            yield AudioBlock(samples, rate_hz, samples_to_ns(done, rate_hz), n_bad=n_bad)
            done += len(samples)
    if not done:
        raise AudioError(
            f'the raw audio stream ended after {len(rest)} bytes, before the first sample')
    if rest:
        _log.warning('the raw audio stream ended inside a frame, %d bytes dropped', len(rest))


def _refuse_container(data: bytes) -> None:
    name = container(data)
    if name:
        raise AudioError(
            f'this stream is a {name} file, not raw samples; give the file by name instead')
