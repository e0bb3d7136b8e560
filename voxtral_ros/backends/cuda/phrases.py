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

"""Tokens of phrases that streams expect: the choice of argmax, made once more with a bias."""

from __future__ import annotations

import torch
from torch import Tensor

from voxtral_ros.backends.biasing import TokenTrie
from voxtral_ros.backends.cuda.argmax import argmax, Head, screened_logits
from voxtral_ros.backends.cuda.library import call, DTYPES

_FIELDS = ('begin', 'token', 'next', 'bias', 'inside')


class Phrases:
    """What each slot expects, on the device."""

    def __init__(self, n_slots: int, device: torch.device) -> None:
        """Expect nothing."""
        self.tries: dict[int, TokenTrie] = {}  # of slots
        self.state = torch.zeros(n_slots, dtype=torch.int64, device=device)
        # The addresses of the arrays of each slot, as in kernels/cuda/phrases.cu.
        self.table = torch.zeros(n_slots, len(_FIELDS) + 1, dtype=torch.int64, device=device)
        self._arrays: dict[int, tuple[TokenTrie, list[Tensor]]] = {}

    def set(self, slot: int, trie: TokenTrie | None) -> None:  # noqa: A003
        """Let a slot expect other phrases, or None; it is where no phrase is begun."""
        self.state[slot] = 0
        self.tries.pop(slot, None)
        if trie is None:
            self.table[slot] = 0
        else:
            arrays = self._on_device(trie)
            self.tries[slot] = trie
            self.table[slot] = torch.tensor(
                [*(array.data_ptr() for array in arrays), trie.first_text])
        used = {id(trie) for trie in self.tries.values()}
        self._arrays = {key: value for key, value in self._arrays.items() if key in used}

    def _on_device(self, trie: TokenTrie) -> list[Tensor]:
        """Return the arrays of a trie; slots that expect the same share them."""
        if id(trie) not in self._arrays:
            self._arrays[id(trie)] = trie, [
                torch.from_numpy(getattr(trie, name)).to(self.state.device) for name in _FIELDS]
        return self._arrays[id(trie)][1]


def choose(hidden: Tensor, head: Head, slots: Tensor, pad_penalty: Tensor, phrases: Phrases,
           last_token: Tensor | None) -> tuple[Tensor, Tensor]:
    """
    Return the likeliest tokens, with the biases of what the streams expect and without.

    As `argmax`, whose parameters are explained there; where `last_token` is given, the states of
    the phrases are set as well.

    :return: int64 [3, M, T]: tokens, tokens without phrases, and the state after each token;
        float32 [3, M, T]: the probabilities of both, and how much larger the logit of the second
    """
    ids = torch.empty(3, *hidden.shape[:2], dtype=torch.int64, device=hidden.device)
    values = torch.empty(3, *hidden.shape[:2], device=hidden.device)
    logits = screened_logits(hidden, head)
    plain = argmax(hidden, head, slots, pad_penalty, last_token, logits, (ids[0], values[0]))
    if not hidden.is_cuda:
        ids[0], values[0] = plain
        _plain(hidden, head, slots, pad_penalty, phrases, last_token, ids, values)
        return ids, values
    rows = hidden.flatten(0, 1)
    call('voxtral_expect', DTYPES[hidden.dtype], logits.values, rows.contiguous(), head.table,
         head.special, len(head.special), head.pad, pad_penalty, slots, hidden.shape[1],
         phrases.table, phrases.state, last_token, ids, values, len(rows), head.screen.n,
         head.screen.k, device=hidden.device)
    return ids, values


def _plain(hidden: Tensor, head: Head, slots: Tensor, pad_penalty: Tensor, phrases: Phrases,
           last_token: Tensor | None, ids: Tensor, values: Tensor) -> None:
    """Do the same on the host, with logits that are exact, or all of them screened."""
    ids[1], ids[2], values[1], values[2] = ids[0], 0, values[0], 0
    logits = hidden.float() @ head.table.float().T if head.table is not None \
        else screened_logits(hidden, head).values.view(*hidden.shape[:2], -1)
    for m, slot in enumerate(slots.tolist()):
        trie, state = phrases.tries.get(slot), int(phrases.state[slot])
        if trie is None:
            continue
        for t in range(hidden.shape[1]):
            row = logits[m, t].double().numpy().copy()
            row[head.pad] -= float(pad_penalty[slot])
            token, values[0, m, t] = trie.choose(row, state)
            ids[0, m, t], ids[2, m, t] = token, trie.advance(state, token)
            values[2, m, t] = row[ids[1, m, t]] - row[token]
        if last_token is not None:
            last_token[slot], phrases.state[slot] = ids[0, m, -1], ids[2, m, -1]
