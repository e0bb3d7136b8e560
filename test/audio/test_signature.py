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

"""Files and compressed streams are recognised by their bytes, and raw samples are not."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from voxtral_ros.audio.signature import CompressedStream, container

DATA = Path(__file__).resolve().parents[1] / 'data'
SPEECH, RATE_HZ = soundfile.read(DATA / 'austen_0870.flac', dtype='float32')


def encoded(file_format, **options):
    """Return speech as a file of a format."""
    file = io.BytesIO()
    soundfile.write(file, SPEECH, RATE_HZ, format=file_format, **options)
    return file.getvalue()


def found(data, size):
    """Return what is found while data comes in messages of a size, in the order of finding."""
    stream = CompressedStream()
    return list(dict.fromkeys(stream.look(data[at:at + size]) for at in range(0, len(data), size)))


def adts(n):
    """Return n AAC frames of random content, as no encoder is at hand."""
    rng = np.random.default_rng(0)
    frames = b''
    for length in rng.integers(200, 700, n):
        header = bytes((0xFF, 0xF1, 0x60, 0x40 | length >> 11, length >> 3 & 0xFF,
                        (length & 7) << 5 | 0x1F, 0xFC))
        frames += header + rng.bytes(int(length) - 7)
    return frames


@pytest.mark.parametrize(('file_format', 'subtype', 'name'), [
    ('WAV', 'PCM_16', 'WAV'), ('FLAC', 'PCM_16', 'FLAC'), ('OGG', 'VORBIS', 'Ogg'),
    ('OGG', 'OPUS', 'Ogg'), ('AIFF', 'PCM_16', 'AIFF'), ('AU', 'PCM_16', 'AU'),
    ('CAF', 'PCM_16', 'CAF')])
def test_files_are_recognised_by_their_beginning(file_format, subtype, name):
    assert container(encoded(file_format, subtype=subtype)) == name


@pytest.mark.parametrize('rate', [0.0, 0.2, 0.5, 0.9])
@pytest.mark.parametrize('mode', ['CONSTANT', 'VARIABLE'])
@pytest.mark.parametrize('size', [576, 1000, 4096])
def test_mp3_that_is_cut_anywhere_is_found(rate, mode, size):
    data = encoded('MP3', compression_level=rate, bitrate_mode=mode)
    data = data[len(data) // 5 | 1:]  # somewhere in the middle of a broadcast
    assert found(data, size)[-1] == 'MP3'


def test_messages_of_whole_mp3_frames_are_found_at_the_third():
    data = encoded('MP3', compression_level=0.2, bitrate_mode='CONSTANT')
    stream = CompressedStream()
    frame = data.index(b'\xff\xf3')
    assert [stream.look(data[at:at + 576]) for at in range(frame, frame + 576 * 4, 576)] == [
        '', '', 'MP3', 'MP3']


@pytest.mark.parametrize('size', [512, 3000])
def test_aac_and_ogg_are_found_in_the_middle_too(size):
    assert found(adts(60), size)[-1] == 'AAC'
    assert found(encoded('OGG', subtype='OPUS')[777:], size)[-1] == 'Ogg'


@pytest.mark.parametrize('gain', [0.0005, 0.003, 0.05, 1.0])
@pytest.mark.parametrize('dtype', ['<i2', '>i2', '<i4', '<f4'])
def test_raw_samples_are_never_taken_for_something_else(gain, dtype):
    scale = {'<i2': 32767, '>i2': 32767, '<i4': 2**31 - 256, '<f4': 1}[dtype]
    for path in sorted(DATA.glob('*.flac')):
        samples = soundfile.read(path, dtype='float32')[0].astype(float) * gain
        assert found((samples * scale).astype(dtype).tobytes(), 640) == ['']


def test_random_bytes_are_nothing():
    assert found(np.random.default_rng(1).bytes(4_000_000), 640) == ['']


def test_a_wav_header_before_raw_samples_is_refused_once():
    wav = encoded('WAV', subtype='PCM_16')
    assert found(wav, 640) == ['WAV', '']


def test_a_flac_file_is_refused_to_its_end():
    assert found(encoded('FLAC'), 640) == ['FLAC']


@pytest.mark.parametrize('magic', [b'fLaC', b'OggS\0\0', b'ID3\3\0'])
def test_raw_samples_after_a_file_are_taken_again(magic):
    samples = (SPEECH * 32767).astype('<i2').tobytes()
    assert found(magic + np.random.default_rng(0).bytes(20_000) + samples, 640)[-1] == ''
