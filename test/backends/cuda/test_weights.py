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

"""The layouts of packed weights, element by element."""

import numpy as np
import pytest
from support.cuda import random_weight
import torch

from voxtral_ros.backends.cuda.gemm import plan
from voxtral_ros.backends.cuda.network import rounded_rows
from voxtral_ros.backends.cuda.weights import (
    columns, concatenate, dequantize, fits, interleave_gate_up, pack_dense, pack_int4,
    pack_int4_codes, pack_int8)
from voxtral_ros.quantization import marlin, rounding


@pytest.mark.parametrize(('n', 'k'), [(64, 128), (1024, 128), (2240, 256)])
def test_a_weight_is_rounded_in_blocks_into_the_place_of_the_result(n, k, monkeypatch):
    weight = torch.randn(n, k).bfloat16()
    expected = pack_int4_codes(*rounding.round_int4(weight))
    rows, work = [], rounding.round_int4
    monkeypatch.setattr(rounding, 'round_int4',
                        lambda block: (rows.append(len(block)), work(block))[1])
    found = rounded_rows(weight)
    assert (found.bits, found.k, found.n) == (4, k, n)
    assert torch.equal(found.codes, expected.codes)
    assert torch.equal(found.scales, expected.scales)
    assert max(rows) <= 1024  # of 131072 in the real one: what is computed on the way stays small
    assert sum(rows) == n


@pytest.mark.parametrize(('n', 'k'), [(64, 128), (192, 384), (1024, 256)])
def test_int4_is_laid_out_as_in_a_checkpoint(n, k):
    codes = torch.randint(-8, 8, (n, k), dtype=torch.int8)
    scales = torch.randn(n, k // 128).half()
    words = marlin.pack((codes.numpy() + 8).astype(np.uint8).T)
    expected = pack_int4(torch.from_numpy(words),
                         torch.from_numpy(marlin.permute_scales(scales.numpy().T)))
    found = pack_int4_codes(codes, scales)
    assert (found.bits, found.k, found.n) == (4, k, n)
    assert torch.equal(found.codes, expected.codes)
    assert torch.equal(found.scales, expected.scales)


def test_columns_are_those_of_the_whole_weight():
    weight = random_weight(4, 256, 192)
    index = torch.tensor([[0, 7, 8, 9], [63, 64, 100, 191]])
    assert columns(weight, index).shape == (2, 4, 256)
    assert torch.equal(columns(weight, index), dequantize(weight).T[index])
    assert torch.equal(columns(weight, torch.arange(192)), dequantize(weight).T)


def test_int8_bytes_are_where_the_kernel_looks_for_them():
    codes = torch.randint(-128, 128, (64, 256), dtype=torch.int8)
    packed = pack_int8(codes, torch.ones(64, 2).half())
    found = packed.codes.view(torch.uint8).reshape(8, 4, 32, 16)  # [step, block, lane, byte]
    for step, block, lane in [(0, 0, 0), (7, 3, 31), (3, 1, 17), (5, 2, 6)]:
        c, r = divmod(lane, 4)
        expected = [codes[block * 16 + half * 8 + c, step * 32 + tile * 16 + k * 8 + 2 * r + odd]
                    for tile in range(2) for k in range(2) for half in range(2)
                    for odd in range(2)]
        assert found[step, block, lane].tolist() == [int(code) + 128 for code in expected]


def test_dense_operands_are_where_the_kernel_looks_for_them():
    weight = torch.randn(32, 128).bfloat16()
    found = pack_dense(weight).codes.reshape(8, 2, 32, 8)  # [tile, block, lane, number]
    for tile, block, lane in [(0, 0, 0), (7, 1, 31), (4, 0, 13)]:
        c, r = divmod(lane, 4)
        expected = [weight[block * 16 + half * 8 + c, tile * 16 + k * 8 + 2 * r + odd]
                    for k in range(2) for half in range(2) for odd in range(2)]
        assert torch.equal(found[tile, block, lane], torch.stack(expected))


def test_dequantized_int8_is_code_times_scale():
    codes = torch.randint(-127, 128, (96, 256), dtype=torch.int8)
    scales = torch.randn(96, 2).half()
    expected = codes.float().unflatten(1, (-1, 128)) * scales.float()[..., None]
    assert torch.equal(dequantize(pack_int8(codes, scales)), expected.flatten(1).T)


@pytest.mark.parametrize('bits', [4, 8, 16])
def test_merging_puts_outputs_side_by_side(bits):
    parts = [random_weight(bits, 256, n, seed=n) for n in (64, 128)]
    joined = torch.cat([dequantize(part) for part in parts], dim=1)
    assert torch.equal(dequantize(concatenate(parts)), joined)


@pytest.mark.parametrize(('bits', 'strip'), [(4, 64), (8, 32), (16, 16)])
def test_interleaving_alternates_strips(bits, strip):
    gate, up = random_weight(bits, 256, 128, seed=1), random_weight(bits, 256, 128, seed=2)
    strips = dequantize(interleave_gate_up(gate, up)).unflatten(1, (-1, 2, strip))
    assert torch.equal(strips[:, :, 0].flatten(1), dequantize(gate))
    assert torch.equal(strips[:, :, 1].flatten(1), dequantize(up))


@pytest.mark.parametrize('bits', [4, 8, 16])
@pytest.mark.parametrize('epilogue', range(4))
def test_every_plan_can_be_launched(bits, epilogue):
    for k in range(128, 10240, 128):
        for n in (64, 128, 1280, 3072, 6144, 131072):
            warps, splits = plan(k, n, bits, epilogue)
            assert 1 <= warps * (2 if epilogue == 2 else 1) <= 10  # of a block: 320 threads
            assert k // 128 % (warps * splits) == 0
            assert splits == 1 or epilogue == 1


def test_the_plans_that_were_measured():
    """As bench/results/kernels.md has them for the decoder of the real model."""
    assert plan(3072, 6144, 4, 0) == (8, 1)
    assert plan(4096, 3072, 4, 1) == (4, 4)
    assert plan(3072, 18432, 4, 2) == (4, 1)
    assert plan(9216, 3072, 4, 1) == (6, 4)


@pytest.mark.parametrize(('k', 'n', 'expected'), [(512, 64, True), (500, 64, False),
                                                  (512, 96, False)])
def test_what_fits(k, n, expected):
    assert fits(k, n) is expected
