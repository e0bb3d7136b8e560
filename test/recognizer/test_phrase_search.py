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

"""Words that are begun because they are expected: held, believed or taken back."""

from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from voxtral_ros.backends.base import Tokens, Unbiased
from voxtral_ros.backends.biasing import Expected, TokenTrie
from voxtral_ros.backends.rollback import SavedStreams
from voxtral_ros.model.config import AudioConfig
from voxtral_ros.model.tokenizer import Tokenizer
from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.recognizer.phrase_search import PhraseSearch, StreamSteps

PAD, WORD, FIRST_TEXT = 32, 33, 40
A, B, C, D, E, F = range(FIRST_TEXT, FIRST_TEXT + 6)
SIZE = FIRST_TEXT + 6


class ScriptedBackend:
    """A network whose logits are a function of the position and of the last token."""

    device, speculative, max_rollback_tokens = 'cpu', None, 32

    def __init__(self, logits, max_chunk_tokens=1):
        self.max_streams, self.max_chunk_tokens = 1, max_chunk_tokens
        self.n_positions = 0  # that were passed
        self._logits, self._trie = logits, None
        self.position, self.last, self.state = (np.zeros(1, np.int64) for _ in range(3))
        self._saved = SavedStreams((self.position, self.last, self.state))

    def reset(self, slot, delay):
        self.position[0] = self.last[0] = 0
        self.set_phrases(slot, None)

    def set_pad_penalty(self, slot, penalty):
        pass

    def set_phrases(self, slot, trie):
        self._trie, self.state[0] = trie, 0
        self._saved.forget(slot)

    def replace_token(self, slot, token, phrase_state):
        self.last[0], self.state[0] = token, phrase_state

    def save(self, slot):
        self._saved.save(slot)

    def rollback(self, slot):
        self._saved.rollback(slot)

    def prefill(self, slots, windows, prompt_tokens):
        n_tokens = len(prompt_tokens[0])
        self.position += n_tokens - 1
        self.last[0] = self.state[0] = 0
        return self.decode(slots, windows[:, :1520])

    def decode(self, slots, windows):
        n_tokens = (windows.shape[1] - 240) // 1280
        self._saved.count(slots, n_tokens)
        choices = [self._choose() for _ in range(n_tokens)]
        ids, probs, unbiased = ([list(part)] for part in zip(*choices, strict=True))
        return Tokens(ids, probs, unbiased if self._trie else None)

    def _choose(self):
        self.n_positions += 1
        logits = self._logits(int(self.position[0]), int(self.last[0]))
        self.position += 1
        plain = int(logits.argmax())
        state = int(self.state[0])
        token = self._trie.choose(logits, state)[0] if self._trie else plain
        if self._trie:
            self.state[0] = self._trie.advance(state, token)
        self.last[0] = token
        return token, 1.0, Unbiased(plain, 0.5, float(logits[plain] - logits[token]))


def opened(logits, trie, max_chunk_tokens=1):
    """Return an engine and a slot of it that expects phrases."""
    tokenizer = Tokenizer([b'x'] * 6, FIRST_TEXT)
    backend = ScriptedBackend(logits, max_chunk_tokens)
    engine = Engine(backend, tokenizer, AudioConfig())
    slot = engine.take_slot(1)
    if trie:
        backend.set_phrases(0, trie)
        slot.search = PhraseSearch(StreamSteps(backend, slot), trie)
    return engine, slot


def tokens_of(logits, trie, n_tokens=24, max_chunk_tokens=1):
    """Return what one stream writes, the backend, its search, and how long the prompt is."""
    engine, slot = opened(logits, trie, max_chunk_tokens)
    n_prompt = len(engine.protocol.prompt_tokens(1))
    assert n_prompt <= 40
    slot.feed(np.zeros(1280 * (n_tokens + 40), np.float32))
    while slot.n_generated < n_tokens + 8 and engine.step():
        pass
    tokens = list(slot.tokens)
    assert [token.index for token in tokens] == list(range(len(tokens)))
    return [token.id for token in tokens[:n_tokens]], engine.backend, slot.search, n_prompt


