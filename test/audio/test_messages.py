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
"""Messages of both audio_common_msgs packages, as rclpy hands them over."""

from __future__ import annotations

import array
from types import SimpleNamespace

import numpy as np
import pytest

from voxtral_ros.audio.block import AudioError
from voxtral_ros.audio.channels import MEAN
from voxtral_ros.audio.messages import Mgonzs13Decoder, PcmInfo, RosDriversDecoder

VALUES = [0, 16384, -32768, 1]
FLOATS = np.array(VALUES, np.float32) / 32768


def from_ros_drivers(message, info=None, channel=MEAN):
    return RosDriversDecoder(channel)(message, info)


def from_mgonzs13(message, channel=MEAN):
    return Mgonzs13Decoder(channel)(message)


def _bytes(data):
    return SimpleNamespace(data=array.array('B', data))


def _header(sec=12, nanosec=345, frame_id='mic'):
    return SimpleNamespace(
        stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id=frame_id)


def _data(values=VALUES, dtype='<i2'):
    return SimpleNamespace(data=array.array('B', np.array(values, dtype).tobytes()))


def _stamped(data=None, **header):
    return SimpleNamespace(header=_header(**header), audio=data or _data())


def _mgonzs13(flag, field, values, channels=1, rate=16_000, **header):
    fields = {
        'float32_data': array.array('f'), 'int32_data': array.array('i'),
        'int16_data': array.array('h'), 'int8_data': array.array('b'),
        'uint8_data': array.array('B')}
    fields[field].extend(values)
    info = SimpleNamespace(format=flag, channels=channels, rate=rate, chunk=512)
    return SimpleNamespace(
        header=_header(**header),
        audio=SimpleNamespace(audio_data=SimpleNamespace(**fields), info=info))


def test_stamped_message_without_info_is_s16le_mono_16_khz():
    block = from_ros_drivers(_stamped())
    np.testing.assert_array_equal(block.samples, FLOATS)
    assert (block.rate_hz, block.stamp_ns, block.frame_id) == (16_000, 12_000_000_345, 'mic')


def test_unstamped_audio_data():
    block = from_ros_drivers(_data())
    np.testing.assert_array_equal(block.samples, FLOATS)
    assert (block.rate_hz, block.stamp_ns, block.frame_id) == (16_000, None, '')


def test_a_zero_stamp_means_unstamped():
    assert from_ros_drivers(_stamped(sec=0, nanosec=0)).stamp_ns is None
    assert from_ros_drivers(_stamped(sec=0, nanosec=1)).stamp_ns == 1
    assert from_mgonzs13(_mgonzs13(8, 'int16_data', VALUES, sec=0, nanosec=0)).stamp_ns is None


def test_info_decides_format_rate_and_channels():
    info = SimpleNamespace(
        channels=2, sample_rate=44_100, sample_format='S32LE', coding_format='WAVE', bitrate=0)
    message = _stamped(_data([2**30, 0, -2**31, 2**30], '<i4'))
    assert from_ros_drivers(message, info).rate_hz == 44_100
    np.testing.assert_array_equal(from_ros_drivers(message, info).samples, [0.25, -0.25])
    np.testing.assert_array_equal(from_ros_drivers(message, info, channel=1).samples, [0, 0.5])


def test_what_is_assumed_without_info_can_be_changed():
    decoder = RosDriversDecoder(assumed=PcmInfo(2, 48_000, 'S16BE'))
    block = decoder(_data([16384, 16384], '>i2'))
    assert (block.rate_hz, *block.samples) == (48_000, 0.5)
    assert decoder(_data(), PcmInfo()).rate_hz == 16_000


@pytest.mark.parametrize('coding', ['', 'wave', 'wav', 'raw', 'audio/x-raw'])
def test_raw_codings_are_accepted(coding):
    assert len(from_ros_drivers(_data(), PcmInfo(coding_format=coding)).samples) == 4


@pytest.mark.parametrize('coding', ['mp3', 'flac', 'opus'])
def test_compressed_audio_names_the_launch_argument_to_change(coding):
    with pytest.raises(AudioError, match=f'carries {coding}.*format:=wave'):
        from_ros_drivers(_stamped(), PcmInfo(coding_format=coding))


