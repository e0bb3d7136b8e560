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

"""A client whose audio cannot be audio is told so, once, and others are left alone."""

import json

import numpy as np
import pytest
import soundfile
from support.realtime import DATA, MODEL

from voxtral_ros.server.audio_check import AudioCheck

ORDERS = soundfile.read(DATA / 'orders.flac', dtype='int16')[0]
FLOATS = (ORDERS / 32768).astype('<f4').tobytes()
OGG = b'OggS\x00' + np.random.default_rng(1).bytes(4095)
WRONG = {
    'float32': (FLOATS, '32-bit float samples'),
    'other byte order': (ORDERS.astype('>i2').tobytes(), 'byte order'),
    'a byte too many': (b'\0' + ORDERS.astype('<i2').tobytes()[:-1], 'byte order'),
    '8 bits unsigned': ((ORDERS // 256 + 128).astype('u1').tobytes(), '8-bit'),
    'unknown': (np.random.default_rng(2).bytes(300_000), 'compressed data'),
    'Ogg': (OGG * 4, 'Ogg')}


def told(data, rate_hz=16_000, block=4096):
    """Return all that is told about some bytes."""
    check = AudioCheck()
    samples = np.frombuffer(data[:len(data) // 2 * 2], '<i2').astype(np.float32) / 32768
    doubts = [check.look(samples[at:at + block], rate_hz)
              for at in range(0, len(samples), block)]
    return [doubt for doubt in doubts if doubt]


@pytest.mark.parametrize('block', [320, 4096, 10**7])
@pytest.mark.parametrize('data, cause', WRONG.values(), ids=WRONG)
def test_what_cannot_be_audio(data, cause, block):
    doubt, = told(data, block=block)
    assert cause in doubt
    assert 'PCM16' in doubt


@pytest.mark.parametrize('data', [
    ORDERS.tobytes(), np.clip(ORDERS * 8.0, -32768, 32767).astype('<i2').tobytes(),
    bytes(320_000), np.random.default_rng(3).integers(-1, 2, 160_000).astype('<i2').tobytes(),
    b'RIFF\x24\x00\x00\x00WAVEfmt ' + ORDERS.tobytes()],
    ids=['speech', 'loud and clipped', 'silence', 'a muted microphone that dithers', 'a WAV file'])
def test_what_can(data):
    assert told(data) == []


def test_speech_after_dither_is_not_doubted():
    dither = np.random.default_rng(3).integers(-1, 2, 160_000).astype('<i2')
    assert told(dither.tobytes() + ORDERS.tobytes(), block=320) == []


def test_the_client_is_told_once_and_goes_on(scripted):
    with scripted.server.client() as client:
        client.update(model=MODEL)
        samples = np.frombuffer(FLOATS, '<i2') / 32768
        client.append(samples)
        client.append(samples)
        client.send('nonsense')
        events = [client.receive()]
        while 'nonsense' not in json.dumps(events[-1]):
            events.append(client.receive())
    told, _ = [json.dumps(event) for event in events if event['type'] == 'error']
    assert 'implausible_audio' in told
    assert '32-bit float samples' in told