def script(steps):
    """Return logits: at position k, after each last token (None: any), what each token has."""
    def logits(position, last):
        row = np.full(SIZE, -20.0)
        row[PAD] = 0.0
        for token, value in (steps.get((position, last)) or steps.get((position, None)) or {}
                             ).items():
            row[token] = value
        return row
    return logits


def phrase(*tokens, bias=3.0, words=1):
    """Return a phrase of words of one length."""
    size = len(tokens) // words
    return [Expected(token, bias, (n + 1) % size > 0, n == len(tokens) - 1)
            for n, token in enumerate(tokens)]


def trie_of(*phrases, transparent=()):
    return TokenTrie.build(phrases, FIRST_TEXT, transparent)


def first_position():
    """Return the position of the first token that a stream writes."""
    return tokens_of(script({}), None)[3] - 1


P = first_position()
# What is said sounds like D; A B C is almost as likely.
SAID_ABC = {(P + 2, None): {D: 5.0, A: 3.0}, (P + 3, A): {B: 4.0, E: 1.0},
            (P + 4, B): {C: 4.0, F: 1.0}, (P + 3, D): {PAD: 2.0}}
# And here it begins as likely, but does not go on so.
SAID_D = {(P + 2, None): {D: 5.0, A: 3.0}, (P + 3, A): {E: 9.0, B: 1.0}, (P + 3, D): {F: 4.0}}


def test_a_phrase_that_comes_true_is_written():
    tokens = tokens_of(script(SAID_ABC), trie_of(phrase(A, B, C)))[0]
    assert tokens[:6] == [PAD, PAD, A, B, C, PAD]
    assert tokens_of(script(SAID_ABC), None)[0][:4] == [PAD, PAD, D, PAD]


def test_a_phrase_that_breaks_off_is_taken_back_and_its_time_processed_again():
    tokens, _, search, _ = tokens_of(script(SAID_D), trie_of(phrase(A, B, C)))
    assert tokens[:5] == [PAD, PAD, D, F, PAD]
    assert tokens == tokens_of(script(SAID_D), None)[0]
    assert search.n_taken_back == 1
    assert not search.holds


def test_a_phrase_that_is_too_unlikely_as_a_whole_is_taken_back():
    steps = {(P + 2, None): {D: 5.0, A: 3.0}, (P + 3, A): {E: 5.0, B: 3.0},
             (P + 3, D): {F: 4.0}}
    assert tokens_of(script(steps), trie_of(phrase(A, B)))[0][2:4] == [D, F]  # costs 4, has 3
    assert tokens_of(script(steps), trie_of(phrase(A, B, bias=4.5)))[0][2:4] == [A, B]


@pytest.mark.parametrize('special', [PAD, WORD])
def test_a_pause_inside_of_a_word_breaks_it_off(special):
    steps = {(P + 2, None): {D: 5.0, A: 3.0}, (P + 3, A): {special: 9.0}, (P + 3, D): {F: 4.0}}
    assert tokens_of(script(steps), trie_of(phrase(A, B)))[0][2:4] == [D, F]


def test_a_pause_between_the_words_of_a_phrase_does_not():
    steps = {(P + 2, None): {D: 5.0, A: 3.0}, (P + 5, None): {WORD: 2.0}, (P + 6, None): {B: 4.0}}
    trie = trie_of(phrase(A, B, words=2))
    assert tokens_of(script(steps), trie)[0][2:8] == [A, PAD, PAD, WORD, B, PAD]


def test_a_long_pause_between_the_words_of_a_phrase_breaks_it_off():
    steps = {(P + 2, None): {D: 5.0, A: 3.0}, (P + 14, None): {B: 4.0}}
    tokens = tokens_of(script(steps), trie_of(phrase(A, B, words=2)))[0]
    assert tokens[2] == D
    assert tokens[14] == B


def test_a_comma_between_the_words_of_a_phrase_does_not_break_it_off():
    steps = {(P + 2, None): {D: 5.0, A: 3.0}, (P + 3, None): {F: 4.0}, (P + 4, None): {B: 4.0}}
    trie = trie_of(phrase(A, B, words=2), transparent=[F])
    assert tokens_of(script(steps), trie)[0][2:5] == [A, F, B]


def test_a_phrase_of_one_token_is_not_held():
    tokens, _, search, _ = tokens_of(script(SAID_ABC), trie_of(phrase(A)))
    assert tokens[2] == A
    assert search.n_taken_back == 0


