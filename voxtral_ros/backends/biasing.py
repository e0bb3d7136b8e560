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
Biasing of tokens: which ones are expected after those that were written, and how much.

The tokens of all phrases are a trie; with a way back from where a phrase breaks off to the longest
end of it that begins another one (Aho and Corasick), it is an automaton. A stream is in one of its
states. In each state some tokens have a bias, which is added to their logits.

A token with a bias takes the place of the likeliest one if it is likelier with its bias. Where no
word is begun, the bias moves probability from some words to others and never from silence to
words: what tokens with a bias gain, all text tokens lose together before they are compared with
pad and the other special tokens. Inside of a word of a phrase, only the tokens that continue it
have a bias, and they have it against special tokens, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Expected(NamedTuple):
    """A token of a phrase."""

    token: int
    bias: float  # logits; and as much less likely than other text the phrase may be up to here
    inside: bool  # its word goes on with the next token
    ends: bool  # the phrase


@dataclass(frozen=True, eq=False)
class TokenTrie:
    """
    States from 0, which is where no phrase is begun, and of each the tokens that have a bias.

    Tokens below `first_text` are special: none of them has a bias or leads to another state. What
    is not listed in a state is as in state 0, and leads there.
    """

    first_text: int
    begin: Array  # int32 [n_states + 1], of the entries of each state
    token: Array  # int32 [n_entries], ascending in each state
    bias: Array  # float32 [n_entries], logits
    next: Array  # noqa: A003  # int32 [n_entries], states
    depth: Array  # int32 [n_states], tokens since the phrase began
    inside: Array  # bool [n_states], whether a word is begun and not complete
    budget: Array  # float32 [n_states]
    ends: Array  # bool [n_states], whether a phrase ends there

    @classmethod
    def build(cls, sequences: Iterable[Sequence[Expected]], first_text: int,
              transparent: Sequence[int] = ()) -> TokenTrie | None:
        """
        Make a trie of token sequences; None if no token has a bias.

        Where sequences share a token, its largest bias counts.

        :param transparent: tokens that break no sequence off where they come in between
        """
        nodes = [_Node()]
        for sequence in sequences:
            if any(expected.bias for expected in sequence):
                _insert(nodes, sequence)
        if len(nodes) == 1:
            return None
        entries = [sorted(items.items()) for items in _with_ways_back(nodes, transparent)]
        flat = [(token, *entry) for items in entries for token, entry in items]
        token, bias, following = zip(*flat, strict=True)
        return cls(first_text, np.cumsum([0, *map(len, entries)], dtype=np.int32),
                   np.array(token, np.int32), np.array(bias, np.float32),
                   np.array(following, np.int32),
                   np.array([node.depth for node in nodes], np.int32),
                   np.array([node.inside for node in nodes]),
                   np.array([node.budget for node in nodes], np.float32),
                   np.array([node.ends for node in nodes]))

    def entries(self, state: int) -> slice:
        """Return where the entries of a state are."""
        return slice(int(self.begin[state]), int(self.begin[state + 1]))

    def advance(self, state: int, token: int) -> int:
        """Return the state after a token."""
        if token < self.first_text:
            return state
        for from_state in (state, 0):
            where = self.entries(from_state)
            at = where.start + int(np.searchsorted(self.token[where], token))
            if at < where.stop and self.token[at] == token:
                return int(self.next[at])
        return 0

    def biases(self, state: int) -> tuple[Array, Array]:
        """Return the tokens that have a bias in a state, ascending, and their biases."""
        where = self.entries(state)
        tokens, biases = self.token[where], self.bias[where]
        if self.inside[state] or state == 0:
            return tokens, biases
        where = self.entries(0)
        # Of a token that both have, the entry of the state comes first and is taken.
        tokens, first = np.unique(np.concatenate((tokens, self.token[where])), return_index=True)
        return tokens, np.concatenate((biases, self.bias[where]))[first]

    def choose(self, logits: Array, state: int) -> tuple[int, float]:
        """
        Return the token that a stream writes in a state, and its probability.

        :param logits: [vocabulary]
        """
        logits = logits.astype(np.float64)
        unbiased = int(logits.argmax())
        likelihood = np.exp(logits - logits[unbiased])
        total = likelihood.sum()
        tokens, biases = self.biases(state)
        if not len(tokens):
            return unbiased, float(1 / total)
        biased = likelihood[tokens] * np.exp(biases)
        best = int(biased.argmax())
        gain = (biased - likelihood[tokens]).sum()
        value = float(biased[best])
        is_best_text = unbiased < self.first_text or value > 1 or tokens[best] == unbiased
        if not self.inside[state]:
            text = max(likelihood[self.first_text:].sum(), np.finfo(float).tiny)
            value *= text / (text + gain)
        if is_best_text and value > likelihood[:self.first_text].max():
            return int(tokens[best]), float(value / (total + gain * self.inside[state]))
        return unbiased, float(1 / total)

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in (self.begin, self.token, self.bias, self.next))


@dataclass
class _Node:
    depth: int = 0
    inside: bool = False
    budget: float = 0.0
    ends: bool = False
    children: dict[int, int] = field(default_factory=dict)  # token -> node
    bias: dict[int, float] = field(default_factory=dict)  # of these tokens


def _insert(nodes: list[_Node], sequence: Sequence[Expected]) -> None:
    node = nodes[0]
    for token, bias, inside, ends in sequence:
        if token not in node.children:
            node.children[token] = len(nodes)
            nodes.append(_Node(node.depth + 1, True))
        node.bias[token] = max(bias, node.bias.get(token, 0.0))
        node = nodes[node.children[token]]
        node.inside &= inside
        node.budget = max(node.budget, bias)
        node.ends |= ends


def _with_ways_back(nodes: list[_Node], transparent: Sequence[int],
                    ) -> list[dict[int, tuple[float, int]]]:
    """Return of each node: token -> bias and next node, those of shorter matches included."""
    entries: list[dict[int, tuple[float, int]]] = [{} for _ in nodes]
    back = [0] * len(nodes)  # the longest proper end of each node that is a node
    queue = deque([0])
    while queue:  # breadth first: shorter ones are complete before longer ones need them
        at = queue.popleft()
        node, shorter = nodes[at], entries[back[at]] if back[at] else {}
        entries[at].update(shorter)
        for token, child in node.children.items():
            bias = max(node.bias[token], shorter.get(token, (0.0, 0))[0],
                       nodes[0].bias.get(token, 0.0))
            back[child] = shorter.get(token, (0.0, nodes[0].children.get(token, 0)))[1] \
                if at else 0
            entries[at][token] = bias, child
            queue.append(child)
        if at and node.children:
            entries[at].update((token, (0.0, at)) for token in transparent
                               if token not in node.children)
    return entries
