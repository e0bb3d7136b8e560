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

"""The training network computes what the network does, with weights fake-quantized to INT4."""

import pytest
import torch
from training import train
from training.training_network import blocked_attention, FakeQuantizedLinear, TrainingNetwork

from voxtral_ros.model.layers import sliding_window_attention
from voxtral_ros.model.network import VoxtralRealtime
from voxtral_ros.quantization.rounding import dequantize, round_int4


@pytest.fixture
def network(config):
    torch.manual_seed(0)
    network = VoxtralRealtime(config)
    train.init_weights(network)
    return network


@torch.no_grad()
def test_the_training_network_computes_what_the_network_does(network):
    mel, tokens = torch.randn(2, 128, 8 * 20), torch.randint(1300, (2, 20))
    delay = torch.tensor([6, 3])
    expected = network(mel, tokens, delay)
    logits, states = TrainingNetwork(network)(mel, tokens, delay, sliding_window_attention)
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
    for attention in (sliding_window_attention, blocked_attention):
        out = attention(length, 16, q.device)(q, k, v)
        results.append((out, *torch.autograd.grad((out * wanted).sum(), (q, k, v))))
    for whole, blocks in zip(*results, strict=True):
        torch.testing.assert_close(blocks, whole)


@torch.no_grad()
def test_dropout_is_for_training_only(network):
    training_network = TrainingNetwork(network, dropout=0.3)
    inputs = (torch.randn(1, 128, 8 * 20), torch.randint(1300, (1, 20)), torch.tensor([6]),
              sliding_window_attention)
    (first, _), (second, _) = training_network(*inputs), training_network(*inputs)
    assert not torch.isclose(first, second).all(1).any()
    training_network.eval()
    torch.testing.assert_close(
        training_network(*inputs), training_network(*inputs), rtol=0, atol=0)


def test_the_training_network_adds_nothing_to_the_checkpoint(network):
    names = list(network.state_dict())
    TrainingNetwork(network)
    assert list(network.state_dict()) == names


def test_weights_are_quantized_as_in_the_export():
    torch.manual_seed(0)
    linear = FakeQuantizedLinear.convert(torch.nn.Linear(256, 64, bias=False))
    wide = linear.weight.detach().clone()
    codes, scale = round_int4(wide, 'mse')
    quantized = dequantize(codes, scale)
    linear.update_scale(0.0)
    torch.testing.assert_close(linear.fake_quantized_weight(), wide)
    linear.update_scale(1.0)
    # The export goes through fp16 first, which may move a weight to the next code.
    same = (linear.fake_quantized_weight() - quantized).abs() < 1e-6
    assert same.float().mean() > 0.995
    linear.update_scale(0.5)
    torch.testing.assert_close(
        linear.fake_quantized_weight()[same], ((wide + quantized) / 2)[same])


def test_gradients_are_passed_straight_through():
    torch.manual_seed(0)
    linear = FakeQuantizedLinear.convert(torch.nn.Linear(128, 32, bias=False))
    linear.update_scale(1.0)
    x = torch.randn(5, 128)
    linear(x).sum().backward()
    torch.testing.assert_close(linear.weight.grad, x.sum(0).expand(32, 128))


def test_every_matrix_of_the_decoder_layers_is_fake_quantized(network):
    assert len(TrainingNetwork(network).fake_quantized) == 7
