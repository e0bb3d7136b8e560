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


"""Which phrase was said: errors that are forgiven, and words that are none."""

from hypothesis import given, strategies
import pytest

from voxtral_ros.recognizer.phrase_match import PhraseMatcher

ROOMS = ('kitchen', 'living room', 'garage', "children's bedroom", 'café', 'attic')


def found(phrases, text, *options):
    match = PhraseMatcher(phrases, *options).best(text.split())
    return match.phrase if match else None


@pytest.mark.parametrize(('text', 'phrase'), [
    ('Kitchen.', 'kitchen'),
    ('To the KITCHEN, please!', 'kitchen'),
    ('go to the livingroom now', 'living room'),
    ('go to the living-room now', 'living room'),
    ('the gar age', 'garage'),
    ('the garbage', 'garage'),
    ('the childrens bedroom', "children's bedroom"),
    ('a cafe', 'café'),
    ('chicken', None),
    ('the living', None),
    ('somewhere else', None),
    ('...', None),
    ('', None),
])
def test_a_phrase_in_a_text(text, phrase):
    assert found(ROOMS, text) == phrase


@pytest.mark.parametrize(('phrases', 'text', 'phrase'), [
    (('kitchen', 'kitchen table'), 'the kitchen tables', 'kitchen table'),  # the longer one
    (('kitchen table', 'kitchen'), 'the kitchen stable door', 'kitchen table'),
    (('garage', 'garage door'), 'the garage though', 'garage'),
    (('left', 'right'), 'right, not left', 'right'),  # of equal letters more of them
    (('red cup', 'red cap'), 'the red cap', 'red cap'),  # the right one, not the first
    (('go', 'stop'), 'go', 'go'),
    (('stop',), 'step', None),  # short words have to be right
    (('会議室', '台所'), 'じゃあ会議室に行って', '会議室'),  # without spaces
    (('ห้องครัว',), 'ไปที่ห้องครัวครับ', 'ห้องครัว'),
    (('библиотека',), 'в Библиотеку', 'библиотека'),
    (('right',), 'turn on the light', None),
    (('Straße',), 'die STRASSE', 'Straße'),
    (('room 12',), 'to room 12 please', 'room 12'),
    (('room 12',), 'to room 21 please', None),
    (('?!', 'a'), 'a', 'a'),
    ((), 'anything', None),
])
def test_which_of_several(phrases, text, phrase):
    assert found(phrases, text) == phrase


def test_how_much_may_be_wrong():
    assert found(ROOMS, 'kitten') is None
    assert found(ROOMS, 'kitten', 0.6) == 'kitchen'
    assert found(ROOMS, 'kitchan', 1.0) is None
    assert found(ROOMS, 'kitchen', 1.0) == 'kitchen'


def test_where_it_was():
    match = PhraseMatcher(['living room']).best('to - the livingroom , please'.split())
    assert (match.begin, match.end, match.similarity) == (3, 4, 1.0)
    match = PhraseMatcher(['living room']).best('to the living ... room please'.split())
    assert (match.begin, match.end) == (2, 5)


WORDS = strategies.lists(strategies.text('abcdeé .,', min_size=1, max_size=8), max_size=8)


@given(WORDS, strategies.text('abcdeé', min_size=1, max_size=8), WORDS)
def test_a_phrase_that_is_in_the_text_is_found(before, phrase, after):
    match = PhraseMatcher([phrase]).best([*before, phrase, *after])
    assert match.phrase == phrase and match.similarity == 1.0
    assert 0 <= match.begin < match.end <= len(before) + 1 + len(after)


@given(strategies.text(), strategies.lists(strategies.text(), max_size=4))
def test_no_text_is_too_strange(text, phrases):
    match = PhraseMatcher(phrases, 0.6).best(text.split())
    assert match is None or match.phrase in phrases
