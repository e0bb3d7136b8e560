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
Messages of the two `audio_common_msgs` packages to AudioBlocks, without importing ROS.

Both packages use the names AudioData and AudioInfo for different things; see
https://github.com/ros-drivers/audio_common and https://github.com/mgonzs13/audio_common.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from voxtral_ros.audio.block import AudioBlock, AudioError, check_rate
from voxtral_ros.audio.channels import AUTOMATIC, Downmix
from voxtral_ros.audio.pcm import bytes_of, decode, frame_bytes, NATIVE
from voxtral_ros.audio.signature import CompressedStream


class PcmInfo(NamedTuple):
    """The part of ros-drivers' AudioInfo that decoding needs, and what it usually is."""

    channels: int = 1
    sample_rate: int = 16_000  # Hz
    sample_format: str = 'S16LE'
    coding_format: str = 'wave'

    def __str__(self) -> str:
        """Return it in words."""
        return f'{self.sample_format}, {self.channels} ch, {self.sample_rate} Hz'


_RAW_CODINGS = ('', 'wave', 'wav', 'raw', 'pcm', 'audio/x-raw')

# PortAudio's sample format flag -> (field of mgonzs13's AudioData, our name for it)
_PORTAUDIO = {
    1: ('float32_data', 'F32' + NATIVE),
    2: ('int32_data', 'S32' + NATIVE),
    8: ('int16_data', 'S16' + NATIVE),
    16: ('int8_data', 'S8'),
    32: ('uint8_data', 'U8'),
}


class RosDriversDecoder:
    """
    Decodes ros-drivers' AudioDataStamped and AudioData, of one publisher.

    What a message holds of a frame that ends in the next one is kept. A zero stamp and AudioData
    are unstamped.
    """

    def __init__(self, channel: int | str = AUTOMATIC, assumed: PcmInfo | None = None) -> None:
        """Decode `channel`, see Downmix; `assumed` is the format without AudioInfo."""
        self.downmix = Downmix(channel)
        self.format: PcmInfo | None = None  # of the last message
        self._assumed = assumed or PcmInfo()
        self._stream = CompressedStream()
        self._rest = b''

    def __call__(self, msg: Any, info: Any = None) -> AudioBlock:
        """
        Decode a message; `info` is the latest AudioInfo, a PcmInfo, or None.

        Raise AudioError for compressed audio, an unknown format or a bad rate.
        """
        assumed = info is None
        info = self._assumed if assumed else info
        data = bytes_of(_field(getattr(msg, 'audio', msg), 'data'))
        self._refuse_compressed(info, data)
        rate_hz = check_rate(info.sample_rate)
        n_bytes = frame_bytes(info.sample_format, info.channels)
        if self._rest or data.size % n_bytes:
            joined = self._rest + data.tobytes()
            whole = len(joined) - len(joined) % n_bytes
            data, self._rest = bytes_of(joined[:whole]), joined[whole:]
        frames, n_bad = decode(data, info.sample_format, info.channels)
        self.format = PcmInfo(info.channels, rate_hz, info.sample_format)
        return _block(self.downmix(frames, rate_hz), rate_hz, msg, n_bad)

    def _refuse_compressed(self, info: Any, data: Any) -> None:
        coding = info.coding_format.strip()
        found = self._stream.look(memoryview(data))
        if coding.lower() not in _RAW_CODINGS:
            found = found or coding
        elif not found:
            return
        self._rest = b''
        raise AudioError(
            f'the audio topic carries {found}, only raw samples can be recognised: launch '
            'audio_capture with format:=wave, or send the samples without the file around them')


class Mgonzs13Decoder:
    """Decodes mgonzs13's AudioStamped, any of its five sample types."""

    def __init__(self, channel: int | str = AUTOMATIC) -> None:
        """Decode `channel`, see Downmix."""
        self.downmix = Downmix(channel)
        self.format: PcmInfo | None = None  # of the last message

    def __call__(self, msg: Any, info: Any = None) -> AudioBlock:
        """
        Decode a message, which has its format with it.

        Raise AudioError for an unknown format flag, samples in another field than the flag says,
        a bad rate or a partial frame.
        """
        audio = _field(msg, 'audio')
        data, info = _field(audio, 'audio_data'), _field(audio, 'info')
        if info.format not in _PORTAUDIO:
            raise AudioError(
                f'unknown PortAudio sample format {info.format} in the audio message; known are '
                '1 (float32), 2 (int32), 8 (int16), 16 (int8), 32 (uint8)')
        field, sample_format = _PORTAUDIO[info.format]
        values = _field(data, field)
        if len(values) == 0:
            filled = [name for name, _ in _PORTAUDIO.values() if len(getattr(data, name))]
            if filled:
                raise AudioError(
                    f'the audio message announces {field} (format {info.format}) but fills '
                    f'{", ".join(filled)}; correct the format in its publisher')
        rate_hz = check_rate(info.rate)
        frames, n_bad = decode(values, sample_format, info.channels)
        self.format = PcmInfo(info.channels, rate_hz, sample_format)
        return _block(self.downmix(frames, rate_hz), rate_hz, msg, n_bad)


def _block(samples: Any, rate_hz: int, msg: Any, n_bad: int) -> AudioBlock:
    header = getattr(msg, 'header', None)
    if header is None:
        return AudioBlock(samples, rate_hz, None, n_bad=n_bad)
    stamp_ns = header.stamp.sec * 1_000_000_000 + header.stamp.nanosec
    return AudioBlock(samples, rate_hz, stamp_ns or None, header.frame_id, n_bad)


def _field(msg: Any, name: str) -> Any:
    try:
        return getattr(msg, name)
    except AttributeError:
        raise AudioError(
            f'{type(msg).__name__} has no field {name!r}: the message is of another '
            'audio_common_msgs package than expected; check which one is sourced') from None
