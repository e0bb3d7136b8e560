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

"""The kernel that chooses again, where phrases are expected, against exact logits."""

import pytest
from support.cpu import random_trie
from support.cuda import DEVICES, DTYPES, head_on, make_head
import torch

from voxtral_ros.backends.cuda.argmax import argmax, Head
from voxtral_ros.backends.cuda.phrases import choose, Phrases

PAD, N_SLOTS, FIRST_TEXT = 32, 6, 1000


def run(hidden, head, device, tries, state=None, penalty=None, last=None):
    """Stream m is in slot N_SLOTS - 1 - m."""
    phrases = Phrases(N_SLOTS, torch.device(device))
    for slot, trie in tries.items():
        phrases.set(slot, trie)
    if state is not None:
        phrases.state[:] = state.to(device)
    slots = N_SLOTS - 1 - torch.arange(len(hidden), device=device)
    penalty = torch.zeros(N_SLOTS) if penalty is None else penalty
    last = None if last is None else last.to(device)
    ids, values = choose(hidden.to(device), head_on(device, head), slots, penalty.to(device),
                         phrases, last)
    return ids.cpu(), values.cpu(), phrases.state.cpu(), None if last is None else last.cpu()


def random_head(dtype, vocabulary=3072, width=512, table=True):
    torch.manual_seed(vocabulary)
    weight = torch.randn(vocabulary, width) / 8
    weight[:FIRST_TEXT] /= 8  # as rows of special tokens are that the model never writes
    head = make_head(weight.to(dtype))
    return head if table else Head(head.screen, None, head.special, head.pad)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('vocabulary', [2048, 131072])
@pytest.mark.parametrize('special', [0.0, 12.0])
def test_choices_are_those_of_the_exact_logits(device, dtype, vocabulary, special):
    head = random_head(dtype, vocabulary)
    # Of a large vocabulary there are few tokens with a bias, which needs to be larger.
    max_bias = 4.0 if vocabulary == 2048 else 12.0
    tries = {slot: random_trie(slot, 2048, max_bias=max_bias) for slot in range(1, N_SLOTS)}
    generator = torch.Generator().manual_seed(0)
    n_biased = 0
    for _ in range(12):
        hidden = torch.randn(N_SLOTS, 1, 512, generator=generator)
        # So that special tokens are often among the best.
        hidden += special * head.table[[2, PAD, 33]].float()[
            torch.randint(3, (N_SLOTS, 1), generator=generator)]
        hidden = hidden.to(dtype)
        state = torch.tensor([0] + [int(torch.randint(len(tries[slot].depth), (),
                                                      generator=generator))
                                    for slot in range(1, N_SLOTS)])
        penalty = torch.rand(N_SLOTS, generator=generator) * 4
        last = torch.full((N_SLOTS,), -1)
        ids, values, after, last = run(hidden, head, device, tries, state, penalty, last)
        exact = hidden.double() @ head.table.double().T
        for m, slot in enumerate(range(N_SLOTS - 1, -1, -1)):
            logits = exact[m, 0].clone()
            logits[PAD] -= penalty[slot]
            trie = tries.get(slot)
            plain = int(logits.argmax())
            token, probability = (plain, float(logits.softmax(-1)[plain])) if trie is None \
                else trie.choose(logits.numpy(), int(state[slot]))
            assert ids[:2, m, 0].tolist() == [token, plain]
            n_biased += token != plain
            assert last[slot] == token
            assert values[0, m, 0] == pytest.approx(probability, rel=0.1)
            assert values[2, m, 0] == pytest.approx(float(logits.max() - logits[token]), abs=0.01)
            if trie is not None:
                assert after[slot] == ids[2, m, 0] == trie.advance(int(state[slot]), token)
    assert n_biased > 1


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('table', [True, False])
def test_without_phrases_the_choice_is_that_of_argmax_bit_for_bit(device, table):
    head = random_head(torch.float16, table=table)
    hidden = torch.randn(4, 3, 512).half()
    slots = N_SLOTS - 1 - torch.arange(4, device=device)
    penalty = torch.zeros(N_SLOTS, device=device)
    token, probability = argmax(hidden.to(device), head_on(device, head), slots, penalty)
    ids, values, _, _ = run(hidden, head, device, {})
    assert ids[0].equal(token.cpu())
    assert ids[1].equal(token.cpu())
    assert values[0].equal(probability.cpu())
    assert values[1].equal(probability.cpu())
    assert not values[2].any()


@pytest.mark.parametrize('device', DEVICES)
def test_without_a_table_the_screened_logits_decide(device):
    head = random_head(torch.float16, table=False)
    hidden = torch.randn(4, 1, 512).half()
    tries = {slot: random_trie(slot, 3072) for slot in range(N_SLOTS)}
    found = run(hidden, head, device, tries)
    expected = run(hidden, head, 'cpu', tries)
    assert found[0].equal(expected[0])
    assert torch.allclose(found[1], expected[1], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize('device', DEVICES)
def test_all_positions_of_a_draft_are_in_the_same_state(device):
    """And neither state nor last token is set: that is up to what is accepted."""
    head = random_head(torch.float16)
    tries = {N_SLOTS - 1: random_trie(1, 3072)}
    state = torch.zeros(N_SLOTS, dtype=torch.int64)
    state[-1] = 2
    hidden = torch.randn(1, 5, 512).half()
    ids, _, after, _ = run(hidden, head, device, tries, state)
    assert after.equal(state)
    for t in range(5):
        alone, _, _, _ = run(hidden[:, t:t + 1], head, device, tries, state)
        assert alone[:, :, 0].equal(ids[:, :, t])


@pytest.mark.parametrize('device', DEVICES)
def test_slots_that_expect_the_same_share_its_memory(device):
    phrases, trie, other = Phrases(3, torch.device(device)), random_trie(0, 2048), \
        random_trie(1, 2048)
    phrases.set(0, trie)
    phrases.set(1, trie)
    assert phrases.table[0].equal(phrases.table[1])
    phrases.set(0, other)
    assert not phrases.table[0].equal(phrases.table[1])
    phrases.set(0, None)
    phrases.set(1, None)
    assert not phrases.table.any()
    assert not phrases._arrays
