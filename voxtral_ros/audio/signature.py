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

"""Compressed audio and audio files, recognised by their bytes where raw samples are expected."""

from __future__ import annotations

import re

import numpy as np

from voxtral_ros.audio.level import neighbour_correlation

_PIECE = 12 * 1024  # bytes that are searched together: eight of the longest MPEG frames
_LEAST_FRAMES = 6  # chained in a piece: no raw samples have so many by chance
_LEAST_MESSAGES = 3  # in a row that consist of whole frames

_START = (
    (b'RIFF....WAVE', 'WAV'), (b'fLaC', 'FLAC'), (b'OggS\\0', 'Ogg'), (b'ID3[\2-\4]', 'MP3'),
    (b'#!AMR', 'AMR'), (b'\x1aE\xdf\xa3', 'WebM'), (b'....ftyp', 'MP4'), (b'FORM....AIF', 'AIFF'),
    (b'[.]snd', 'AU'), (b'OpusHead', 'Opus'), (b'caff', 'CAF'),
)
_ANY_START = re.compile(b'|'.join(b'(%s)' % magic for magic, _ in _START), re.DOTALL)
_AUDIO = 0.5  # correlation of neighbouring samples that compressed data never has
_ANYWHERE = ((b'OggS\x00', 'Ogg'),)
_SYNC = re.compile(b'\xff[\xe0-\xff]')

# kbit/s by layer (1, 2, 3) for MPEG 1, and by layer for MPEG 2 and 2.5; ISO 11172-3, 13818-3.
_KBITS = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


def container(data: bytes | memoryview) -> str:
    """Return the name of the file format that `data` is the beginning of, '' when of none."""
    found = _ANY_START.match(data)
    return _START[found.lastindex - 1][1] if found and found.lastindex else ''


class CompressedStream:
    """Looks for compressed audio in a stream of messages that ought to be raw samples."""

    def __init__(self) -> None:
        self._found = ''
        self._sticky = False
        self._piece = bytearray()
        self._n_whole = 0

    def look(self, data: bytes | memoryview) -> str:
        """Return what the stream carries, as 'MP3', given its next message; '' for raw samples."""
        name = container(data)
        if name:  # a WAV file may begin raw samples; of the others, more of the same will follow
            self._found, self._sticky = name, name != 'WAV'
            return name
        if self._found == 'WAV':
            self._found = ''
        whole = _whole_frames(data)
        self._n_whole = self._n_whole + 1 if whole else 0
        if self._n_whole >= _LEAST_MESSAGES:
            self._found = whole
        self._piece += data
        if len(self._piece) >= _PIECE:
            self._search(bytes(self._piece))
            self._piece.clear()
        return self._found

    def _search(self, piece: bytes) -> None:
        found = next((name for magic, name in _ANYWHERE if magic in piece), '') or _chained(piece)
        if found or not self._sticky or _is_audio(piece):
            self._found, self._sticky = found, False


def _is_audio(piece: bytes) -> bool:
    """Return whether a piece can only be raw samples: then what was before it has ended."""
    samples = np.frombuffer(piece[:len(piece) // 2 * 2], '<i2').astype(np.float32)
    return neighbour_correlation(samples) > _AUDIO


def _whole_frames(data: bytes | memoryview) -> str:
    """Return the name of the format whose frames fill a message exactly, '' when none does."""
    at, name = 0, ''
    while at < len(data):
        length, name, _ = _frame(data, at)
        if not length:
            return ''
        at += length
    return name if at == len(data) else ''


def _chained(piece: bytes) -> str:
    """Return the name of the format of which a chain of frames is anywhere in a piece."""
    for sync in _SYNC.finditer(piece, 0, len(piece) // 4):
        at = sync.start()
        length, name, kind = _frame(piece, at)
        for n in range(_LEAST_FRAMES):
            if not length:
                break
            if n == _LEAST_FRAMES - 1:
                return name
            at += length
            length, _, kind_here = _frame(piece, at)
            if kind_here != kind:
                break
    return ''


def _frame(data: bytes | memoryview, at: int) -> tuple[int, str, object]:
    """
    Return length, name and kind of the MPEG audio frame at an offset; a length of 0 if none.

    The kind is all of the header that stays the same from frame to frame.
    """
    nothing = 0, '', None
    if at + 6 > len(data) or data[at] != 0xFF or data[at + 1] & 0xE0 != 0xE0:
        return nothing
    second, third = data[at + 1], data[at + 2]
    version, layer = second >> 3 & 3, 4 - (second >> 1 & 3)
    if second & 0xF6 == 0xF0:  # ADTS
        length = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
        if third >> 2 & 15 > 12 or length < 9:
            return nothing
        return length, 'AAC', (second, third, data[at + 3] & 0xF0)
    rate, kbits = third >> 2 & 3, third >> 4
    if version == 1 or layer == 4 or rate == 3 or not 0 < kbits < 15:
        return nothing
    rate_hz, padding = _RATES_HZ[version][rate], third >> 1 & 1
    bits = _KBITS[version == 3, layer][kbits - 1] * 1000
    if layer == 1:
        length = (12 * bits // rate_hz + padding) * 4
    else:
        length = (72 if layer == 3 and version != 3 else 144) * bits // rate_hz + padding
    return length, 'MP3', (second, rate, data[at + 3] & 0xCF)
