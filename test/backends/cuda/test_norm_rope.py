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

"""Residual and norm, embedding, angles and clocks against float64."""

import pytest
from support.cuda import DEVICES, DTYPES, random_weight, relative_error, unit_roundoff
import torch

from voxtral_ros.backends.cuda.norm_rope import add_rms_norm, advance, embed, rope_cos_sin
from voxtral_ros.backends.cuda.weights import dequantize


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('dim', [384, 3072, 8192])
@pytest.mark.parametrize('splits', [0, 1, 4])
@pytest.mark.parametrize('extras', [False, True])
def test_add_rms_norm(device, dtype, dim, splits, extras):
    torch.manual_seed(0)
    m, length = 3, 2
    h = 5 * torch.randn(m, length, dim)
    partial = torch.randn(splits, m, length, dim) if splits else None
    weight, bias = torch.randn(2, dim).to(dtype)
    scales, slots = torch.randn(5, dim).to(dtype), torch.tensor([4, 0, 2])
    total = h.double() + (0 if partial is None else partial.double().sum(0))
    total = total + bias.double() if extras else total
    expected = total / (total.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double()
    if extras:
        expected = expected * scales[slots].double()[:, None]

    def there(tensor):
        return None if tensor is None else tensor.to(device)

    mine = h.clone().to(device)
    out = add_rms_norm(mine, there(weight), 1e-5, there(partial), there(bias) if extras else None,
                       there(scales) if extras else None, there(slots) if extras else None)
    assert out.dtype == dtype
    assert relative_error(out, expected) < 1.2 * unit_roundoff(dtype)
    assert relative_error(mine, total) < 1e-6


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', DTYPES)
def test_embed(device, dtype):
    audio, table = torch.randn(2, 3, 200).to(dtype), torch.randn(50, 200).to(dtype)
    tokens = torch.tensor([[0, 49, 7], [7, 7, 1]])
    out = embed(audio.to(device), table.to(device), tokens.to(device))
    assert torch.equal(out.cpu(), audio.float() + table[tokens].float())


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize(('k', 'n'), [(128, 64), (3072, 1088)])
def test_embed_with_columns_of_the_head(device, dtype, k, n):
    head, audio = random_weight(4, k, n), torch.randn(2, 40, k).to(dtype)
    tokens = torch.randint(0, n, (2, 40))
    tokens[0, :2] = torch.tensor([0, n - 1])
    out = embed(audio.to(device), head.to(device), tokens.to(device))
    table = dequantize(head).T.to(dtype)
    assert torch.equal(out.cpu(), audio.float() + table[tokens].float())


@pytest.mark.parametrize('device', DEVICES)
def test_angles_are_exact_after_a_year(device):
    year = 12 * 3600 * 24 * 365
    slots = torch.tensor([2, 0], device=device)
    position = torch.tensor([year + 1, 0, 3], device=device)
    inv_freq = 1e6 ** -(torch.arange(0, 64, 2).double() / 64)
    cos, sin = rope_cos_sin(slots, position, inv_freq.to(device), 4, 4)
    first = torch.tensor([12, 4 * (year + 1)])
    angles = (first[:, None] + torch.arange(4)).double()[..., None] * inv_freq
    assert cos.shape == (2, 4, 32)
    assert (cos.cpu() - angles.cos()).abs().max() < 1e-6
    assert (sin.cpu() - angles.sin()).abs().max() < 1e-6


@pytest.mark.parametrize('device', DEVICES)
def test_advance_moves_the_clocks_of_its_streams(device):
    position = torch.arange(5, device=device)
    advance(torch.tensor([3, 1], device=device), position, 7)
    assert position.tolist() == [0, 8, 2, 10, 4]
