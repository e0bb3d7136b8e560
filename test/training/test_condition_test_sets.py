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

"""Test sets of conditions: the same again with the same seed, each recording of its own."""

import numpy as np
import pytest
import soundfile
from training import condition_test_sets
from training.condition_test_sets import CONDITIONS, draw, read_noise, Sources, write
from training.judge import CONDITIONS as JUDGED

from voxtral_ros.evaluation.manifest import read_manifest

RATE = 16000


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a set of four tones, the last of them too long."""
    rows = ['file\ttext\tspeaker']
    for number, seconds in enumerate((1, 1.5, 2, 13)):
        time = np.arange(int(seconds * RATE)) / RATE
        soundfile.write(tmp_path / f'{number}.flac', 0.3 * np.sin(2 * np.pi * 300 * time), RATE)
        rows.append(f'{number}.flac\tword {number}\tspeaker {number}')
    (tmp_path / 'clear.tsv').write_text('\n'.join(rows) + '\n')
    return tmp_path


@pytest.fixture
def few(monkeypatch):
    """Leave the rooms out: they need a package that is not of the tests."""
    for name in [name for name in CONDITIONS if name.startswith('room')]:
        monkeypatch.delitem(condition_test_sets.CONDITIONS, name)


@pytest.fixture
def sources():
    """Return voices for babble; motors and fans are synthesized."""
    random = np.random.default_rng(1)
    return Sources([0.1 * random.standard_normal(RATE) for _ in range(5)], [], [])


def audio(folder, name):
    return [recording.samples() for recording in read_manifest(folder / f'{name}.tsv')]


def test_every_condition_is_judged():
    assert tuple(CONDITIONS) == JUDGED


def test_the_same_seed_makes_the_same_sets(folder, few, sources, tmp_path_factory):
    recordings = draw(folder, [('clear', 3)])
    made = []
    for seed in (1, 1, 2):
        out = tmp_path_factory.mktemp('sets')
        write(out, recordings, sources, seed)
        made.append({name: audio(out, name) for name in condition_test_sets.CONDITIONS})
    for name, first in made[0].items():
        for one, again in zip(first, made[1][name], strict=True):
            np.testing.assert_array_equal(one, again)
    for name in ('pink-5dB', 'babble-5dB', 'motor-5dB', 'fan-5dB'):
        assert not np.allclose(made[0][name][0], made[2][name][0])
    np.testing.assert_array_equal(made[0]['clean'][0], made[2]['clean'][0])


def test_texts_and_speakers_stay_with_their_recordings(folder, few, sources):
    write(folder, draw(folder, [('clear', 2)]), sources)
    for recording in read_manifest(folder / 'pink-10dB.tsv'):
        assert recording.text == f'word {recording.columns["speaker"][-1]}'


def test_long_recordings_are_not_drawn(folder):
    assert {recording.text for recording in draw(folder, [('clear', 3)])} \
        == {'word 0', 'word 1', 'word 2'}
    with pytest.raises(ValueError, match='clear has 3 recordings .* 4 are needed'):
        draw(folder, [('clear', 4)])


def test_recorded_motors_are_taken_where_there_are_some(folder, few, sources):
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    (folder / 'noise').mkdir()
    soundfile.write(folder / 'noise' / 'motor_1.wav', 0.5 * tone, RATE)
    motors, fans = (read_noise(folder / 'noise', kind) for kind in ('motor', 'fan'))
    assert (len(motors), len(fans)) == (1, 0)
    write(folder, draw(folder, [('clear', 1)]), sources._replace(motors=motors, fans=fans))
    spectrum = np.abs(np.fft.rfft(audio(folder, 'motor-5dB')[0]))
    loudest = np.argsort(spectrum)[-2:] * RATE / (2 * len(spectrum) - 2)
    assert sorted(loudest.round(-1)) == [300, 1000]
