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

"""The student computes what the network computes, with the weights the compact layout holds."""


import pytest
import torch
from training import train
from training.training_network import blocked_attention, RoundedLinear, Student
from voxtral_ros.model.layers import banded_attention
from voxtral_ros.model.network import VoxtralRealtime
from voxtral_ros.quantization.rounding import dequantize, round_int4


@pytest.fixture
def network(config):
    torch.manual_seed(0)
    network = VoxtralRealtime(config)
    train.initialise(network)
    return network


@torch.no_grad()
def test_a_student_computes_what_the_network_does(network):
    mel, tokens = torch.randn(2, 128, 8 * 20), torch.randint(1300, (2, 20))
    delay = torch.tensor([6, 3])
    expected = network(mel, tokens, delay)
    logits, states = Student(network)(mel, tokens, delay, banded_attention)
    torch.testing.assert_close(logits, expected)
    assert states.shape == (2, 80, 384)


@pytest.mark.parametrize('length', (1, 16, 17, 50))
@pytest.mark.parametrize('n_kv_heads', (2, 4))
def test_attention_in_blocks_is_that_of_the_whole(length, n_kv_heads):
    torch.manual_seed(0)
    q, k, v = (torch.randn(3, length, heads, 8, requires_grad=True)
               for heads in (4, n_kv_heads, n_kv_heads))
    wanted = torch.randn(3, length, 4, 8)
    results = []
    for attention in (banded_attention, blocked_attention):
        out = attention(length, 16, q.device)(q, k, v)
        results.append((out, *torch.autograd.grad((out * wanted).sum(), (q, k, v))))
    for whole, blocks in zip(*results, strict=True):
        torch.testing.assert_close(blocks, whole)


@torch.no_grad()
def test_dropout_is_for_training_alone(network):
    student = Student(network, dropout=0.3)
    inputs = (torch.randn(1, 128, 8 * 20), torch.randint(1300, (1, 20)), torch.tensor([6]),
              banded_attention)
    (first, _), (second, _) = student(*inputs), student(*inputs)
    assert not torch.isclose(first, second).all(1).any()
    student.eval()
    torch.testing.assert_close(student(*inputs), student(*inputs), rtol=0, atol=0)


def test_the_student_adds_nothing_to_what_is_saved(network):
    names = list(network.state_dict())
    Student(network)
    assert list(network.state_dict()) == names


def test_weights_round_as_the_export_rounds_them():
    torch.manual_seed(0)
    linear = RoundedLinear.convert(torch.nn.Linear(256, 64, bias=False))
    wide = linear.weight.detach().clone()
    codes, scale = round_int4(wide, 'mse')
    rounded = dequantize(codes, scale)
    linear.choose(0.0)
    torch.testing.assert_close(linear.rounded(), wide)
    linear.choose(1.0)
    # The export goes through fp16 first, which may move a weight to the next code.
    same = (linear.rounded() - rounded).abs() < 1e-6
    assert same.float().mean() > 0.995
    linear.choose(0.5)
    torch.testing.assert_close(linear.rounded()[same], ((wide + rounded) / 2)[same])


def test_gradients_reach_the_weights_as_if_they_were_not_rounded():
    torch.manual_seed(0)
    linear = RoundedLinear.convert(torch.nn.Linear(128, 32, bias=False))
    linear.choose(1.0)
    x = torch.randn(5, 128)
    linear(x).sum().backward()
    torch.testing.assert_close(linear.weight.grad, x.sum(0).expand(32, 128))


def test_every_matrix_of_the_decoder_layers_rounds(network):
    assert len(Student(network).rounding) == 7
