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

"""Training sequences: target tokens of the streaming protocol, and the audio they belong to."""

from itertools import islice
import json

import numpy as np
import pytest
from training.sequences import (
    BOS, collate, lay_out, LEFT_PAD, PAD, Sequences, UNKNOWN, WORD, write_tokens)
from training.synthesis.shards import ShardWriter
from training.vocabulary import load_pieces, pieces, tekken, train, WordEncoder

A, B, C = 1300, 1301, 1302


def test_a_word_is_written_after_the_token_in_which_it_ends():
    assert write_tokens([([A, B], 0.24)], 8).tolist() == [PAD, PAD, PAD, WORD, A, B, PAD, PAD]


def test_a_word_that_ends_while_another_is_written_follows_in_its_group():
    words = [([A, B], 0.08), ([C], 0.16), ([A], 0.48)]
    assert write_tokens(words, 9).tolist() == [PAD, WORD, A, B, C, PAD, WORD, A, PAD]


def test_words_beyond_the_end_are_cut():
    assert write_tokens([([A, B, C], 0.16), ([C], 0.8)], 4).tolist() == [PAD, PAD, WORD, A]


@pytest.mark.parametrize('delay', [1, 6, 30])
def test_the_delay_is_part_of_the_prompt(delay):
    tokens = lay_out([([A], 0.16)], delay, 70)
    assert len(tokens) == 71
    assert tokens[0] == BOS
    assert tokens[LEFT_PAD + delay + 3:].tolist()[:2] == [WORD, A]
    assert (np.delete(tokens, [0, LEFT_PAD + delay + 3, LEFT_PAD + delay + 4]) == PAD).all()


@pytest.fixture
def root(tmp_path):
    """Return a training folder with one utterance of two words: 0.5 s each, without silence."""
    writer = ShardWriter(tmp_path / 'shards' / 'speech0')
    writer.add(0, np.full(16000, 8000, np.int16), [0.5, 1.0])
    writer.flush()
    (tmp_path / 'sentences.txt').write_text('red cup\n', encoding='utf-8')
    content = tekken(pieces(train(['red cup'])))
    (tmp_path / 'tekken.json').write_text(json.dumps(content), encoding='utf-8')
    return tmp_path


def test_tokens_follow_the_audio(root):
    encode = WordEncoder(load_pieces(root / 'tekken.json'))
    n_words = 0
    sources = {('speech', 'sentences.txt', 0.0): 1.0}
    for sequence in islice(Sequences(root, sources, LEFT_PAD + 50, seed=1), 20):
        assert sequence.samples.shape == (50 * 1280,)
        assert sequence.tokens.shape == (LEFT_PAD + 50 + 1,)
        generated = sequence.tokens[1 + LEFT_PAD + sequence.delay:]
        loud = np.abs(sequence.samples.astype(int)) > 500
        # Every second word ends where the audio does.
        stops = np.flatnonzero(loud[:-1] & ~loud[1:]) / 1280
        cups = np.flatnonzero(generated == encode('cup')[0])
        n_words += len(cups)
        for cup in cups:
            assert np.abs(stops - (cup - 1)).min() < 1
    assert n_words > 10


def test_some_sequences_begin_with_speech(root):
    sequences = Sequences(root, {('speech', 'sentences.txt', 0.0): 1.0}, LEFT_PAD + 50)
    immediate = [abs(int(sequence.samples[0])) > 500 for sequence in islice(sequences, 60)]
    assert 5 < sum(immediate) < 40


def test_clips_that_never_fit_are_skipped(root):
    writer = ShardWriter(root / 'shards' / 'long0')
    writer.add(0, np.full(10 * 16000, 8000, np.int16), [5.0, 10.0])
    writer.flush()
    sequences = Sequences(root, {('long', 'sentences.txt', 0.0): 1.0}, LEFT_PAD + 50)
    for sequence in islice(sequences, 20):
        assert sequence.samples.shape == (50 * 1280,)


def test_of_foreign_speech_nothing_is_written(root):
    writer = ShardWriter(root / 'shards' / 'foreign0')
    writer.add(0, np.full(16000, 8000, np.int16), [])
    writer.flush()
    (root / 'foreign.txt').write_text('\n', encoding='utf-8')
    sources = {('foreign', 'foreign.txt', 0.0): 1.0, ('absent', 'absent.txt', 0.0): 9.0}
    for sequence in islice(Sequences(root, sources, LEFT_PAD + 50), 20):
        assert (sequence.tokens[1:] == PAD).all()
    both = sources | {('speech', 'sentences.txt', 0.0): 1.0}
    drawn = list(islice(Sequences(root, both, LEFT_PAD + 50), 40))
    assert sum(bool((sequence.tokens[1:] != PAD).any()) for sequence in drawn) > 10


def test_untranscribed_speech_has_no_targets(root):
    writer = ShardWriter(root / 'shards' / 'untranscribed0')
    writer.add(0, np.full(16000, -8000, np.int16), [])
    writer.flush()
    (root / 'untranscribed.txt').write_text('\n', encoding='utf-8')
    sources = {('speech', 'sentences.txt', 0.0): 1.0}
    drawn = list(islice(Sequences(root, sources, LEFT_PAD + 50, 0, ('untranscribed', 0.5)), 40))
    unknown = [sequence for sequence in drawn if (sequence.tokens == UNKNOWN).any()]
    assert 10 < len(unknown) < 30
    for sequence in unknown:
        prompt = 1 + LEFT_PAD + sequence.delay
        assert (sequence.tokens[1:prompt] == PAD).all()
        assert (sequence.tokens[prompt:] == UNKNOWN).all()
        assert sequence.samples.mean() < 50  # that of the transcribed speech is positive


def test_sequences_have_room_for_the_longest_delay(root):
    with pytest.raises(ValueError, match='take more than 62'):
        Sequences(root, {}, LEFT_PAD + 30)


def test_sequences_can_be_repeated_and_batched(root):
    def some():
        sources = {('speech', 'sentences.txt', 0.5): 1.0}
        return list(islice(Sequences(root, sources, LEFT_PAD + 50), 3))

    first, again = some(), some()
    for a, b in zip(first, again, strict=True):
        assert (a.samples == b.samples).all()
        assert (a.tokens == b.tokens).all()
    samples, tokens, delay = collate(first)
    assert samples.shape == (3, 50 * 1280)
    assert tokens.shape == (3, LEFT_PAD + 51)
    assert delay.tolist() == [one.delay for one in first]
