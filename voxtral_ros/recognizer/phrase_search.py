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

"""
Words that are written because a phrase is expected, and taken back if they do not come true.

The bias of a phrase lets the model begin a word that it would not have begun. Whether that was
right shows in the tokens that follow. So the tokens of such a word are held, until

- the word is complete, and was not too unlikely as a whole: then they are given away;
- or not: then the stream is taken back to where the word began, goes on with the token that it
  would have had without phrases, and processes the audio since then again.

Nothing has to be taken back from who reads the text, and a word comes later by as many tokens as
it has. This is a beam search over two hypotheses, of which one is looked at after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import sys
from typing import Protocol, TYPE_CHECKING

from voxtral_ros.backends.base import Backend, Unbiased
from voxtral_ros.backends.biasing import TokenTrie
from voxtral_ros.recognizer.slot import Token

if TYPE_CHECKING:
    from voxtral_ros.recognizer.slot import Slot

_MAX_HELD = 24  # tokens: what is longer and has not been broken off is believed
_MAX_PAUSE = 8  # tokens between two words of a phrase


@dataclass(frozen=True)
class Choice:
    """A token as it was generated, and what it would be if no phrases were expected."""

    token: Token
    unbiased: Unbiased


@dataclass
class _Word:
    """A word that is written because it is expected."""

    origin: Choice  # of its first token that would be another one without phrases
    state_before: int  # of the trie, before that token
    cost: float  # so far: how much less likely it is than what would have been written, in logits
    tokens: list[Token]
    n_pause: int = 0  # tokens without text at the end


class Steps(Protocol):
    """A stream that can be taken back."""

    def save(self) -> None:
        """Remember this place."""

    def rollback(self) -> None:
        """Go back there."""

    def replace_token(self, token: int, state: int) -> None:
        """Go on with another token than the last one, and in another state of the trie."""

    def forget_saved(self) -> None:
        """Note that nobody will go back."""


class StreamSteps:
    """A stream of the engine: its state in the backend, and its audio."""

    def __init__(self, backend: Backend, slot: Slot) -> None:
        self._backend, self._slot = backend, slot

    def save(self) -> None:
        self._backend.save(self._slot.index)
        self._slot.save()

    def rollback(self) -> None:
        self._backend.rollback(self._slot.index)
        self._slot.rollback()

    def replace_token(self, token: int, state: int) -> None:
        self._backend.replace_token(self._slot.index, token, state)

    def forget_saved(self) -> None:
        self._slot.forget_saved()


class PhraseSearch:
    """Follows the phrases that one stream expects."""

    def __init__(self, steps: Steps, trie: TokenTrie, state: int = 0) -> None:
        """
        Begin in a state of the trie.

        :param steps: the stream
        """
        self.n_taken_back = 0  # words
        self._steps, self._trie = steps, trie
        self._state = state  # as the backend's, after the last token
        self._word: _Word | None = None
        self._n_single = 0  # tokens that have to be passed one by one

    def ahead(self, steps: Steps) -> PhraseSearch:
        """Return another one that goes on from here, with a stream that looks ahead."""
        return PhraseSearch(steps, self._trie, self._state)

    @property
    def holds(self) -> bool:
        """Return whether there are tokens that may still be taken back."""
        return self._word is not None

    @property
    def max_pass_tokens(self) -> int:
        return 1 if self._word or self._n_single else sys.maxsize

    def begin_pass(self, n_tokens: int) -> None:
        """Remember where the stream is, if one pass may go too far."""
        if n_tokens > 1:
            self._steps.save()

    def take(self, choices: Sequence[Choice]) -> list[Token]:
        """
        Take the tokens of one pass; return those that are certain now.

        The stream may be taken back to an earlier place.
        """
        self._n_single = max(0, self._n_single - 1)
        tokens = self._take_many(choices) if len(choices) > 1 \
            else [token for choice in choices for token in self._take(choice)]
        if not self._word:
            self._steps.forget_saved()
        return tokens

    def give_up(self) -> list[Token]:
        """Take back what is not complete now; the audio since then waits again."""
        tokens = [self._take_back(self._word)] if self._word else []
        self._steps.forget_saved()
        return tokens

    # ---- inside ----

    def _accept(self) -> list[Token]:
        word, self._word = self._word, None
        return word.tokens if word else []

    def _take_many(self, choices: Sequence[Choice]) -> list[Token]:
        """Take the tokens of a long pass, or repeat it token by token if one must be held."""
        state = self._state
        for choice in choices:
            state = self._trie.advance(state, choice.token.id)
            if self._must_hold(choice, state):
                self._steps.rollback()
                self._n_single = len(choices)
                return []
        self._state = state
        return [choice.token for choice in choices]

    def _must_hold(self, choice: Choice, state: int) -> bool:
        """Return whether a token may have to be taken back, which leads to this state."""
        return choice.unbiased.cost > 0 and state > 0 and not self._trie.ends[state]

    def _take(self, choice: Choice) -> list[Token]:
        trie, before, word = self._trie, self._state, self._word
        self._state = after = trie.advance(before, choice.token.id)
        if word is None:
            if not self._must_hold(choice, after):
                return [choice.token]
            self._steps.save()
            self._word = _Word(choice, before, choice.unbiased.cost, [choice.token])
            return []
        word.tokens.append(choice.token)
        word.cost += choice.unbiased.cost
        is_text = choice.token.id >= trie.first_text
        goes_on = trie.depth[after] > trie.depth[before] \
            or (after == before and not trie.inside[after])  # a pad, or a comma
        word.n_pause = 0 if is_text else word.n_pause + 1
        if not goes_on or word.cost > trie.budget[after] or word.n_pause > _MAX_PAUSE:
            return [self._take_back(word)]
        if trie.ends[after] or len(word.tokens) == _MAX_HELD:
            return self._accept()
        return []

    def _take_back(self, word: _Word) -> Token:
        """Go on from where a word began, with another token; return that."""
        token = word.origin.unbiased.id
        self._word = None
        self.n_taken_back += 1
        self._state = self._trie.advance(word.state_before, token)
        self._steps.rollback()
        self._steps.replace_token(token, self._state)
        return Token(word.origin.token.index, token, word.origin.unbiased.probability)
