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
"""Raw PCM to float32 mono: every format, channels, damage."""

from __future__ import annotations

import array
import struct
import warnings

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from voxtral_ros.audio.block import AudioError
from voxtral_ros.audio.channels import Downmix, MEAN
from voxtral_ros.audio.pcm import decode, encode_pcm16, FORMATS, LOUDEST, sanitize

# Four values that every format can represent: silence, half, full negative, minus a quarter.
VALUES = [0.0, 0.5, -1.0, -0.25]


def counted(data, name, channels, channel=MEAN):
    frames, n_bad = decode(data, name, channels)
    return Downmix(channel)(frames, 16_000), n_bad


def mono(*arguments):
    return counted(*arguments)[0]


def _pack24(values: list[float]) -> bytes:
    return b''.join(struct.pack('<i', round(v * 2**23))[:3] for v in values)


def _pack(code: str, scale: int, offset: int = 0) -> bytes:
    values = [round(v * scale) + offset if scale > 1 else v for v in VALUES]
    return struct.pack(f'{code[0]}4{code[1]}', *values)


ENCODED = {
    'S8': _pack('<b', 2**7),
    'U8': _pack('<B', 2**7, 2**7),
    'S16LE': _pack('<h', 2**15),
    'S16BE': _pack('>h', 2**15),
    'S24LE': _pack24(VALUES),
    # the top byte is undefined in this format: fill it with rubbish
    'S24_32LE': b''.join(_pack24([v]) + b'\xa5' for v in VALUES),
    'S32LE': _pack('<i', 2**31),
    'S32BE': _pack('>i', 2**31),
    'F32LE': _pack('<f', 1),
    'F32BE': _pack('>f', 1),
    'F64LE': _pack('<d', 1),
}


def test_every_format_is_tested():
    assert set(ENCODED) == set(FORMATS)


@pytest.mark.parametrize('name', ENCODED)
def test_known_values_in_every_format(name):
    samples = mono(ENCODED[name], name, 1)
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples, np.float32(VALUES))


@pytest.mark.parametrize('name', ENCODED)
def test_two_channels_pick_and_mean_in_every_format(name):
    left_right = np.float32(VALUES).reshape(2, 2)
    np.testing.assert_array_equal(mono(ENCODED[name], name, 2, 0), left_right[:, 0])
    np.testing.assert_array_equal(mono(ENCODED[name], name, 2, 1), left_right[:, 1])
    np.testing.assert_array_equal(mono(ENCODED[name], name, 2), left_right.mean(axis=1))


def test_full_scale_of_pcm16():
    data = np.array([32767, -32768, 1], '<i2')
    np.testing.assert_array_equal(
        mono(data, 'S16LE', 1), np.float32([32767 / 32768, -1, 1 / 32768]))


def test_16_bits_come_back_as_they_were_and_louder_ones_are_clipped():
    every = np.arange(-32768, 32768).astype('<i2')
    frames, _ = decode(every.tobytes(), 'S16LE', 1)
    assert encode_pcm16(frames[:, 0]).tobytes() == every.tobytes()
    assert encode_pcm16(np.array([1.0, 3.0, -3.0], np.float32)).tolist() == [32767, 32767, -32768]


def test_format_names_ignore_case_and_spaces():
    np.testing.assert_array_equal(mono(b'\0\x40', ' s16le', 1), [0.5])


PCM16 = [0, 100, -100, 32767, -32768, 5]


@pytest.mark.parametrize('data', [
    struct.pack('<6h', *PCM16),
    bytearray(struct.pack('<6h', *PCM16)),
    memoryview(struct.pack('<6h', *PCM16)),
    memoryview(b'x' + struct.pack('<6h', *PCM16))[1:],  # not aligned
    array.array('h', PCM16),
    array.array('B', struct.pack('<6h', *PCM16)),
    np.array(PCM16, np.int16),
    np.array(PCM16, np.int16).reshape(3, 2),
    np.repeat(np.array(PCM16, np.int16), 2)[::2],  # not contiguous
], ids=['bytes', 'bytearray', 'memoryview', 'unaligned', 'array_h', 'array_B', 'ndarray',
        'ndarray_2d', 'strided'])
def test_every_kind_of_buffer(data):
    np.testing.assert_array_equal(
        mono(data, 'S16LE', 1), np.array(PCM16, np.float32) / 32768)


