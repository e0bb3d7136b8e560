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

"""From screened logits to the token: the exact argmax of a 16-bit head at the price of INT4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from voxtral_ros.backends.cuda.gemm import gemm_logits
from voxtral_ros.backends.cuda.library import call, DTYPES, load
from voxtral_ros.backends.cuda.weights import PackedWeight

N_BEST = 64  # tokens whose logits are computed exactly
MAX_VOCABULARY = 1 << 18


@dataclass(frozen=True)
class Head:
    """The output head: INT4 to find candidates, 16 bits to compare them."""

    screen: PackedWeight  # INT4, [dim, vocabulary]
    table: Tensor | None  # [vocabulary, dim]; None: the screened logits are all there is
    special: Tensor  # int32, tokens that are always candidates
    pad: int

    @property
    def embedding(self) -> Tensor | PackedWeight:
        """Return what embeds tokens: the table, or the INT4 weight whose columns it is."""
        return self.screen if self.table is None else self.table


class Screened(NamedTuple):
    """Logits of the INT4 head, M T rows, and of every 64 of them maximum and sum."""

    values: Tensor  # float32 [M T, V]
    strip_max: Tensor  # float32 [M T, V / 64]
    strip_sum: Tensor  # of exp(logit - maximum), the same


def screened_logits(hidden: Tensor, head: Head) -> Screened:
    """
    Return the logits to find candidates by.

    :param hidden: [M, T, dim]
    """
    return Screened(*gemm_logits(hidden.flatten(0, 1), head.screen))


def argmax(hidden: Tensor, head: Head, slots: Tensor, pad_penalty: Tensor,
           last_token: Tensor | None = None, screened: Screened | None = None,
           out: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """
    Return the likeliest tokens, int64 [M, T], and their probabilities, float32 [M, T].

    Of equal logits the lowest id wins.

    :param hidden: [M, T, dim], what the head is applied to
    :param slots: int64 [M]
    :param pad_penalty: float32 [slots], subtracted from the logit of pad
    :param last_token: int64 [slots], set to the last token of each stream if given
    :param screened: the screened logits, if they are known already
    :param out: where to write the result; None allocates it
    """
    rows = hidden.flatten(0, 1)
    logits, top, total = screened or screened_logits(hidden, head)
    if not hidden.is_cuda:
        return _plain(hidden, logits, head, slots, pad_penalty, last_token)
    shape = hidden.shape[:2]
    token, probability = out or (torch.empty(shape, dtype=torch.int64, device=hidden.device),
                                 torch.empty(shape, device=hidden.device))
    scratch = torch.empty(len(rows), load().voxtral_argmax_scratch(), dtype=torch.uint8,
                          device=hidden.device)
    call('voxtral_argmax', DTYPES[hidden.dtype], logits, top, total, rows.contiguous(), head.table,
         head.special, len(head.special), head.pad, pad_penalty, slots, shape[1], token,
         probability, last_token, scratch, len(rows), head.screen.n, head.screen.k,
         device=hidden.device)
    return token, probability


def _plain(hidden: Tensor, logits: Tensor, head: Head, slots: Tensor, pad_penalty: Tensor,
           last_token: Tensor | None) -> tuple[Tensor, Tensor]:
    logits = logits.unflatten(0, hidden.shape[:2]).clone()  # [M, T, V]
    best = logits.argsort(dim=-1, descending=True, stable=True)[..., :N_BEST]
    special = head.special.long().expand(*hidden.shape[:2], -1)
    candidates = torch.cat((best, special), dim=-1)
    if head.table is not None:
        exact = torch.einsum('mtd,mtcd->mtc', hidden.float(), head.table[candidates].float())
        logits.scatter_(-1, candidates, exact)
    logits[..., head.pad] -= pad_penalty[slots, None]
    outside = torch.ones_like(logits, dtype=torch.bool).scatter_(-1, candidates, False)
    within = logits.masked_fill(outside, float('-inf'))
    winner = within.amax(dim=-1, keepdim=True)
    token = (within == winner).int().argmax(dim=-1)  # the first of equal ones
    if last_token is not None:
        last_token[slots] = token[:, -1]
    return token, (winner.squeeze(-1) - logits.logsumexp(dim=-1)).exp()
