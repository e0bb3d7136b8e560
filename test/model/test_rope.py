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

"""Rotary embedding and attention against arithmetic that is plainly right."""

from decimal import Decimal, localcontext
import math

import pytest
import torch

from voxtral_ros.model.config import StackConfig
from voxtral_ros.model.layers import (
    apply_rotary_emb, Attention, grouped_query_attention, rope_cos_sin, sliding_window_attention)

PI = Decimal('3.14159265358979323846264338327950288419716939937510582097494459')
YEAR = 365 * 24 * 3600 * 50  # encoder frames
DAY = 24 * 3600 * 50


def exact_angle(position, pair, head_dim, theta):
    """Return position * theta^(-2 pair / head_dim) modulo 2 pi, computed with 60 digits."""
    with localcontext() as context:
        context.prec = 60
        frequency = Decimal(theta) ** (Decimal(-2 * pair) / head_dim)
        return float(position * frequency % (2 * PI))


def test_a_rotation_turns_neighbours():
    x = torch.tensor([1.0, 0.0, 0.0, 2.0]).reshape(1, 1, 1, 4)
    turned = apply_rotary_emb(x, rope_cos_sin(torch.tensor([[3]]), head_dim=4, theta=100.0))
    # Pair 0 turns by 3 rad, pair 1 by 3 * 100^(-2/4) = 0.3 rad
    expected = [math.cos(3), math.sin(3), -2 * math.sin(0.3), 2 * math.cos(0.3)]
    torch.testing.assert_close(turned.flatten(), torch.tensor(expected))


def test_position_zero_changes_nothing_and_heads_turn_alike():
    x = torch.randn(2, 3, 5, 8)
    zero = rope_cos_sin(torch.zeros(2, 3, dtype=torch.int64), 8, 1e6)
    assert torch.equal(apply_rotary_emb(x, zero), x)
    angles = rope_cos_sin(torch.tensor([[1, 2, 3], [7, 8, 9]]), 8, 1e6)
    for head in range(5):
        alone = apply_rotary_emb(x[:, :, [head]], angles)[:, :, 0]
        assert torch.equal(apply_rotary_emb(x, angles)[:, :, head], alone)


def test_the_type_of_the_vector_is_kept():
    x = torch.randn(1, 1, 1, 8, dtype=torch.bfloat16)
    angles = rope_cos_sin(torch.tensor([[5]]), 8, 1e6)
    assert angles[0].dtype == torch.float32
    assert apply_rotary_emb(x, angles).dtype == torch.bfloat16
    assert torch.equal(apply_rotary_emb(x, angles), apply_rotary_emb(x.float(), angles).bfloat16())


@pytest.mark.parametrize('head_dim', [16, 64, 128])
@pytest.mark.parametrize('position', [1, 131_071, 10**6, DAY, 10**9, YEAR])
def test_angles_are_right_for_a_year(position, head_dim):
    """Measured: off by less than 4e-7 rad after a year, fp32 rounding of the cosine included."""
    cos, sin = rope_cos_sin(torch.tensor([[position]]), head_dim, 1e6)
    exact = [exact_angle(position, pair, head_dim, 10**6) for pair in range(head_dim // 2)]
    for kind, values in ((math.cos, cos), (math.sin, sin)):
        expected = torch.tensor([kind(angle) for angle in exact], dtype=torch.float64)
        assert (values.flatten().double() - expected).abs().max() < 1e-6


@pytest.mark.parametrize('origin', [131_072, 10**6, DAY, 10**9, YEAR])
def test_scores_depend_on_differences_of_positions_only(origin):
    q, k = torch.randn(2, 1, 50, 1, 64, generator=torch.Generator().manual_seed(0))
    positions = torch.arange(50)[None]

    def scores(start):
        angles = rope_cos_sin(positions + start, 64, 1e6)
        return torch.einsum(
            'bthd,bshd->bts', apply_rotary_emb(q, angles), apply_rotary_emb(k, angles))

    torch.testing.assert_close(scores(origin), scores(0), rtol=0, atol=3e-5)  # of about 8


def naive_attention(q, k, v, mask):
    """Attend as in the definition: one query of one head at a time."""
    out = torch.zeros_like(q)
    group = q.shape[2] // k.shape[2]
    for b in range(q.shape[0]):
        for t in range(q.shape[1]):
            for h in range(q.shape[2]):
                seen = mask[b % mask.shape[0], t]
                keys, values = k[b, seen, h // group], v[b, seen, h // group]
                weights = (keys @ q[b, t, h] / math.sqrt(q.shape[3])).softmax(dim=0)
                out[b, t, h] = weights @ values
    return out


@pytest.mark.parametrize(('heads', 'key_heads'), [(1, 1), (4, 4), (8, 2), (6, 3), (5, 1)])
@pytest.mark.parametrize('masks', [1, 3])
def test_attention_is_the_definition(heads, key_heads, masks):
    generator = torch.Generator().manual_seed(heads)
    q = torch.randn(3, 4, heads, 6, generator=generator)
    k, v = torch.randn(2, 3, 7, key_heads, 6, generator=generator)
    mask = torch.rand(masks, 4, 7, generator=generator) < 0.5
    mask[:, :, 2] = True  # every query sees something
    torch.testing.assert_close(
        grouped_query_attention(q, k, v, mask), naive_attention(q, k, v, mask))


def test_banded_attention_sees_the_window_and_no_future():
    q, k, v = torch.randn(3, 1, 9, 2, 4)
    attend = sliding_window_attention(9, window=3, device=torch.device('cpu'))
    before = attend(q, k, v)
    v[:, 4] += 1
    moved = (attend(q, k, v) != before).any(dim=(0, 2, 3))
    assert moved.nonzero().flatten().tolist() == [4, 5, 6]


def test_biases_stand_where_the_checkpoint_has_them():
    stack = {'dim': 8, 'n_layers': 1, 'n_heads': 4, 'n_kv_heads': 2, 'head_dim': 6,
             'hidden_dim': 8, 'sliding_window': 4}
    names = {name for name, _ in Attention(StackConfig(**stack, use_biases=True))
             .named_parameters()}
    weights = {f'{name}.weight' for name in ('wq', 'wk', 'wv', 'wo')}
    assert names == weights | {'wq.bias', 'wv.bias', 'wo.bias'}
    assert {name for name, _ in Attention(StackConfig(**stack)).named_parameters()} == weights
