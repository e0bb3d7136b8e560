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
"""Raw PCM bytes of any common layout to float32 frames."""

from __future__ import annotations

import array
import sys
from typing import Any, Union

import numpy as np
import numpy.typing as npt

from voxtral_ros.audio.block import AudioError, Samples

Frames = npt.NDArray[np.float32]  # [n, channels], full scale is -1..1

Buffer = Union[bytes, bytearray, memoryview, 'array.array[Any]', npt.NDArray[Any]]

# GStreamer's names (https://gstreamer.freedesktop.org/documentation/audio/audio-format.html).
FORMATS: dict[str, np.dtype[Any]] = {
    'S8': np.dtype('i1'), 'U8': np.dtype('u1'),
    'S16LE': np.dtype('<i2'), 'S16BE': np.dtype('>i2'),
    'S24LE': np.dtype('V3'), 'S24_32LE': np.dtype('<i4'),
    'S32LE': np.dtype('<i4'), 'S32BE': np.dtype('>i4'),
    'F32LE': np.dtype('<f4'), 'F32BE': np.dtype('>f4'), 'F64LE': np.dtype('<f8'),
}

NATIVE = 'LE' if sys.byteorder == 'little' else 'BE'  # S16 + NATIVE is this machine's int16

# Beyond twice the int16 range no float is audio, and squared in a spectrum it would overflow.
LOUDEST = 65536.0


def decode(data: Buffer, sample_format: str, channels: int) -> tuple[Frames, int]:
    """
    Turn interleaved PCM into float32 frames [n, channels]; return them and how many were bad.

    `sample_format` is a name in FORMATS, in any case. Integers are scaled by their full scale
    (PCM16 / 32768), so -1..1; floats are taken as they are, overshoots included. What `sanitize`
    calls bad is 0. Frames of float32 may share the memory of `data`; what Downmix makes of them
    does not.

    Raise AudioError for an unknown format, no channels, or a partial frame.
    """
    name = format_name(sample_format)
    raw = bytes_of(data)
    n_bytes = frame_bytes(name, channels)
    if raw.size % n_bytes:
        raise AudioError(
            f'{raw.size} bytes are not a whole number of {n_bytes}-byte frames '
            f'({channels} x {name}); is this compressed audio, or another format?')
    values = _samples_of(raw, name).reshape(-1, channels)
    if values.dtype.kind == 'f':
        return sanitize(values)
    frames = values.astype(np.float32)
    frames *= 0.5 ** (8 * values.dtype.itemsize - 1)  # full scale
    return frames, 0


def encode_pcm16(samples: Samples) -> npt.NDArray[np.int16]:
    """
    Return float32 samples, -1..1, as 16-bit samples, little-endian; what is louder is clipped.

    What `decode` has made of 16-bit samples comes back as it was.
    """
    return np.asarray(np.clip(np.rint(samples * 32768), -32768, 32767).astype('<i2'))


def format_name(sample_format: str) -> str:
    """Return the name in FORMATS; raise AudioError when there is none such."""
    name = sample_format.strip().upper()
    if name not in FORMATS:
        raise AudioError(
            f'unknown sample format {sample_format!r}; use one of {", ".join(FORMATS)}')
    return name


def frame_bytes(sample_format: str, channels: int) -> int:
    """Return the size of one sample of every channel; raise AudioError when there is none."""
    if channels < 1:
        raise AudioError(f'{channels} channels is not audio; check what the source reports')
    return FORMATS[format_name(sample_format)].itemsize * channels


def sanitize(samples: npt.NDArray[Any]) -> tuple[Samples, int]:
    """
    Return (float32 `samples` with every NaN, infinite or > LOUDEST value 0, number of those).

    One NaN in a KV cache would silence the recogniser for ever. Values beyond -1..1 are kept.
    The array is returned as it is when it is float32 and clean.
    """
    with np.errstate(over='ignore', invalid='ignore'):
        samples = samples.astype(np.float32, copy=False)
        good = np.abs(samples) <= LOUDEST  # false for NaN
    if good.all():
        return samples, 0
    return np.where(good, samples, np.float32(0)), int(good.size - np.count_nonzero(good))


def checked(samples: npt.ArrayLike, finite: bool = False) -> tuple[Samples, int]:
    """
    Check what a stream is fed, one dimension of float, and sanitize it.

    :param finite: the samples have been sanitized before
    :return: as of sanitize
    :raises ValueError: not one-dimensional, or integers
    """
    samples = np.asarray(samples)
    if samples.ndim != 1 or (samples.size and samples.dtype.kind != 'f'):
        raise ValueError(f'samples are {samples.dtype} {samples.shape}, expected one '
                         'dimension of float, -1..1 (16-bit samples divided by 32768)')
    if finite:
        return samples.astype(np.float32, copy=False), 0
    return sanitize(samples)


def bytes_of(data: Buffer) -> npt.NDArray[np.uint8]:
    """View any buffer as uint8 [bytes], copying only what is not contiguous."""
    try:
        if isinstance(data, np.ndarray):
            return np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        return np.frombuffer(data, np.uint8)
    except (TypeError, ValueError) as error:
        raise AudioError(
            f'expected bytes or an array of samples, got {type(data).__name__}: {error}'
        ) from error


def _samples_of(raw: npt.NDArray[np.uint8], name: str) -> npt.NDArray[Any]:
    """Return `raw` as signed integers or floats whose full scale is that of their dtype."""
    if name == 'U8':  # centred at 128: flipping the top bit makes it two's complement
        signed: npt.NDArray[np.uint8] = raw ^ np.uint8(0x80)
        return signed.view(np.int8)
    if name == 'S24LE':  # the three bytes become the upper three of an int32
        wide = np.zeros((raw.size // 3, 4), np.uint8)
        wide[:, 1:] = raw.reshape(-1, 3)
        return wide.reshape(-1).view(np.dtype('<i4'))
    if name == 'S24_32LE':  # the value is in the lower three bytes, the top one is undefined
        shifted: npt.NDArray[Any] = raw.view(np.dtype('<i4')) << 8
        return shifted
    return raw.view(FORMATS[name])
