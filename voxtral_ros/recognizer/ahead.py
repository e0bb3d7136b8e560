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

"""Decoding silence after the audio of a stream, to be forgotten again."""

from __future__ import annotations

import numpy as np

from voxtral_ros.backends.base import Backend, Tokens
from voxtral_ros.model.protocol import StreamingProtocol
from voxtral_ros.recognizer.phrase_search import Choice
from voxtral_ros.recognizer.slot import Slot, Token


class Ahead:
    """
    What a stream writes if nobody says anything more.

    Words that are begun because they are expected are taken back here as they are in the stream:
    it starts once more from where it was saved, and repeats what came before them.
    """

    def __init__(self, backend: Backend, protocol: StreamingProtocol, slot: Slot) -> None:
        """Begin where the stream is; it must have been saved."""
        self._backend, self._protocol, self._slot = backend, protocol, slot
        self.n_decoded = 0
        self._max_tokens = backend.max_rollback_tokens
        # What waits is not for this: how much that is depends on how the audio was fed.
        self._audio = np.concatenate((slot.waiting_samples[:protocol.context], np.zeros(
            self._max_tokens * protocol.samples_per_token, np.float32)))
        self._search = slot.search and slot.search.ahead(_Steps(self))

    def decode(self, n_tokens: int) -> list[Token]:
        """
        Return what the next n tokens of silence bring, as far as there are places for them.

        They are more while a word is undecided.
        """
        end = min(self.n_decoded + n_tokens, self._max_tokens)
        tokens: list[Token] = []
        while True:
            holds = self._search is not None and self._search.holds
            if self.n_decoded < (self._max_tokens if holds else end):
                tokens += self._pass(1 if holds else end - self.n_decoded)
            elif self._search is not None and holds:
                tokens += self._search.give_up()
            else:
                return tokens

    def _pass(self, n_tokens: int) -> list[Token]:
        n_tokens = min(n_tokens, self._backend.max_chunk_tokens)
        search = self._search
        if search is None:
            return self._new_tokens(self._decode(n_tokens))
        n_tokens = min(n_tokens, search.max_pass_tokens)
        search.begin_pass(n_tokens)
        passed = self._decode(n_tokens)
        assert passed.unbiased is not None
        return search.take([Choice(*choice) for choice in zip(
            self._new_tokens(passed), passed.unbiased[0], strict=True)])

    def _new_tokens(self, passed: Tokens) -> list[Token]:
        first = self._slot.n_generated + self.n_decoded - len(passed.ids[0])
        return [Token(first + k, *token) for k, token in enumerate(
            zip(passed.ids[0], passed.probs[0], strict=True))]

    def _decode(self, n_tokens: int) -> Tokens:
        protocol = self._protocol
        start, stop = (n * protocol.samples_per_token
                       for n in (self.n_decoded, self.n_decoded + n_tokens))
        window = self._audio[start:stop + protocol.context]
        self.n_decoded += n_tokens
        return self._backend.decode([self._slot.index], window[None])

    def start_again(self, n_tokens: int, replaced: dict[int, tuple[int, int]]) -> None:
        """Go back to where the first n tokens are decoded, with some of them replaced."""
        self._backend.rollback(self._slot.index)
        self._backend.save(self._slot.index)  # it still looks ahead
        self.n_decoded = 0
        for end in sorted({n_tokens, *(n for n in replaced if n <= n_tokens)} - {0}):
            while self.n_decoded < end:
                self._decode(min(end - self.n_decoded, self._backend.max_chunk_tokens))
            if end in replaced:
                self._backend.replace_token(self._slot.index, *replaced[end])

    def replace_token(self, token: int, state: int) -> None:
        self._backend.replace_token(self._slot.index, token, state)


class _Steps:
    """A stream that looks ahead, for a PhraseSearch."""

    def __init__(self, ahead: Ahead) -> None:
        self._ahead = ahead
        self._saved = 0  # tokens ahead
        self._replaced: dict[int, tuple[int, int]] = {}  # after so many: token and state

    def save(self) -> None:
        self._saved = self._ahead.n_decoded

    def rollback(self) -> None:
        self._replaced = {n: choice for n, choice in self._replaced.items() if n <= self._saved}
        self._ahead.start_again(self._saved, self._replaced)

    def replace_token(self, token: int, state: int) -> None:
        self._replaced[self._saved] = token, state
        self._ahead.replace_token(token, state)

    def forget_saved(self) -> None:
        pass
