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

"""How phrases and the other words of a transcript are counted."""

from random import Random

import pytest

from voxtral_ros.evaluation.phrases import PhraseScore, PhraseScorer
from voxtral_ros.evaluation.word_error_rate import score


@pytest.mark.parametrize(('reference', 'transcript', 'expected'), [
    # said, found, inserted, errors of the other words, other words
    ('where is Svetlana', 'Where is svetlana?', PhraseScore(1, 1, 0, 0, 2)),
    ('where is svetlana', 'where is spit lama', PhraseScore(1, 0, 0, 0, 2)),
    ('where is svetlana now', 'where was the spit lama now', PhraseScore(1, 0, 0, 1, 3)),
    ('bring the zip ties', 'bring the zip pies', PhraseScore(1, 0, 0, 0, 2)),
    ('bring the zip ties', 'bring the ties', PhraseScore(1, 0, 0, 0, 2)),
    ('zip the ties', 'zip ties', PhraseScore(0, 0, 1, 1, 3)),
    ('hello', 'svetlana hello svetlana', PhraseScore(0, 0, 2, 2, 1)),
    ('svetlana and svetlana', 'svetlana and', PhraseScore(2, 1, 0, 0, 1)),
    ('svetlana', 'svetlana svetlana', PhraseScore(1, 1, 1, 0, 0)),
    ('', 'oh svetlana', PhraseScore(0, 0, 1, 2, 0)),
    ('', '', PhraseScore(0, 0, 0, 0, 0)),
    ('the living room lamp', 'the living room', PhraseScore(1, 0, 1, 0, 1)),
    ('the living room', 'the living room lamp', PhraseScore(1, 0, 1, 0, 1)),
])
def test_counts(reference, transcript, expected):
    scorer = PhraseScorer(['Svetlana', 'zip  ties', 'living room', 'Living room lamp', '...'])
    assert scorer.score(reference, transcript) == expected


def test_without_phrases_all_words_are_other_words():
    assert PhraseScorer([]).score('a b c', 'a c d') == PhraseScore(0, 0, 0, 2, 3)


def test_words_may_be_made_in_another_way():
    scorer = PhraseScorer(['Room 2'], words=lambda text: text.replace('2', 'two').lower().split())
    assert scorer.score('to room two', 'to Room 2') == PhraseScore(1, 1, 0, 0, 1)


@pytest.mark.parametrize('seed', range(20))
def test_with_nothing_listed_the_errors_are_the_edit_distance(seed):
    random = Random(seed)
    said, written = (' '.join(random.choices('abcd', k=random.randrange(9))) for _ in range(2))
    assert PhraseScorer([]).score(said, written).errors == score('', said, written).errors
