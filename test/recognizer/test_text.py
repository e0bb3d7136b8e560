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

"""Text of an utterance: it only grows, and its words spell it."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from voxtral_ros.recognizer.text import Utterance
from voxtral_ros.recognizer.words import WordSplitter, Written

PIECES = st.lists(st.tuples(st.text(' \n.é漢a', max_size=4), st.booleans()), max_size=12)


class Writer:
    """Writes pieces of text into an utterance."""

    def __init__(self, start_s: float = 0.0) -> None:
        self.utterance = Utterance(1, start_s)
        self._splitter = WordSplitter()

    def append(self, piece: str, end_s: float, probability: float) -> None:
        for part in self._splitter.push(piece):
            self.utterance.append(Written(*part, False, end_s, probability))


def write(*pieces: str, probability: float = 1.0) -> Utterance:
    """Return an utterance of pieces that end at 1 s, 2 s, ..."""
    writer = Writer(0.5)
    for second, piece in enumerate(pieces, 1):
        writer.append(piece, float(second), probability)
    return writer.utterance


def words(utterance: Utterance) -> list[tuple[str, float]]:
    return [(word.text, word.end_s) for word in utterance.publish(float).words]


def test_words_split_at_spaces_and_end_where_their_first_token_says():
    assert words(write(' go', ' forward', ' ten')) == [('go', 1), ('forward', 2), ('ten', 3)]


def test_pieces_without_a_space_stick_to_the_word_before():
    assert words(write(' new', 's', 'paper', ',', ' of')) == [('newspaper,', 1), ('of', 5)]


def test_one_piece_may_hold_several_words():
    assert words(write(' a', 'b c d', 'e')) == [('ab', 1), ('c', 2), ('de', 2)]


@pytest.mark.parametrize('space', [' ', '\n', ' \n'])
def test_a_space_of_its_own_ends_a_word(space):
    assert words(write('one', space, 'two')) == [('one', 1), ('two', 3)]


def test_the_space_before_the_first_word_is_no_text():
    utterance = write(' ', '\n', ' go', ' on')
    assert utterance.text == 'go on'
    assert len(utterance.publish(float).words) == 2


def test_space_between_words_is_kept_as_written():
    assert write(' one', '.\n', ' two').text == 'one.\n two'


def test_confidence_of_a_word_is_the_product_of_its_tokens():
    writer = Writer()
    for piece, probability in [(' for', 0.5), ('ward', 0.8), ('.', 0.5), (' ten', 0.9)]:
        writer.append(piece, 1.0, probability)
    transcript = writer.utterance.publish(float)
    assert [word.confidence for word in transcript.words] == pytest.approx([0.2, 0.9])
    assert transcript.confidence == pytest.approx((0.2 * 0.9) ** 0.5)


def test_confidence_of_no_words_is_not_a_number():
    confidence = Utterance(1, 0.0).publish(float).confidence
    assert confidence != confidence


def test_an_utterance_without_words_ends_where_it_starts():
    transcript = Utterance(3, 1.5).publish(float, is_final=True)
    assert (transcript.text, transcript.start_s, transcript.end_s) == ('', 1.5, 1.5)


def test_revisions_count_from_zero_and_carry_what_is_new():
    utterance = write(' go')
    first = utterance.publish(float)
    utterance.append(Written(' on', True, False, 2.0, 1.0))
    second, third = utterance.publish(float), utterance.publish(float, is_final=True)
    assert [(t.revision, t.text, t.delta, t.is_final) for t in (first, second, third)] == [
        (0, 'go', 'go', False), (1, 'go on', ' on', False), (2, 'go on', '', True)]


def test_changed_says_whether_a_revision_would_publish_anything_new():
    utterance = Utterance(1, 0.0)
    assert not utterance.changed
    utterance.append(Written(' go', True, False, 1.0, 1.0))
    assert utterance.changed
    utterance.publish(float)
    assert not utterance.changed


def test_times_are_translated_when_they_are_published():
    transcript = write(' go', ' on').publish(lambda transcribed_s: transcribed_s - 0.25)
    assert (transcript.start_s, transcript.end_s) == (0.25, 1.75)
    assert [word.end_s for word in transcript.words] == [0.75, 1.75]


def test_what_was_published_does_not_change_later():
    utterance = write(' new')
    transcript = utterance.publish(float)
    utterance.append(Written('s', False, False, 2.0, 0.5))
    assert transcript.words[0].text == 'new'
    assert transcript.words[0].confidence == 1.0


def test_a_revision_makes_only_the_words_that_may_have_changed():
    """So an utterance of an hour costs no more per word than one of a second."""
    writer, made = Writer(), []
    for n in range(100):
        writer.append(f' {n}', float(n), 1.0)
        transcript = writer.utterance.publish(lambda time_s: made.append(time_s) or time_s)
    assert len(transcript.words) == 100
    assert len(made) <= 4 * 100  # start, end and two words of each revision


@given(PIECES)
def test_text_only_ever_grows_and_the_deltas_spell_it(pieces):
    writer, published, written = Writer(), '', ''
    utterance = writer.utterance
    for piece, publish in [*pieces, ('', True)]:
        writer.append(piece, 0.0, 1.0)
        written += piece
        if publish:
            transcript = utterance.publish(float)
            assert transcript.text.startswith(published)
            assert transcript.text == published + transcript.delta
            published = transcript.text
    final = utterance.publish(float, is_final=True)
    assert final.text == published + final.delta == written.strip()


@given(PIECES)
def test_the_words_are_the_text_without_its_spaces(pieces):
    writer = Writer()
    for piece, _ in pieces:
        writer.append(piece, 0.0, 1.0)
        transcript = writer.utterance.publish(float)
        assert ''.join(word.text for word in transcript.words) == ''.join(transcript.text.split())
        assert all(word.text and word.text == word.text.strip() for word in transcript.words)
