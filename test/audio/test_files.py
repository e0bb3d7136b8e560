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
"""Files and raw streams: blocks, stamps, and everything that can be wrong with a file."""

from __future__ import annotations

import io
from io import BytesIO
import logging
import os

import numpy as np
import pytest
import soundfile

from voxtral_ros.audio.block import AudioError
from voxtral_ros.audio.files import file_duration_s, read_file, read_raw


def _tone(n: int = 24_000, rate_hz: int = 16_000) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(n) / rate_hz)).astype(np.float32)


def _join(blocks) -> np.ndarray:
    return np.concatenate([block.samples for block in blocks])


@pytest.mark.parametrize(('suffix', 'tolerance'), [
    ('wav', 1e-4), ('flac', 1e-4), ('ogg', 0.05), ('aiff', 1e-4)])
@pytest.mark.parametrize('rate_hz', [8_000, 44_100])
def test_a_file_comes_back_at_its_own_rate(tmp_path, suffix, tolerance, rate_hz):
    path = tmp_path / f'tone.{suffix}'
    soundfile.write(path, _tone(30_000, rate_hz), rate_hz)
    blocks = list(read_file(path, block_s=0.1))
    assert {block.rate_hz for block in blocks} == {rate_hz}
    assert {len(block.samples) for block in blocks[:-1]} == {rate_hz // 10}
    assert blocks[0].samples.dtype == np.float32
    np.testing.assert_allclose(_join(blocks), _tone(30_000, rate_hz), atol=tolerance)
    assert file_duration_s(path) == pytest.approx(30_000 / rate_hz)


def test_stamps_count_from_the_start_of_the_file(tmp_path):
    path = tmp_path / 'tone.wav'
    soundfile.write(path, _tone(), 16_000)
    assert [block.stamp_ns for block in read_file(str(path), block_s=0.5)] == [
        0, 500_000_000, 1_000_000_000]


def test_channels_are_picked_or_mixed(tmp_path):
    path = tmp_path / 'stereo.wav'
    left_right = np.stack([_tone(), np.zeros(24_000, np.float32)], axis=1)
    soundfile.write(path, left_right, 16_000, subtype='FLOAT')
    np.testing.assert_array_equal(_join(read_file(path, channel=0)), left_right[:, 0])
    np.testing.assert_array_equal(_join(read_file(path, channel=1)), left_right[:, 1])
    np.testing.assert_allclose(_join(read_file(path)), left_right[:, 0] / 2)
    with pytest.raises(AudioError, match=r'stereo\.wav: there is no channel 2'):
        read_file(path, channel=2)


def test_a_file_is_never_read_whole(tmp_path, monkeypatch):
    path = tmp_path / 'tone.wav'
    soundfile.write(path, _tone(), 16_000)
    sizes = []
    read = soundfile.SoundFile.read

    def spy(self, frames=-1, **kwargs):
        sizes.append(frames)
        return read(self, frames, **kwargs)

    monkeypatch.setattr(soundfile.SoundFile, 'read', spy)
    first = next(iter(read_file(path, block_s=0.25)))
    assert sizes == [4_000] and len(first.samples) == 4_000


def test_bad_samples_are_silenced_and_counted(tmp_path):
    path = tmp_path / 'nan.wav'
    soundfile.write(
        path, np.array([0.5, np.nan, -np.inf], np.float32), 16_000, subtype='FLOAT')
    (block,) = read_file(path)
    np.testing.assert_array_equal(block.samples, [0.5, 0, 0])
    assert block.n_bad == 2


def test_bad_samples_are_told_once(tmp_path, caplog):
    samples = np.zeros((32_000, 2), np.float32)
    samples[20_000:24_000, 1] = np.nan
    samples[30_000] = 1e30
    soundfile.write(tmp_path / 'nan.wav', samples, 16_000, subtype='FLOAT')
    with caplog.at_level(logging.WARNING):
        assert sum(block.n_bad for block in read_file(tmp_path / 'nan.wav')) == 4_002
    (record,) = caplog.records
    assert 'nan.wav: 4002 of 64000 samples, from 1.00 s on' in record.getMessage()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        for _ in read_raw(BytesIO(samples.tobytes()), 16_000, 'F32LE', 2):
            pass
    (record,) = caplog.records
    assert 'the raw audio stream: 4002 of 64000 samples, from 1.20 s on' in record.getMessage()


def test_good_samples_are_not_worth_a_word(tmp_path, caplog):
    soundfile.write(tmp_path / 'good.wav', np.zeros(16_000, np.float32), 16_000)
    with caplog.at_level(logging.WARNING):
        for _ in read_file(tmp_path / 'good.wav'):
            pass
    assert not caplog.records


@pytest.mark.parametrize('name', [
    b'caf\xe9.wav', b'\xff\xfe.wav', 'caf\u00e9 \u4e2d.wav'.encode()])
def test_a_name_is_bytes(tmp_path, name):
    path = tmp_path / os.fsdecode(name)
    soundfile.write(tmp_path / 'plain.wav', np.zeros(1_600, np.float32), 16_000)
    (tmp_path / 'plain.wav').rename(path)
    assert file_duration_s(path) == pytest.approx(0.1)
    assert sum(len(block.samples) for block in read_file(str(path))) == 1_600


@pytest.mark.parametrize(('name', 'content', 'problem'), [
    ('missing.wav', None, 'no such file'),
    ('empty.wav', b'', 'is empty'),
    ('text.wav', b'this is no audio\n' * 100, 'not an audio file'),
    ('zeros.mp3', bytes(10_000), 'not an audio file'),
    ('samples.raw', bytes(1_000), 'raw samples have no header'),
])
def test_what_is_no_audio_file_is_refused_at_once(tmp_path, name, content, problem):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    for open_it in (read_file, file_duration_s):
        with pytest.raises(AudioError, match=f'{name}: .*{problem}'):
            open_it(path)


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(AudioError, match='is a directory'):
        read_file(tmp_path)


def test_a_file_without_samples_is_refused(tmp_path):
    path = tmp_path / 'header.wav'
    soundfile.write(path, np.zeros(0, np.float32), 16_000)
    with pytest.raises(AudioError, match='contains no samples'):
        read_file(path)


def test_a_file_with_a_rate_that_is_no_audio_is_refused(tmp_path):
    path = tmp_path / 'slow.wav'
    soundfile.write(path, _tone(), 4_000)
    with pytest.raises(AudioError, match=r'slow\.wav: sample rate 4000 Hz'):
        read_file(path)


@pytest.mark.parametrize('suffix', ['wav', 'flac', 'mp3'])  # MP3: since libsndfile 1.1
def test_a_truncated_file_yields_what_can_be_read(tmp_path, caplog, suffix):
    if suffix.upper() not in soundfile.available_formats():
        pytest.skip(f'this libsndfile knows no {suffix.upper()}: install a newer soundfile')
    path = tmp_path / f'tone.{suffix}'
    # Noise: libsndfile's MP3 encoder writes frames that its decoder rejects for a pure tone.
    noise = np.random.default_rng(0).normal(0, 0.1, 48_000)
    soundfile.write(path, noise.astype(np.float32), 16_000)
    whole = _join(read_file(path, block_s=0.1))
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        samples = _join(read_file(path, block_s=0.1))
    assert 18_000 < len(samples) < 26_000
    np.testing.assert_allclose(samples, whole[:len(samples)], atol=1e-6)
    if suffix != 'wav':  # libsndfile corrects the header of a short WAV by itself
        assert 'tone.' in caplog.text and 'after 1.' in caplog.text


def test_a_file_of_which_nothing_can_be_decoded_is_an_error(tmp_path):
    path = tmp_path / 'tone.flac'
    soundfile.write(path, _tone(48_000), 16_000)
    data = path.read_bytes()
    path.write_bytes(data[:200] + bytes(len(data) - 200))
    with pytest.raises(AudioError, match='nothing could be decoded'):
        list(read_file(path))


class _Pipe(io.RawIOBase):
    """A byte stream that gives at most `most` bytes at a time, as pipes do."""

    def __init__(self, data: bytes, most: int) -> None:
        self._data = io.BytesIO(data)
        self._most = most

    def read(self, size: int = -1) -> bytes:
        assert size > 0, 'must not read everything at once'
        return self._data.read(min(size, self._most))


@pytest.mark.parametrize('most', [1, 3, 1_000, 1_000_000])
def test_raw_samples_survive_any_cut_of_the_stream(most):
    data = np.random.default_rng(0).integers(-2**15, 2**15, (1_500, 2)).astype('<i2')
    blocks = list(read_raw(
        _Pipe(data.tobytes(), most), 8_000, 'S16LE', channels=2, block_s=0.05, channel=1))
    np.testing.assert_array_equal(_join(blocks), data[:, 1] / np.float32(32768))
    assert max(len(block.samples) for block in blocks) <= 400
    expected_ns = 0
    for block in blocks:
        assert block.stamp_ns == expected_ns and block.rate_hz == 8_000
        expected_ns += block.duration_ns


def test_a_raw_stream_that_ends_inside_a_frame_keeps_the_whole_frames(caplog):
    blocks = list(read_raw(io.BytesIO(b'\0\x40' * 10 + b'\1'), 16_000))
    np.testing.assert_array_equal(_join(blocks), np.full(10, 0.5))
    assert '1 bytes dropped' in caplog.text


@pytest.mark.parametrize('data', [b'', b'\1'])
def test_a_raw_stream_without_a_sample_is_an_error(data):
    with pytest.raises(AudioError, match=f'ended after {len(data)} bytes'):
        list(read_raw(io.BytesIO(data), 16_000))


@pytest.mark.parametrize(('start', 'name'), [
    (b'RIFF\x24\0\0\0WAVE', 'WAV'), (b'fLaC\0\0', 'FLAC'), (b'OggS\0\0', 'Ogg'),
    (b'ID3\3\0\0', 'MP3')])
def test_a_file_piped_in_as_raw_samples_is_refused(start, name):
    with pytest.raises(AudioError, match=f'is a {name} file'):
        list(read_raw(io.BytesIO(start + bytes(1_000)), 16_000))


@pytest.mark.parametrize('arguments', [
    (0,), (16_000, 'mp3'), (16_000, 'S16LE', 0), (16_000, 'S16LE', 1, 0.1, 1)])
def test_bad_arguments_are_refused_before_anything_is_read(arguments):
    with pytest.raises(AudioError):
        read_raw(io.BytesIO(b''), *arguments)
