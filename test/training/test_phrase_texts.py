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

"""The sentences with phrases: half of them have one, and no phrase is in both sets."""

from collections import Counter

import pytest
from training.phrase_test_sets import distractors, fortunes
from training.phrase_texts import (
    halves, PHRASES, sentences, SOUND_ALIKES, WAKE_PHRASES, wake_sentences)
from training.rare_phrases import rare_words

from voxtral_ros.evaluation.phrases import PhraseScorer

LISTS = [[phrase for kind in half.values() for phrase in kind] for half in halves()]


def test_the_sets_share_no_phrase_and_have_all_of_them():
    assert len(LISTS[0]) == len(LISTS[1]) == 60
    everything = [phrase for kind in PHRASES.values() for phrase in kind]
    assert Counter(LISTS[0] + LISTS[1]) == Counter(everything)
    assert max(Counter(everything).values()) == 1


@pytest.mark.parametrize('half', [0, 1])
def test_each_phrase_is_said_in_two_sentences_and_no_other_is(half):
    lists = sentences(half)
    scorer = PhraseScorer(LISTS[half])
    said = Counter()
    for sentence in lists[0] + lists[1]:
        # Nothing that is listed is said without the manifest knowing it, and nothing twice.
        assert scorer.score(sentence.text, '').n_said == bool(sentence.phrase)
        assert sentence.phrase in sentence.text
        said[sentence.phrase] += 1
    assert said.pop('') == 120
    assert said == {phrase.lower(): 2 for phrase in LISTS[half]}
    first, second = ({one.text for one in some if one.phrase} for some in lists)
    assert not first & second
    assert {*SOUND_ALIKES[half]} < {sentence.text for some in lists for sentence in some}


def test_they_are_the_same_each_time():
    assert sentences(0) == sentences(0)
    assert wake_sentences() == wake_sentences()


def test_wake_phrases_begin_a_sentence_and_are_in_it_once():
    scorer = PhraseScorer(WAKE_PHRASES)
    found = wake_sentences(3)
    assert Counter(sentence.phrase for sentence in found) == dict.fromkeys(WAKE_PHRASES, 3)
    for sentence in found:
        assert sentence.text.startswith(f'{sentence.phrase} ')
        assert scorer.score(sentence.text, '').n_said == 1


def test_fortunes_are_long_sentences_in_words(tmp_path):
    (tmp_path / 'wisdom').write_text(
        'Too short.\n%\nIt is 12 times as long as the\nother one, I think.  What?\n'
        '\t\t-- Somebody, "A book with a long title of 1e9 words"\n%\n')
    (tmp_path / 'wisdom.dat').write_bytes(b'It is not a text that anybody would read.')
    assert fortunes(tmp_path, 1) == ['it is twelve times as long as the other one i think']


def test_distractors_are_names_and_things(tmp_path):
    for name, letter in (('dist.female.first', 'F'), ('dist.all.last', 'L')):
        (tmp_path / name).write_text(
            ''.join(f'{letter}{"abcdefghij"[n // 1000 % 10]}{n:04d} 0.1 0.2 {n}\n'.upper()
                    for n in range(3000)))
    line = '{place:08d} 06 n 01 {word} 0 001 @ 00000001 n 0000 | said of it\n'
    (tmp_path / 'data.noun').write_text(
        '00000001 06 n 01 tool 0 000 | the root\n' + ''.join(
            line.format(place=n + 2, word=f'{one}{two}_tool') for n, (one, two) in enumerate(
                (one, two) for one in 'abcdef' for two in 'abcdefghij')))
    found = distractors(tmp_path, tmp_path, 60)
    assert len(found) == len({*found}) == 60
    kinds = Counter(entry[0] if entry[0] in 'FL' else 'thing' for entry in found)
    assert kinds == {'F': 10, 'L': 10, 'thing': 40}
    assert found == distractors(tmp_path, tmp_path, 60)


def test_rare_words_are_long_and_infrequent():
    frequencies = {'the': 0.05, 'svetlana': 1e-6, 'ox': 1e-7, 'tapestry': 2.9e-6, 'castle': 3e-5,
                   "don't": 0.0}
    texts = ["The ox, Svetlana's castle", "Don't, Svetlana", 'tapestry']
    assert rare_words(texts, lambda word: frequencies.get(word, 1)) == ['svetlana', 'tapestry']