@pytest.mark.parametrize('sizes', [(641, 639), (1, 1, 638), (3, 4, 5, 6), (2, 0, 7)])
@pytest.mark.parametrize('channels', [1, 3])
def test_frames_that_are_split_over_messages_are_joined(sizes, channels):
    data = np.arange(sum(sizes) * 50, dtype=np.uint8).tobytes()
    decoder = RosDriversDecoder(0)
    samples, at = [], 0
    for size in sizes * 50:
        samples += list(decoder(_bytes(data[at:at + size]), PcmInfo(channels)).samples)
        at += size
    whole = len(data) - len(data) % (2 * channels)
    expected = np.frombuffer(data[:whole], '<i2').reshape(-1, channels)[:, 0] / 32768
    np.testing.assert_array_equal(samples, expected.astype(np.float32))


@pytest.mark.parametrize('info', [
    PcmInfo(sample_rate=0), PcmInfo(channels=0), PcmInfo(sample_format='XYZ')])
def test_nonsense_in_the_info_is_refused(info):
    with pytest.raises(AudioError):
        from_ros_drivers(_stamped(), info)


def test_an_empty_message_is_an_empty_block():
    assert len(from_ros_drivers(SimpleNamespace(data=array.array('B'))).samples) == 0
    assert len(from_mgonzs13(_mgonzs13(8, 'int16_data', [])).samples) == 0


@pytest.mark.parametrize(('flag', 'field', 'values'), [
    (1, 'float32_data', [0.0, 0.5, -1.0, 0.25]),
    (2, 'int32_data', [0, 2**30, -2**31, 2**29]),
    (8, 'int16_data', [0, 2**14, -2**15, 2**13]),
    (16, 'int8_data', [0, 64, -128, 32]),
    (32, 'uint8_data', [128, 192, 0, 160]),
])
def test_all_five_sample_types_of_mgonzs13(flag, field, values):
    block = from_mgonzs13(_mgonzs13(flag, field, values, rate=48_000))
    np.testing.assert_array_equal(block.samples, [0, 0.5, -1, 0.25])
    assert (block.rate_hz, block.stamp_ns, block.frame_id) == (48_000, 12_000_000_345, 'mic')


def test_channels_of_mgonzs13():
    message = _mgonzs13(8, 'int16_data', VALUES, channels=2)
    np.testing.assert_array_equal(from_mgonzs13(message).samples, [0.25, (1 - 32768) / 65536])
    np.testing.assert_array_equal(from_mgonzs13(message, channel=1).samples, FLOATS[1::2])


def test_nan_in_a_message_is_counted():
    block = from_mgonzs13(_mgonzs13(1, 'float32_data', [0.5, float('nan')]))
    np.testing.assert_array_equal(block.samples, [0.5, 0])
    assert block.n_bad == 1


@pytest.mark.parametrize('flag', [0, 4, 64, -2**31 + 8])
def test_an_unknown_portaudio_flag_is_refused(flag):
    with pytest.raises(AudioError, match=f'format {flag} '):
        from_mgonzs13(_mgonzs13(flag, 'int16_data', VALUES))


def test_samples_in_another_field_than_announced_are_refused():
    with pytest.raises(AudioError, match=r'announces float32_data.*fills int16_data'):
        from_mgonzs13(_mgonzs13(1, 'int16_data', VALUES))


@pytest.mark.parametrize('decode', [from_ros_drivers, from_mgonzs13])
def test_a_message_of_another_type_is_refused(decode):
    with pytest.raises(AudioError, match='SimpleNamespace has no field'):
        decode(SimpleNamespace(text='hello'))


def test_the_other_package_on_the_topic_is_refused():
    with pytest.raises(AudioError, match="no field 'audio_data'"):
        from_mgonzs13(_stamped())
    with pytest.raises(AudioError, match="no field 'data'"):
        from_ros_drivers(_mgonzs13(8, 'int16_data', VALUES))