@pytest.mark.parametrize('name', ['S16LE', 'F32LE'])
@pytest.mark.parametrize('channel', [-1, 0, 1])
def test_result_is_contiguous_writable_and_owns_its_memory(name, channel):
    data = bytearray(ENCODED[name])
    before = mono(data, name, 2, channel)
    assert before.flags.c_contiguous and before.flags.writeable
    kept = before.copy()
    data[:] = bytes(len(data))
    np.testing.assert_array_equal(before, kept)


@pytest.mark.parametrize('name', ENCODED)
@pytest.mark.parametrize('empty', [b'', array.array('h'), np.zeros(0, np.float32)])
def test_an_empty_message_is_no_samples_and_no_error(name, empty):
    assert mono(empty, name, 2).shape == (0,)


@pytest.mark.parametrize(('name', 'channels', 'n_bytes'), [
    ('S16LE', 1, 3), ('S16LE', 2, 6), ('S24LE', 1, 4), ('F64LE', 1, 12), ('U8', 3, 4)])
def test_partial_frames_are_refused(name, channels, n_bytes):
    with pytest.raises(AudioError, match=f'{n_bytes} bytes are not a whole number'):
        mono(bytes(n_bytes), name, channels)


@pytest.mark.parametrize(('channels', 'channel'), [(1, 1), (2, 2), (2, -3)])
def test_a_channel_that_is_not_there_is_refused(channels, channel):
    with pytest.raises(AudioError, match=f'no channel {channel}: the audio has {channels}'):
        mono(bytes(4), 'S16LE', channels, channel)


@pytest.mark.parametrize('channels', [0, -1])
def test_no_channels_at_all_is_refused(channels):
    with pytest.raises(AudioError, match='channels is not audio'):
        mono(b'', 'S16LE', channels)


@pytest.mark.parametrize('name', ['mp3', '', 'S20LE', 'S16'])
def test_an_unknown_format_is_refused_with_the_list_of_known_ones(name):
    with pytest.raises(AudioError, match='S24_32LE'):
        mono(b'', name, 1)


@pytest.mark.parametrize('data', ['text', [1, 2], None, 7, np.array([object()])])
def test_what_is_no_buffer_is_refused(data):
    with pytest.raises(AudioError, match='expected bytes'):
        mono(data, 'S16LE', 1)


@pytest.mark.parametrize(('name', 'dtype'), [('F32LE', '<f4'), ('F32BE', '>f4'), ('F64LE', '<f8')])
def test_nan_inf_and_absurd_values_become_silence_and_are_counted(name, dtype):
    data = np.array([0.5, np.nan, np.inf, -np.inf, 1e30, -1.5, LOUDEST], dtype)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        samples, n_bad = counted(data, name, 1)
    np.testing.assert_array_equal(samples, [0.5, 0, 0, 0, 0, -1.5, LOUDEST])
    assert n_bad == 4


def test_one_broken_channel_does_not_silence_the_mean():
    data = np.array([[0.5, np.nan], [0.25, 0.75]], '<f4')
    samples, n_bad = counted(data, 'F32LE', 2)
    np.testing.assert_array_equal(samples, [0.25, 0.5])
    assert n_bad == 1


def test_a_double_too_large_for_float32_warns_nobody():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        samples, n_bad = counted(np.array([1e300, 0.5]), 'F64LE', 1)
    np.testing.assert_array_equal(samples, [0, 0.5])
    assert n_bad == 1


def test_sanitize_does_not_copy_what_is_clean():
    clean = np.array([1.5, -1.0], np.float32)
    samples, n_bad = sanitize(clean)
    assert samples is clean and n_bad == 0


def test_sanitize_leaves_its_argument_alone():
    dirty = np.array([np.nan, 1.0], np.float32)
    samples, n_bad = sanitize(dirty)
    assert np.isnan(dirty[0]) and n_bad == 1
    np.testing.assert_array_equal(samples, [0, 1])


@given(st.binary(max_size=240), st.sampled_from(sorted(FORMATS)), st.integers(1, 4), st.data())
def test_any_bytes_give_finite_mono_or_an_audio_error(data, name, channels, draw):
    channel = draw.draw(st.integers(-2, channels - 1))
    frame = FORMATS[name].itemsize * channels
    if len(data) % frame:
        with pytest.raises(AudioError):
            mono(data, name, channels, channel)
        return
    samples = mono(data, name, channels, channel)
    assert samples.shape == (len(data) // frame,) and samples.dtype == np.float32
    assert np.isfinite(samples).all()
    if not name.startswith('F'):
        assert (np.abs(samples) <= 1).all()
