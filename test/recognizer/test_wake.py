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

"""Wake phrases in text: found with small errors, and nothing else is."""

from hypothesis import example, given
from hypothesis import strategies as st
import pytest

from voxtral_ros.recognizer.wake import WakePhrases
from voxtral_ros.recognizer.words import normalised

NAMES = WakePhrases(['hey robot', 'okay computer'])


def rest(phrases, text, **options):
    """Return what follows the first wake phrase, None where there is none."""
    match = phrases.find(text, **options)
    return match and text[match.end:]


@pytest.mark.parametrize(('text', 'after'), [
    ('hey robot stop', 'stop'), ('Hey, Robot! Stop.', 'Stop.'), ('heyrobot stop', 'stop'),
    ('hey robots stop', 'stop'), ('hay robot stop', 'stop'), ('HEY ROBOT \u2014 stop', 'stop'),
    ('hey-robot,stop', 'stop'), ('hey ro bot stop', 'stop'), ('h\u00e9y robot', ''),
    ('well hey robot stop', 'stop'), ('oh hey robot stop', 'stop'),
    ('hey. Robot? (Stop!)', '(Stop!)'), ('hey robot \u00bfd\u00f3nde?', '\u00bfd\u00f3nde?'),
    ("'hey robot' is what I say", 'is what I say'),
    ('o.k. computer: go', 'go'), ('ok computer go', 'go'),
    ('hey robot hey robot stop', 'hey robot stop')])
def test_small_errors_are_forgiven(text, after):
    assert rest(NAMES, text) == after


@pytest.mark.parametrize('text', [
    '', '...', 'robot', 'hey', 'the robot is here', 'a robot', 'say robot', 'hey robert',
    'hi there robot', 'they wrote it', 'hey you, robot', 'the computer', 'hello computer'])
def test_other_words_are_not_found(text):
    assert NAMES.find(text) is None


@pytest.mark.parametrize(('phrase', 'text', 'after'), [
    ('你好机器人', '请问你好机器人，停下', '停下'), ('你好机器人', '你好机器人停下', '停下'),
    ('สวัสดี', 'สวัสดีครับ', 'ครับ'), ('नमस्ते रोबोट', 'नमस्ते रोबोट, रुको', 'रुको'),
    ('로봇아', '로봇아 멈춰', '멈춰'), ('Привет, робот', 'привет робот стой', 'стой'),
    ('Straße', 'STRASSE frei', 'frei'), ('R2', 'r2 stop', 'stop')])
def test_every_script_has_wake_phrases(phrase, text, after):
    assert rest(WakePhrases([phrase]), text) == after


def test_the_best_place_and_phrase_are_taken():
    match = WakePhrases(['robot', 'hey robot']).find('so hey robot, stop')
    assert (match.phrase, match.start, match.similarity) == ('hey robot', 3, 1.0)


def test_a_word_that_may_grow_does_not_count_yet():
    for text in ('hey robot', 'so hey robot'):
        assert NAMES.find(text, growing=True) is None
        assert NAMES.find(text + ',', growing=True)
        assert NAMES.find(text + ' s', growing=True)
        assert NAMES.find(text)
    # Where words have no spaces between them, a letter is complete.
    robot = '\u673a\u5668\u4eba'
    assert WakePhrases([robot]).find(robot, growing=True).end == len(robot)


def test_only_at_the_beginning():
    assert NAMES.find('Hey robot, stop', begins=True)
    assert NAMES.find('stop hey robot', begins=True) is None
    assert NAMES.find('oh hey robot', begins=True).similarity == pytest.approx(0.8)


@pytest.mark.parametrize('text', ['', 'h', 'hey', 'Hey,', 'hay', 'hey rob', 'hey robots', 'ok'])
def test_what_may_become_a_phrase(text):
    assert NAMES.may_begin(text)


@pytest.mark.parametrize('text', ['stop', 'hey you', 'robot', 'hey robot stop', 'go to the'])
def test_what_will_not_become_a_phrase(text):
    assert not NAMES.may_begin(text)


def test_similarity_says_how_much_is_forgiven():
    for text, similarity in (('hey robot', 1.0), ('hay robot', 0.875), ('the robot', 0.75)):
        assert WakePhrases(['hey robot'], similarity).find(text)
        assert WakePhrases(['hey robot'], similarity + 0.01).find(text) is None


def test_a_phrase_without_letters_is_refused():
    with pytest.raises(ValueError, match=r"the wake phrase '\?!' has no letters"):
        WakePhrases(['hey robot', '?!'])


def test_without_phrases_nothing_is_found():
    assert WakePhrases([]).find('hey robot') is None
    assert not WakePhrases([]).may_begin('')


_WORDS = st.lists(st.text('abcehortyxz', min_size=1, max_size=7), max_size=12)


@given(_WORDS, _WORDS, st.sampled_from(['hey robot', 'Hey, Robot!', 'HEYROBOT', 'hey-robot ...']))
def test_a_phrase_is_found_in_any_text(before, after, phrase):
    text = ' '.join([*before, phrase, *after])
    match = NAMES.find(text)
    assert match
    found = WakePhrases([text[match.start:match.end]], 0.79)
    assert found.find('hey robot') or found.find('okay computer')
    assert match.start <= len(' '.join([*before, ''])) + len(phrase)


@given(st.text(max_size=60))
def test_any_text_can_be_searched(text):
    match = NAMES.find(text)
    assert match is None or 0 <= match.start < match.end <= len(text)
    growing = NAMES.find(text, growing=True)
    assert growing is None or match


@given(st.text(max_size=30), st.text(max_size=30))
def test_what_is_found_while_text_grows_stays_found(text, more):
    if NAMES.find(text, growing=True):
        match = NAMES.find(text + more)
        assert match
        assert match.start <= len(text)


@given(st.sampled_from(['hey robot', 'okay computer']), st.integers(0, 12), st.integers(0, 8),
       st.sampled_from(['', 'x', ' ', ',']))
def test_the_beginning_of_a_phrase_may_begin_it(phrase, n, at, error):
    """Even with an error in it, what turns out to be a wake phrase was held back before."""
    text = phrase[:at] + error + phrase[at:]
    if NAMES.find(text, begins=True):
        assert NAMES.may_begin(text[:n])


@given(st.text(max_size=40))
@example('\U0001d63c')  # a letter that has no case of its own, but a plain form that has
def test_case_accents_punctuation_and_spaces_do_not_count(text):
    assert normalised(text) == normalised(normalised(text)) == normalised(f' {text}! ')
