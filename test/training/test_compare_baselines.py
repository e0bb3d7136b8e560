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

"""What the comparison counts: words in one form, ends of words, and an hour without any."""

import json
from pathlib import Path
import sys

import numpy as np
import pytest
import soundfile

sys.path.append(str(Path(__file__).resolve().parents[2]))  # training/ is not installed

from training import compare_baselines as compare, noise_test_set  # noqa: E402
from training.baselines import spoken_form, Word  # noqa: E402

RATE = 16000


def recording(file, text='go to the kitchen', ends=(0.5, 0.7, 0.8, 1.4)):
    return compare.Recording(file, text, 'nobody', list(ends), np.zeros(2 * RATE, np.float32))


@pytest.mark.parametrize(('text', 'spoken'), [
    ('Go forward 3 meters, please!', 'go forward three meters please'),
    ("Mr. Smith's 1,851 cups", "mister smith's one thousand eight hundred fifty one cups"),
    ('room 007 or 12345', 'room zero zero seven or one two three four five'),
    ('OK, that\u2019s 20%', "ok that's twenty percent"),
    ("'quoted' okay", 'quoted ok'),
])
def test_words_are_compared_as_they_are_spoken(text, spoken):
    assert ' '.join(spoken_form(text)) == spoken


def test_word_ends_are_compared_where_the_word_was_understood():
    heard = compare.Heard({'a': [Word('Go', 0.6), Word('two', 0.7), Word('the', 0.7),
                                 Word('kitchen.', 1.5), Word('now', 1.9)]}, 0.1)
    errors = compare.end_errors(heard, [recording('a')])
    assert errors == pytest.approx([0.1, -0.1, 0.1])


def test_numbers_do_not_move_the_ends_of_other_words():
    said = recording('a', 'turn twenty one degrees', (0.5, 0.9, 1.1, 1.6))
    heard = compare.Heard({'a': [Word('turn', 0.5), Word('21', 1.1), Word('degrees', 1.7)]}, 0.1)
    assert compare.end_errors(heard, [said]) == pytest.approx([0.0, 0.1])


def test_scores_count_wrong_words():
    heard = compare.Heard({'a': [Word('Go', 0.6), Word('two', 0.7), Word('the', 0.7)]}, 0.1)
    score, = compare.scored(heard, [recording('a')])
    assert (score.errors, score.n_words) == (2, 4)


def test_peers_hear_a_set_once_and_again_when_it_has_changed(tmp_path):
    calls = []

    def recogniser(samples, timed):
        calls.append(timed)
        return [Word('go', 0.5)]

    manifest = tmp_path / 'orders.tsv'
    manifest.write_text('file\ttext\tspeaker\tends\n')
    for _ in range(2):
        peers = compare.Peers(tmp_path, None)
        peers._makers = {'somebody': lambda: recogniser}
        heard = peers.heard('somebody', 'orders', [recording('a'), recording('b', ends=())])
        assert heard.words == {'a': [('go', 0.5)], 'b': [('go', 0.5)]}
        assert heard.real_time_factor > 0
    assert calls == [True, False]
    manifest.write_text('file\ttext\tspeaker\tends\nc\t\t\t\n')
    compare.Peers.heard(peers, 'somebody', 'orders', [recording('c')])
    assert len(calls) == 3
    assert set(json.loads((tmp_path / 'peers.json').read_text())['somebody']) == {'orders'}


@pytest.mark.parametrize('make', noise_test_set.SYNTHETIC, ids=lambda make: make.__name__)
def test_noises_fill_their_time_and_the_range_of_a_microphone(make):
    sound = make(12 * RATE, np.random.default_rng(0))
    assert sound.shape == (12 * RATE,)
    assert np.isfinite(sound).all()
    assert np.abs(sound).max() <= 1
    # Sound from beginning to end, but for the one that is silence.
    seconds = np.abs(sound).reshape(12, RATE).max(1)
    assert (seconds > 0).all() if make is not noise_test_set.silence else not seconds.any()


def test_short_real_sounds_are_scattered_and_long_ones_joined(tmp_path):
    click = np.zeros(800)
    click[0] = 0.5
    (tmp_path / 'clicks').mkdir()
    soundfile.write(tmp_path / 'clicks' / 'click.wav', click, RATE)
    clicks = noise_test_set.real(tmp_path / 'clicks', 30 * RATE, np.random.default_rng(0))
    assert len(clicks) == 30 * RATE
    assert 30 < (np.abs(clicks) > 0.05).sum() < 600
    (tmp_path / 'music').mkdir()
    for name, hz in (('a', 200), ('b', 400)):
        tone = 0.1 * np.sin(2 * np.pi * hz * np.arange(40 * RATE) / RATE)
        soundfile.write(tmp_path / 'music' / f'{name}.wav', tone, RATE)
    music = noise_test_set.real(tmp_path / 'music', 50 * RATE, np.random.default_rng(0))
    for part, hz in ((music[:25 * RATE], 200), (music[25 * RATE:], 400)):
        assert np.abs(np.fft.rfft(part)).argmax() / 25 == pytest.approx(hz, abs=1)
