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

"""Word errors after text normalization, errors of word ends, and the cache of baselines."""

import json

import numpy as np
import pytest
from training.baselines import spoken_form, Word
from training.compare_baselines import Baselines, end_errors, Recording, Result, score_recordings

RATE = 16000


def recording(file, text='go to the kitchen', ends=(0.5, 0.7, 0.8, 1.4)):
    return Recording(file, text, 'a speaker', list(ends), np.zeros(2 * RATE, np.float32))


@pytest.mark.parametrize(('text', 'spoken'), [
    ('Go forward 3 meters, please!', 'go forward three meters please'),
    ("Mr. Smith's 1,851 cups", "mister smith's one thousand eight hundred fifty one cups"),
    ('room 007 or 12345', 'room zero zero seven or one two three four five'),
    ('OK, that\u2019s 20%', "ok that's twenty percent"),
    ("'quoted' okay", 'quoted ok'),
])
def test_text_is_normalized_to_its_spoken_form(text, spoken):
    assert ' '.join(spoken_form(text)) == spoken


def test_word_ends_are_compared_where_the_word_was_recognized():
    result = Result({'a': [Word('Go', 0.6), Word('two', 0.7), Word('the', 0.7),
                           Word('kitchen.', 1.5), Word('now', 1.9)]}, 0.1)
    errors = end_errors(result, [recording('a')])
    assert errors == pytest.approx([0.1, -0.1, 0.1])


def test_numbers_do_not_move_the_ends_of_other_words():
    reference = recording('a', 'turn twenty one degrees', (0.5, 0.9, 1.1, 1.6))
    result = Result({'a': [Word('turn', 0.5), Word('21', 1.1), Word('degrees', 1.7)]}, 0.1)
    assert end_errors(result, [reference]) == pytest.approx([0.0, 0.1])


def test_scores_count_wrong_words():
    result = Result({'a': [Word('Go', 0.6), Word('two', 0.7), Word('the', 0.7)]}, 0.1)
    counted, = score_recordings(result, [recording('a')])
    assert (counted.errors, counted.n_words) == (2, 4)


def test_baselines_are_cached_until_the_manifest_changes(tmp_path):
    calls = []

    def recognizer(samples, timed):
        calls.append(timed)
        return [Word('go', 0.5)]

    manifest = tmp_path / 'orders.tsv'
    manifest.write_text('file\ttext\tspeaker\tends\n')
    for _ in range(2):
        baselines = Baselines(tmp_path, None)
        baselines._factories = {'somebody': lambda: recognizer}
        result = baselines.transcripts('somebody', 'orders',
                                       [recording('a'), recording('b', ends=())])
        assert result.words == {'a': [Word('go', 0.5)], 'b': [Word('go', 0.5)]}
        assert result.real_time_factor > 0
    assert calls == [True, False]
    manifest.write_text('file\ttext\tspeaker\tends\nc\t\t\t\n')
    Baselines.transcripts(baselines, 'somebody', 'orders', [recording('c')])
    assert len(calls) == 3
    assert set(json.loads((tmp_path / 'baselines.json').read_text())['somebody']) == {'orders'}
