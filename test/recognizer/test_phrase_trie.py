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

"""Phrases to tokens: spellings, and what each token gains."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from voxtral_ros.model.tokenizer import Tokenizer
from voxtral_ros.recognizer.phrase_trie import compile_phrases, expected_tokens, spellings
from voxtral_ros.recognizer.phrases import (
    MAX_BOOST, MAX_CHARACTERS, MAX_PHRASES, Phrase, PhraseError, PhraseList)
from voxtral_ros.resources import demo_model

PIECES = [*(bytes([byte]) for byte in range(256)), b' kow', b'als', b'ki', b' living', b' room']


@pytest.fixture(scope='module')
def tokenizer():
    return Tokenizer(PIECES, pattern=r' ?[^\s]+|\s+')


def states(trie, tokens):
    """Return the states after each of some tokens."""
    state, visited = 0, []
    for token in tokens:
        state = trie.advance(state, token)
        visited.append(state)
    return visited


def test_a_phrase_is_expected_in_every_case_and_after_a_space():
    assert set(spellings('living Room')) == {
        ' living Room', ' living room', ' Living Room', ' LIVING ROOM'}
    assert spellings('厨房') == [' 厨房', '厨房']


def test_what_a_token_gains_grows_with_the_letters_that_are_written(tokenizer):
    whole = tokenizer.encode(' kowalski')
    assert tokenizer.decode(whole) == ' kowalski'
    expected = expected_tokens(' kow', 2.0, 0.0, tokenizer)
    assert [token.bias for token in expected] == [6.0]
    expected = expected_tokens(' living room', 2.0, 1.5, tokenizer)
    assert [token.bias for token in expected] == [2.0 * (6 + 2) - 1.5, 2.0 * 10 - 1.5]
    assert [token.inside for token in expected] == [False, False]
    assert [token.ends for token in expected] == [False, True]


def test_chinese_characters_are_worth_three_letters(tokenizer):
    expected = expected_tokens(' 厨房', 1.0, 0.0, tokenizer)
    assert expected[-1].bias == 6.0


def test_many_phrases_are_less_likely_each(tokenizer):
    def budget(n):
        others = [f'z{number}' for number in range(n - 1)]
        trie = compile_phrases(PhraseList.parse(['living room', *others]), tokenizer)
        return trie.budget[states(trie, tokenizer.encode(' living room'))[-1]]

    assert budget(1) == budget(10) == 20.0
    assert budget(100) == pytest.approx(20.0 - math.log(10))
    assert budget(1000) == pytest.approx(20.0 - math.log(100))


def test_a_comma_may_stand_between_the_words(tokenizer):
    trie = compile_phrases(PhraseList.parse(['living room']), tokenizer)
    tokens = [token for text in (' living', ',', ' room') for token in tokenizer.encode(text)]
    assert trie.ends[states(trie, tokens)[-1]]


def test_without_phrases_or_boost_nothing_is_expected(tokenizer):
    assert compile_phrases(PhraseList(), tokenizer) is None
    assert compile_phrases(PhraseList.parse(['living room'], 0.0), tokenizer) is None


def test_a_phrase_without_boost_does_not_count(tokenizer):
    lines = ['living room', *(f'z{number} :0' for number in range(99))]
    trie = compile_phrases(PhraseList.parse(lines), tokenizer)
    assert trie.budget.max() == 20.0


@settings(deadline=None, max_examples=20)
@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=30))
def test_strange_phrases_are_refused_or_found_in_the_trie(tokenizer, texts):
    phrases = []
    for text in texts:
        try:
            phrases.append(Phrase(text))
        except PhraseError as error:
            assert 'phrase' in str(error)
    trie = compile_phrases(PhraseList(tuple(phrases)), tokenizer)
    for phrase in phrases:
        state = states(trie, tokenizer.encode(f' {phrase.text}'))[-1]
        assert trie.ends[state]
        assert trie.budget[state] > 0


def test_a_thousand_long_phrases_of_the_demo_model():
    tokenizer = Tokenizer.load(demo_model())
    phrases = PhraseList.parse([f'übermorgen {n} 厨 {n * n} æon' for n in range(1000)])
    trie = compile_phrases(phrases, tokenizer)
    assert trie.ends.sum() >= MAX_PHRASES
    assert trie.nbytes < 10e6


@pytest.mark.parametrize(('text', 'boost', 'reason'), [
    ('', 1.0, 'has no letters'), ('...', 1.0, 'has no letters'),
    ('a' * (MAX_CHARACTERS + 1), 1.0, 'at most 200'), ('a\x00b', 1.0, 'control characters'),
    ('robot', -1.0, 'is not 0 to 10'), ('robot', math.nan, 'is not 0 to 10'),
    ('robot', math.inf, 'is not 0 to 10'), ('robot', MAX_BOOST + 1, 'is not 0 to 10')])
def test_what_is_no_phrase_is_refused_with_the_reason(text, boost, reason):
    with pytest.raises(PhraseError, match=reason):
        Phrase(text, boost)


def test_too_many_are_refused():
    with pytest.raises(PhraseError, match='1001 phrases'):
        PhraseList.parse([f'p{n}' for n in range(1001)])
    with pytest.raises(PhraseError, match='1001 phrases'):
        PhraseList.parse([f'p{n}' for n in range(1000)]) + PhraseList.parse(['other'])


def test_of_equal_phrases_the_largest_boost_counts():
    phrases = PhraseList.parse(['hey robot :1', ' hey  robot :3', 'hey robot'])
    assert [(phrase.text, phrase.boost) for phrase in phrases.phrases] == [('hey robot', 3.0)]


def test_a_file_is_read(tmp_path):
    path = tmp_path / 'phrases.txt'
    path.write_bytes('\ufeff# names\n\nKowalski :2.5\nliving room\r\n'.encode())
    assert PhraseList.load(path, 1.0) == PhraseList(
        (Phrase('Kowalski', 2.5), Phrase('living room', 1.0)))


@pytest.mark.parametrize('content', [None, b'\xff\xfe', b'kitchen\n???\n'])
def test_a_file_that_cannot_be_used_is_named(tmp_path, content):
    path = tmp_path / 'phrases.txt'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PhraseError, match=r'phrases\.txt'):
        PhraseList.load(path)
