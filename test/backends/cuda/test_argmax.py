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

"""Argmax of the screened head: the token that the whole 16-bit head would give."""

import math

import pytest
from support.cuda import DEVICES, DTYPES, head_on, make_head
import torch

from voxtral_ros.backends.cuda.argmax import argmax, Head


def run(hidden, head, device, penalty=None, last=None):
    m = len(hidden)
    penalty = torch.zeros(m) if penalty is None else penalty
    slots = torch.arange(m).flip(0)
    token, probability = argmax(hidden.to(device), head_on(device, head), slots.to(device),
                                penalty.to(device), last)
    return token.cpu(), probability.cpu()


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize(
    ('vocabulary', 'width'), [(64, 512), (3072, 512), (16384, 512), (131072, 128)])
def test_argmax_is_that_of_the_whole_head(device, dtype, vocabulary, width):
    torch.manual_seed(vocabulary)
    table = (torch.randn(vocabulary, width) / 20).to(dtype)
    head = make_head(table)
    hidden = torch.randn(50, 2, width).to(dtype)
    exact = hidden.double() @ table.double().T
    token, probability = run(hidden, head, device)
    assert torch.equal(token, exact.argmax(-1))
    # What was not computed exactly is a small part of the sum.
    expected = exact.softmax(-1).amax(-1)
    assert torch.allclose(probability.double(), expected, rtol=0.05)


@pytest.mark.parametrize('device', DEVICES)
def test_a_special_token_wins_whatever_the_screen_says(device):
    torch.manual_seed(0)
    table = torch.randn(8192, 512) / 20
    head = make_head(table.half())
    hidden = torch.randn(1, 1, 512)
    exact_table = table.clone()
    exact_table[33] = hidden[0, 0] / 4  # a row that INT4 has not seen
    head = Head(head.screen, exact_table.half(), head.special, head.pad)
    token, _ = run(hidden.half(), head, device)
    assert token.item() == 33


@pytest.mark.parametrize('device', DEVICES)
def test_of_equal_logits_the_lowest_id_wins(device):
    table = torch.zeros(4096, 128).half()
    table[[70, 1000, 4095]] = 1.0
    token, probability = run(torch.ones(1, 1, 128).half(), make_head(table), device)
    assert token.item() == 70
    assert probability.item() == pytest.approx(1 / 3, rel=1e-3)


@pytest.mark.parametrize('device', DEVICES)
def test_thousands_of_equal_logits(device):
    # -1 is a code of INT4; 1 would clip.
    head = make_head(-torch.ones(8192, 128).half())
    token, probability = run(-torch.ones(2, 1, 128).half(), head, device)
    assert token.flatten().tolist() == [0, 0]
    assert torch.allclose(probability, torch.full((2, 1), 1 / 8192), rtol=1e-4)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('vocabulary', [64, 3072, 131072])
def test_hidden_states_that_are_no_numbers_come_to_an_end(device, vocabulary):
    head = make_head(torch.ones(vocabulary, 128).half())
    _, probability = run(torch.full((2, 1, 128), math.nan).half(), head, device)
    assert not probability.isfinite().any()


@pytest.mark.parametrize('device', DEVICES)
def test_the_penalty_of_pad_counts_for_its_slot(device):
    torch.manual_seed(1)
    table = torch.randn(2048, 256) / 16
    hidden = torch.randn(2, 1, 256)
    table[32] = hidden[0, 0] / 4 + hidden[1, 0] / 4  # pad wins in both
    penalty = torch.tensor([0.0, 1e4])  # slots are handed out in reverse: that of the first stream
    token, _ = run(hidden.half(), make_head(table.half()), device, penalty)
    exact = hidden.half().double() @ table.half().double().T
    exact[0, :, 32] -= 1e4
    assert torch.equal(token, exact.argmax(-1))
    assert token[1].item() == 32
    assert token[0].item() != 32


@pytest.mark.parametrize('device', DEVICES)
def test_without_a_table_the_screened_logits_decide(device):
    torch.manual_seed(2)
    head = make_head((torch.randn(4096, 256) / 16).half())
    head = Head(head.screen, None, head.special, head.pad)
    hidden = torch.randn(9, 1, 256).half()
    from voxtral_ros.backends.cuda.weights import dequantize
    logits = hidden.double() @ dequantize(head.screen).double()
    penalty = torch.zeros(9)
    token, probability = run(hidden, head, device, penalty)
    assert torch.equal(token, logits.argmax(-1))
    assert torch.allclose(probability.double(), logits.softmax(-1).amax(-1), rtol=1e-3)
    # And with the logit of pad pushed up and down: slots are handed out in reverse.
    penalty[:3], penalty[3:6] = -100, 100
    logits[..., head.pad] -= penalty.flip(0).double()[:, None]
    token, probability = run(hidden, head, device, penalty)
    assert torch.equal(token, logits.argmax(-1))
    assert (token == head.pad).sum() == 3
    assert torch.allclose(probability.double(), logits.softmax(-1).amax(-1), rtol=1e-3)


@pytest.mark.parametrize('device', DEVICES)
def test_the_last_token_of_every_stream_is_kept(device):
    torch.manual_seed(3)
    last = torch.full((4,), -1, device=device)
    hidden = torch.randn(3, 2, 256).half()
    token, _ = run(hidden, make_head((torch.randn(1024, 256) / 16).half()), device, last=last)
    assert last.cpu().tolist() == [*token[:, -1].flip(0).tolist(), -1]
