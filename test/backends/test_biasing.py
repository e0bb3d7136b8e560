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

"""Tries of phrases: which tokens they expect, and what becomes of the logits."""

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from voxtral_ros.backends.biasing import Expected, TokenTrie

FIRST_TEXT = 3
TOKENS = st.integers(FIRST_TEXT, 7)
SEQUENCES = st.lists(st.lists(TOKENS, min_size=1, max_size=4), min_size=1, max_size=6)


def trie_of(sequences, bias=1.0, inside=False):
    return TokenTrie.build([
        [Expected(token, bias * (n + 1), inside and n < len(tokens) - 1, n == len(tokens) - 1)
         for n, token in enumerate(tokens)] for tokens in sequences], FIRST_TEXT)


def longest_match(sequences, written):
    """Return the longest end of what was written that begins one of the sequences."""
    for length in range(len(written), 0, -1):
        end = written[len(written) - length:]
        if any(tokens[:length] == end for tokens in sequences):
            return end
    return []


@given(SEQUENCES, st.lists(st.integers(0, 7), max_size=12))
def test_a_stream_is_in_the_state_of_its_longest_match(sequences, tokens):
    trie = trie_of(sequences)
    state, written = 0, []
    for token in tokens:
        state = trie.advance(state, token)
        written += [token] if token >= FIRST_TEXT else []
        match = longest_match(sequences, written)
        assert trie.depth[state] == len(match)
        assert trie.ends[state] == (match in sequences)
        # Every token that would continue any match has a bias, the largest of those.
        expected = {}
        for length in range(len(match) + 1):
            end = match[len(match) - length:]
            for sequence in sequences:
                if sequence[:length] == end and len(sequence) > length:
                    expected[sequence[length]] = max(length + 1.0,
                                                     expected.get(sequence[length], 0))
        found = dict.fromkeys(trie.token[trie.entries(0)].tolist(), 1.0)
        where = trie.entries(state)
        found |= dict(zip(trie.token[where].tolist(), trie.bias[where].tolist(), strict=True))
        assert found == expected


@given(SEQUENCES, st.lists(TOKENS, max_size=5), st.integers(0, 9999), st.floats(0, 8))
def test_a_bias_chooses_between_words_and_makes_none_of_silence(sequences, written, seed, bias):
    trie = trie_of(sequences, bias or 1.0)
    state = 0
    for token in written:
        state = trie.advance(state, token)
    logits = np.random.default_rng(seed).normal(0, 3, 8)
    probabilities = np.exp(logits) / np.exp(logits).sum()
    token, probability = trie.choose(logits, state)
    plain = int(logits.argmax())
    if token != plain:
        tokens, biases = trie.biases(state)
        assert token in tokens
        biased = dict(zip(tokens.tolist(), logits[tokens] + biases, strict=True))
        assert biased[token] == max(biased.values())
        assert plain < FIRST_TEXT or biased[token] > logits[plain]
        # Text as a whole is likelier than each special token.
        assert probabilities[FIRST_TEXT:].sum() > probabilities[:FIRST_TEXT].max()
        assert probabilities[token] < probability <= probabilities[FIRST_TEXT:].sum()
    elif plain < FIRST_TEXT:
        assert probability == pytest.approx(probabilities[plain])


def test_inside_of_a_word_only_what_continues_it_has_a_bias_also_against_silence():
    trie = trie_of([[3, 4, 5], [6, 7]], 2.0, inside=True)
    state = trie.advance(0, 3)
    assert [part.tolist() for part in trie.biases(state)] == [[4], [4.0]]
    logits = np.array([0, 3.0, 0, 0, 0, 0, 1.5, 0])
    assert trie.choose(logits, state)[0] == 4
    assert trie.choose(logits, 0)[0] == 1


def test_the_largest_bias_of_a_token_counts():
    trie = TokenTrie.build([[Expected(4, 1.0, False, True)], [Expected(4, 3.0, False, True)],
                            [Expected(4, 2.0, False, True)]], FIRST_TEXT)
    assert trie.bias.tolist() == [3.0]


def test_without_a_bias_there_is_no_trie():
    assert trie_of([[3, 4]], 0.0) is None
    assert TokenTrie.build([], FIRST_TEXT) is None


def test_a_transparent_token_breaks_nothing_off():
    sequence = [Expected(3, 1.0, False, False), Expected(4, 2.0, False, True)]
    trie = TokenTrie.build([sequence], FIRST_TEXT, [7])
    state = trie.advance(0, 3)
    assert trie.advance(state, 7) == state
    assert trie.ends[trie.advance(trie.advance(state, 7), 4)]
    assert trie.advance(0, 7) == 0
