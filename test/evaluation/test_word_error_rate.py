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

"""Word errors are the edit distance, whatever library counts them."""

from hypothesis import given, strategies
import pytest

from voxtral_ros.evaluation.word_error_rate import (
    count_words, normalize, Score, score, word_error_rate, word_errors)

# Few letters, so that words are often equal.
SENTENCES = strategies.lists(strategies.text("ab'é語", min_size=1, max_size=2), max_size=12)


def edit_distance(reference, transcript):
    row = list(range(len(transcript) + 1))
    for i, word in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(transcript, 1):
            diagonal, row[j] = row[j], min(
                row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1]


@given(SENTENCES, SENTENCES)
def test_errors_are_the_edit_distance(reference, transcript):
    assert word_errors(reference, transcript) == edit_distance(reference, transcript)


@given(strategies.text(), strategies.text())
def test_any_text_can_be_compared(reference, transcript):
    words, others = normalize(reference), normalize(transcript)
    assert word_errors(words, others) == edit_distance(words, others)


@pytest.mark.parametrize(('reference', 'transcript', 'errors'), [
    ('', '', 0),
    ('', 'you and me', 3),  # invented where nobody speaks
    ('go to the kitchen', '', 4),
    ('go to the kitchen', 'go too kitchen now', 3),
    ('the the the', 'the', 2),
])
def test_edge_cases(reference, transcript, errors):
    assert word_errors(reference.split(), transcript.split()) == errors


@pytest.mark.parametrize(('text', 'words'), [
    ('Go, forward -- 3 METERS!', ['go', 'forward', '3', 'meters']),
    ("That's the robot's.", ["that's", 'the', "robot's"]),
    ('  Grüße\taus\nKöln\u00a0…', ['grüße', 'aus', 'köln']),
    ('?!', []),
])
def test_case_and_punctuation_are_no_errors(text, words):
    assert normalize(text) == words


def test_a_score_keeps_the_texts_as_they_are():
    assert score('a.wav', 'Stop!', 'stop it', 'near') == Score(
        'a.wav', 'Stop!', 'stop it', 1, 1, 'near')


def test_words_may_be_made_in_another_way():
    def spoken(text):
        return normalize(text.replace('3', 'three'))

    assert score('a.wav', 'go 3', 'go three').errors == 1
    assert score('a.wav', 'go 3', 'go three', words=spoken).errors == 0
    assert score('a.wav', 'go three', 'go 3', words=spoken).errors == 0


def test_the_rate_is_of_all_words_and_not_the_mean_of_rates():
    scores = [score('a', 'one', 'two'), score('b', 'one two three', 'one two three')]
    assert word_error_rate(scores) == 1 / 4
    assert count_words(scores) == 4


def test_where_nobody_speaks_the_rate_counts_words():
    assert word_error_rate([score('a', '', 'what is this'), score('b', '', '')]) == 3
    assert word_error_rate([]) == 0
