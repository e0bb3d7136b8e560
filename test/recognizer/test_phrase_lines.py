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

"""Phrases as lines of text, on their way to a server and back."""

import pytest

from voxtral_ros.recognizer.phrases import DEFAULT_BOOST, Phrase, PhraseError, PhraseList

PHRASES = [Phrase('living room'), Phrase('Kowalski', 2.5), Phrase('R2 D2', 0.0),
           Phrase('half', 1 / 3), Phrase('scene 1 :3', 4.0), Phrase('scene 1 :3'), Phrase(':3'),
           Phrase('10 : 30'), Phrase('a :b', DEFAULT_BOOST), Phrase('厨房', 9.75),
           Phrase('tiny', 1e-9)]


@pytest.mark.parametrize('boost', [None, DEFAULT_BOOST, 4.0])
def test_lines_are_read_as_the_same_phrases(boost):
    phrases = PhraseList(tuple(PHRASES))
    lines = phrases.lines(boost)
    assert PhraseList.parse(lines, DEFAULT_BOOST if boost is None else boost) == phrases
    if boost is None:  # whoever reads them
        assert PhraseList.parse(lines, 7.0) == phrases


def test_a_boost_that_all_have_is_not_written():
    phrases = PhraseList.parse(['living room', 'Kowalski :2.5'], 1.5)
    assert phrases.lines(1.5) == ['living room', 'Kowalski :2.5']


@pytest.mark.parametrize('gap', [' ', '\t', '\u3000', ' : '])
def test_lines_of_absurd_lengths_are_read_at_once(gap):
    """In time that grows with their length, not with its square."""
    gap *= 300_000
    if ':' in gap:
        with pytest.raises(PhraseError):
            PhraseList.parse([f'Jan{gap}Kowalski'])
    else:
        assert PhraseList.parse([f'Jan{gap}Kowalski{gap}:{gap}3']) == PhraseList(
            (Phrase('Jan Kowalski', 3.0),))
