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

"""Products with packed weights against float64, for every shape of the real model."""

import pytest
from support.cuda import (
    DECODER, DEVICES, DTYPES, ENCODER, on_gpu, poison, random_weight, relative_error,
    unit_roundoff)
import torch

from voxtral_ros.backends.cuda.gemm import gemm, gemm_logits, gemm_split_k, gemm_swiglu
from voxtral_ros.backends.cuda.weights import dequantize, STRIP

SMALL = {4: (512, 1024), 8: (384, 1152), 16: (1280, 384)}
REAL = [(4, *shape) for shape in DECODER.values()] + [
    (bits, *shape) for bits in (4, 8) for shape in ENCODER.values()]


def product(x, weight):
    """Return x W in float64."""
    return x.double().cpu() @ dequantize(weight).double().cpu()


def gated(x, weight):
    strips = product(x, weight).unflatten(-1, (-1, 2, STRIP[weight.bits]))
    gate, up = strips.unbind(-2)
    return (torch.nn.functional.silu(gate) * up).flatten(-2)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('bits', [4, 8, 16])
@pytest.mark.parametrize('m', [1, 3, 8, 9, 16, 33, 64])
def test_every_number_of_rows(device, dtype, bits, m):
    k, n = SMALL[bits]
    weight = random_weight(bits, k, n, dtype=dtype)
    x = torch.randn(m, k).to(dtype)
    bias = torch.randn(n).to(dtype)
    poison((m, n), dtype, device)
    out = gemm(x.to(device), weight.to(device), bias.to(device))
    assert out.shape == (m, n)
    expected = product(x, weight) + bias.double()
    assert relative_error(out, expected) < 1.2 * unit_roundoff(dtype)
    partial = gemm_split_k(x.to(device), weight.to(device))
    assert relative_error(partial.sum(0), product(x, weight)) < 2e-6


@on_gpu
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize(('bits', 'k', 'n'), REAL)
@pytest.mark.parametrize('m', [1, 5, 16])
def test_shapes_of_the_real_model(dtype, bits, k, n, m):
    weight = random_weight(bits, k, n)
    x = torch.randn(m, k).to(dtype)
    poison((m, n), dtype, 'cuda')
    out = gemm(x.cuda(), weight.to('cuda'))
    assert relative_error(out, product(x, weight)) < 1.2 * unit_roundoff(dtype)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize(('bits', 'k', 'n'), [
    (4, 512, 2048), (4, 1280, 2048), (8, 1280, 2048), (16, 512, 1024)])
@pytest.mark.parametrize('m', [1, 7, 20])
def test_gated_product(device, dtype, bits, k, n, m):
    weight = random_weight(bits, k, n, dtype=dtype)
    x = (3 * torch.randn(m, k)).to(dtype)
    out = gemm_swiglu(x.to(device), weight.to(device))
    assert out.shape == (m, n // 2)
    assert relative_error(out, gated(x, weight)) < 2 * unit_roundoff(dtype)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('m', [1, 2, 9])
def test_logits_with_the_maximum_and_sum_of_every_strip(device, m):
    weight = random_weight(4, 512, 3072)
    x = torch.randn(m, 512).bfloat16()
    logits, top, total = gemm_logits(x.to(device), weight.to(device))
    assert relative_error(logits, product(x, weight)) < 2e-6
    strips = logits.cpu().unflatten(-1, (-1, 64))
    assert torch.equal(top.cpu(), strips.amax(-1))
    expected = (strips - top.cpu()[..., None]).exp().sum(-1)
    assert torch.allclose(total.cpu(), expected, rtol=1e-5)


@on_gpu
@pytest.mark.parametrize(('bits', 'stack'), [
    (4, DECODER), (4, ENCODER), (8, ENCODER), (16, ENCODER)])
@pytest.mark.parametrize('name', ['qkv', 'o', 'down'])
def test_a_row_depends_neither_on_the_others_nor_on_the_run(bits, stack, name):
    k, n = stack[name]
    weight = random_weight(bits, k, n).to('cuda')
    x = torch.randn(64, k, device='cuda').bfloat16()
    expected = torch.cat([gemm(row[None], weight) for row in x])
    for m in (2, 8, 9, 16, 17, 64):
        assert torch.equal(gemm(x[:m], weight), expected[:m])
    for _ in range(100):
        assert torch.equal(gemm(x[:5], weight), expected[:5])
    gate = random_weight(bits, k, 2 * n).to('cuda')
    alone = torch.cat([gemm_swiglu(row[None], gate) for row in x])
    assert torch.equal(gemm_swiglu(x, gate), alone)


@on_gpu
def test_huge_activations_overflow_to_infinity_and_never_to_nan():
    weight = random_weight(4, 512, 512).to('cuda')
    x = torch.full((2, 512), 60000.0, device='cuda').half()
    out = gemm(x, weight)
    assert not out.isnan().any()
    assert out.isinf().any()


@on_gpu
def test_nan_stays_in_its_row():
    weight = random_weight(4, 512, 512).to('cuda')
    x = torch.randn(3, 512, device='cuda').half()
    x[1, 7] = float('nan')
    out = gemm(x, weight)
    assert out[1].isnan().any()
    assert not out[[0, 2]].isnan().any()


def test_rows_of_another_length_are_refused():
    weight = random_weight(4, 512, 512)
    with pytest.raises((ValueError, RuntimeError)):
        gemm(torch.randn(1, 384), weight)


@on_gpu
def test_no_rows_are_no_rows():
    out = gemm(torch.empty(0, 512, device='cuda').half(), random_weight(4, 512, 512).to('cuda'))
    assert out.shape == (0, 512)
