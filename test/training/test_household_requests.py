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

"""Household requests are templates filled with nouns of WordNet."""

import pytest
from training.household_requests import requests, things

NOUNS = """\
  1 This is the licence of WordNet
00000001 13 n 02 beverage 0 drink 0 000 | any liquid suitable for drinking
00000002 13 n 02 coffee 0 java 0 001 @ 00000001 n 0000 | a beverage of coffee beans
00000003 13 n 02 caffe_latte 0 Irish_coffee 0 002 @ 00000002 n 0000 + 00000009 v 0101 | with milk
00000004 13 n 01 solid_food 0 000 | what is eaten
00000005 13 n 02 apple 0 one_two_three_four 0 001 @ 00000004 n 0000 | fruit
00000006 06 n 01 tool 0 001 ~ 00000007 n 0000 | an implement
00000007 06 n 02 hammer 0 x-ray 0 001 @ 00000006 n 0000 | for nails
00000008 18 n 01 tool 0 000 | a person
00000009 18 n 01 puppet 0 001 @ 00000008 n 0000 | such a person
"""


@pytest.fixture
def wordnet(tmp_path):
    (tmp_path / 'data.noun').write_text(NOUNS)
    return tmp_path


def test_names_are_the_hyponyms_of_a_kind(wordnet):
    assert things(wordnet) == {
        'drink': ['beverage', 'caffe latte', 'coffee', 'drink', 'java'],
        'food': ['apple', 'solid food'],
        'object': ['hammer', 'tool']}


def test_only_words_of_the_lexicon_are_requested(wordnet):
    known = {'coffee', 'apple', 'hammer', 'caffe'}
    texts = list(requests(wordnet, known, 500))
    words = set(' '.join(texts).split())
    assert {'coffee', 'apple', 'hammer'} <= words
    assert words.isdisjoint({'latte', 'java', 'tool', 'puppet', 'solid'})
    assert not any('{' in text or '_' in text for text in texts)


def test_the_article_goes_with_the_word_after_it(wordnet):
    texts = list(requests(wordnet, {'coffee', 'apple', 'hammer'}, 500))
    assert any(' an apple' in text for text in texts)
    assert not any(' a apple' in text or ' an hammer' in text for text in texts)


def test_the_same_seed_makes_the_same_requests(wordnet):
    known = {'coffee', 'apple', 'hammer'}
    first = list(requests(wordnet, known, 50, seed=3))
    assert first == list(requests(wordnet, known, 50, seed=3))
    assert first != list(requests(wordnet, known, 50, seed=4))