def test_a_phrase_that_is_written_anyway_is_not_held():
    steps = {(P + 2, None): {A: 5.0}, (P + 3, A): {E: 5.0, B: -5.0}}
    tokens, _, search, _ = tokens_of(script(steps), trie_of(phrase(A, B)))
    assert tokens[2:4] == [A, E]
    assert search.n_taken_back == 0


def test_silence_stays_silence():
    """A bias chooses between words; it makes none of a pad."""
    steps = {(P + 2, None): {PAD: 5.0, A: 4.5, B: 1.0}}
    assert tokens_of(script(steps), trie_of(phrase(A, bias=10.0)))[0][2] == PAD


def random_logits(seed, position, last):
    rng = np.random.default_rng((seed, position, last))
    logits = np.full(SIZE, -30.0)
    logits[[PAD, WORD, *range(FIRST_TEXT, SIZE)]] = rng.normal(0, 2, 8)
    return logits


PHRASES = st.lists(st.tuples(st.lists(st.integers(FIRST_TEXT, SIZE - 1), min_size=1, max_size=5),
                             st.floats(0.5, 6), st.booleans()), min_size=1, max_size=4)


@settings(deadline=None)
@given(st.integers(0, 1 << 30), PHRASES, st.integers(2, 9))
def test_what_is_written_does_not_depend_on_the_length_of_passes(seed, phrases, max_chunk_tokens):
    logits = partial(random_logits, seed)
    trie = trie_of(*(phrase(*tokens, bias=bias, words=len(tokens) if apart else 1)
                     for tokens, bias, apart in phrases))
    one, backend, _, _ = tokens_of(logits, trie)
    many, _, _, _ = tokens_of(logits, trie, max_chunk_tokens=max_chunk_tokens)
    shortest = min(len(one), len(many))
    assert one[:shortest] == many[:shortest]
    # Every word is looked at twice at most; so no stream falls behind for ever.
    assert backend.n_positions < 12 * 80


@settings(deadline=None)
@given(st.integers(0, 1 << 30), PHRASES)
def test_every_token_is_the_network_s_own_or_of_a_phrase(seed, phrases):
    """What differs from the choice without phrases is a token of one of the phrases."""
    logits = partial(random_logits, seed)
    tokens, _, _, n_prompt = tokens_of(logits, trie_of(*(
        phrase(*tokens, bias=bias) for tokens, bias, _ in phrases)))
    last = tokens[0]
    expected = {token for tokens, _, _ in phrases for token in tokens}
    for position, token in enumerate(tokens[1:], n_prompt):
        plain = int(logits(position, last).argmax())
        assert token == plain or token in expected
        last = token


@settings(deadline=None)
@given(st.integers(0, 1 << 30), PHRASES, st.integers(1, 9), st.integers(0, 12),
       st.lists(st.integers(1, 10), min_size=1, max_size=4))
def test_a_look_ahead_finds_what_will_be_written(seed, phrases, max_chunk_tokens, n_before, looks):
    """With words begun and taken back as the stream itself will do it; and leaves no trace."""
    logits = partial(random_logits, seed)
    trie = trie_of(*(phrase(*tokens, bias=bias, words=len(tokens) if apart else 1)
                     for tokens, bias, apart in phrases))
    engine, slot = opened(logits, trie, max_chunk_tokens)
    slot.feed(np.zeros(1280 * (32 + 40 + n_before), np.float32))
    slot.max_pass_tokens = 1
    while slot.n_generated <= n_before or slot.search.holds:
        engine.step()
    first = len(slot.tokens)
    with engine.looking_ahead(slot) as decode:
        ahead = [token for n_tokens in looks for token in decode(n_tokens)]
    assert len(ahead) >= min(sum(looks), 20)
    assert [token.index for token in ahead] == list(range(first, first + len(ahead)))
    slot.feed(np.zeros(1280 * 80, np.float32))
    while len(slot.tokens) < first + len(ahead):
        engine.step()
    found = list(slot.tokens)[first:first + len(ahead)]
    # Where the look ends, a word may be undecided.
    assert [token.id for token in ahead[:20]] == [token.id for token in found[:20]]
