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

"""Shards of recordings: noise to train with, speech and noise to evaluate on."""

import numpy as np
import pytest
import soundfile
from training.evaluate import load_sets
from training.recordings import main
from training.synthesis.shards import ShardReader
from training.utterances import RATE_HZ, Source


@pytest.fixture
def folder(tmp_path):
    """Return a folder of noise: a long file, a short one, one that is too short, and silence."""
    random = np.random.default_rng(0)
    (tmp_path / 'noise' / 'deeper').mkdir(parents=True)
    for name, n, loud in (('long.flac', 50 * RATE_HZ, 0.1), ('deeper/short.wav', RATE_HZ, 0.01),
                          ('click.flac', 100, 0.1), ('silence.flac', RATE_HZ, 0.0)):
        soundfile.write(tmp_path / 'noise' / name, loud * random.uniform(-1, 1, n), RATE_HZ)
    return tmp_path / 'noise'


def test_noise_to_train_with_is_cut_and_made_equally_loud(folder, tmp_path):
    main(['--out', str(tmp_path), '--noise', str(folder)])
    reader = ShardReader(tmp_path / 'shards' / 'noise0.index')
    reader.refresh()
    assert sorted(clip.length / RATE_HZ for clip in reader.clips) == [1, 10, 20, 20]
    for clip in reader.clips:
        assert len(clip.ends) == 0
        part = reader.samples[clip.start:clip.start + clip.length]
        assert np.abs(part).max() == pytest.approx(0.7 * 32767, abs=2)


def test_minutes_of_noise_are_a_set_without_words(folder, tmp_path):
    main(['--out', str(tmp_path), '--eval-set', 'dev_noise', '--noise', str(folder)])
    minutes = load_sets(tmp_path)['dev_noise']
    assert len(minutes) == 8 and {minute.text for minute in minutes} == {''}
    assert all(55 < len(minute.samples) / RATE_HZ <= 60 for minute in minutes)
    assert not np.array_equal(minutes[0].samples[:RATE_HZ], minutes[1].samples[:RATE_HZ])


def test_a_manifest_becomes_an_evaluation_set(folder, tmp_path):
    table = tmp_path / 'speech.tsv'
    table.write_text('text\tfile\ngo home\tnoise/deeper/short.wav\nstop\tnoise/long.flac\n')
    main(['--out', str(tmp_path), '--eval-set', 'dev_speech', '--manifest', str(table)])
    first, second = load_sets(tmp_path)['dev_speech']
    assert (first.text, second.text) == ('go home', 'stop')
    assert len(first.samples) == RATE_HZ and 0.009 < np.abs(first.samples).max() / 32767 < 0.011


def test_another_rate_is_refused(folder, tmp_path):
    soundfile.write(folder / 'other.wav', np.ones(4410), 44100)
    with pytest.raises(ValueError, match=r'other\.wav has 44100 Hz .* convert it'):
        main(['--out', str(tmp_path), '--noise', str(folder)])


def test_speech_to_train_on_is_refused_without_word_ends(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(['--out', str(tmp_path), '--manifest', str(tmp_path / 'speech.tsv')])
    assert 'use training.forced_alignment' in capsys.readouterr().err


@pytest.mark.parametrize('kind', ('foreign', 'untranscribed'))
def test_speech_without_texts_has_no_words(folder, tmp_path, kind):
    main(['--out', str(tmp_path), f'--{kind}', str(folder)])
    source = Source(tmp_path, kind, f'{kind}.txt')
    source.shards.refresh()
    utterances = [source.draw(1.0, 1.0) for _ in range(100)]
    assert all(not utterance.words and not len(utterance.ends) for utterance in utterances)
    assert {round(len(utterance.samples) / RATE_HZ) for utterance in utterances} > {20}


def test_foreign_speech_is_no_evaluation_set(folder, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(['--out', str(tmp_path), '--foreign', str(folder), '--eval-set', 'dev'])
    assert 'makes no evaluation set' in capsys.readouterr().err
