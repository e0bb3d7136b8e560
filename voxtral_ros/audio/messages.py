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
from voxtral_ros.audio.pcm import decode_counting, NATIVE


class PcmInfo(NamedTuple):
    """The part of ros-drivers' AudioInfo that decoding needs; the defaults when none came."""

    channels: int = 1
    sample_rate: int = 16_000  # Hz
    sample_format: str = 'S16LE'
    coding_format: str = 'wave'


_RAW_CODINGS = ('', 'wave', 'wav', 'raw', 'pcm', 'audio/x-raw')

# PortAudio's sample format flag -> (field of mgonzs13's AudioData, our name for it)
_PORTAUDIO = {
    1: ('float32_data', 'F32' + NATIVE),
    2: ('int32_data', 'S32' + NATIVE),
    8: ('int16_data', 'S16' + NATIVE),
    16: ('int8_data', 'S8'),
    32: ('uint8_data', 'U8'),
}


def from_ros_drivers(msg: Any, info: Any = None, channel: int = -1) -> AudioBlock:
    """
    Decode ros-drivers' AudioDataStamped or AudioData.

    `info` is the latest AudioInfo, a PcmInfo, or None for PcmInfo(): S16LE mono 16 kHz, what
    every consumer of AudioData assumes. A zero stamp and AudioData are unstamped.
    Raise AudioError for compressed audio, an unknown format, a bad rate or a partial frame.
    """
    has_info = info is not None
    info = info if has_info else PcmInfo()
    if info.coding_format.strip().lower() not in _RAW_CODINGS:
        raise AudioError(
            f'the audio topic carries {info.coding_format!r}, only raw PCM can be recognised; '
            'launch audio_capture with format:=wave')
    data = _field(getattr(msg, 'audio', msg), 'data')
    rate_hz = check_rate(info.sample_rate)
    try:
        samples, n_bad = decode_counting(data, info.sample_format, info.channels, channel)
    except AudioError as error:
        if has_info:
            raise
        raise AudioError(
            f'{error} No audio_info was received, so S16LE mono 16 kHz was assumed; '
            'launch audio_capture with format:=wave and remap audio_info') from error
    return _block(samples, rate_hz, msg, n_bad)


def from_mgonzs13(msg: Any, channel: int = -1) -> AudioBlock:
    """
    Decode mgonzs13's AudioStamped, any of its five sample types.

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
    samples, n_bad = decode_counting(values, sample_format, info.channels, channel)
    return _block(samples, rate_hz, msg, n_bad)


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
