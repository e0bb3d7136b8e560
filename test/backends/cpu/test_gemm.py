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

"""A GEMM is the sum that is documented, in its order, on every instruction set."""

import ctypes

import numpy as np
import pytest

from voxtral_ros.backends.cpu.library import Matrix
from voxtral_ros.backends.cpu.weights import read_weight, WeightMemory

cpu = pytest.importorskip('support.cpu')

SHAPES = [(1, 16, 128), (2, 50, 256), (3, 7, 384), (4, 64, 128), (5, 33, 1024), (9, 130, 512)]
FUSED = [name for name in cpu.instruction_sets() if name != 'baseline' or cpu.BEST == b'dotprod']


def stored(*weight):
    return read_weight(cpu.Stored(*weight), 'w', WeightMemory())


def gemm(name, weight, x, bias):
    """Return x [R, K] times a weight plus bias, by the library."""
    n, k = weight.shape
    out, memory = np.full((len(x), n), np.nan, np.float32), np.empty(x.size + 64, np.float32)
    matrix = Matrix(
        weight=weight.codes.ctypes.data, n=n, k=k, bits=weight.bits, bias=bias.ctypes.data,
        scale=None if weight.scales is None else weight.scales.ctypes.data)
    with cpu.instructions(name):
        cpu.load().voxtral_cpu_gemm(ctypes.byref(matrix), x.ctypes.data, len(x),
                                    memory.ctypes.data, out.ctypes.data)
    return out


def integers(codes, scales, x, bias):
    """Return the same in numpy, operation by operation."""
    n_groups = codes.shape[1] // 128
    groups = x.reshape(len(x), n_groups, 128)
    most = np.abs(groups).max(axis=2)
    with np.errstate(divide='ignore'):
        inverse = np.where(most == 0, np.float32(0), np.float32(127) / most)
    rounded = np.rint(groups * inverse[..., None]).astype(np.int64)
    total = np.zeros((len(x), len(codes)), np.float32)
    for g in range(n_groups):
        weight = codes[:, 128 * g:128 * g + 128].astype(np.int64)
        dots = (rounded[:, g] @ weight.T).astype(np.float32)
        total += dots * scales[:, g].astype(np.float32) * (most[:, g] / np.float32(127))[:, None]
    return total + bias


@pytest.mark.parametrize('name', cpu.instruction_sets())
@pytest.mark.parametrize('kind', ['int8', 'int4'])
@pytest.mark.parametrize(('n_rows', 'n', 'k'), SHAPES)
def test_integers_are_exact(name, kind, n_rows, n, k):
    rng = np.random.default_rng(n_rows)
    low, high = (-8, 8) if kind == 'int4' else (-128, 128)
    codes = rng.integers(low, high, (n, k)).astype(np.int8)
    codes[0], codes[1] = low, high - 1  # the largest sums
    scales = rng.uniform(-1, 1, (n, k // 128)).astype(np.float16)
    x = rng.standard_normal((n_rows, k)).astype(np.float32)
    x[0, :128] = 3.5
    x[-1, -128:] = 0
    bias = rng.standard_normal(n).astype(np.float32)
    found = gemm(name, stored(codes, scales, kind), x, bias)
    assert np.array_equal(found, integers(codes, scales, x, bias))


@pytest.mark.parametrize('name', cpu.instruction_sets())
@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('kind', ['int8', 'int4'])
def test_what_is_no_number_stays_in_its_row(name, value, kind):
    codes = np.ones((20, 256), np.int8)
    weight = stored(codes, np.ones((20, 2), np.float16), kind)
    x = np.ones((4, 256), np.float32)
    x[2, 200] = value
    found = gemm(name, weight, x, np.zeros(20, np.float32))
    assert np.isnan(found[2]).all()
    assert (np.delete(found, 2, axis=0) == 256).all()


@pytest.mark.parametrize('name', cpu.instruction_sets())
def test_the_smallest_inputs_are_nothing(name):
    weight = stored(np.ones((16, 128), np.int8), np.ones((16, 1)), 'int8')
    x = np.full((2, 128), 1e-42, np.float32)
    x[1] = 1e-20
    found = gemm(name, weight, x, np.zeros(16, np.float32))
    assert (found[0] == 0).all()
    np.testing.assert_allclose(found[1], 128e-20, rtol=1e-6)


@pytest.mark.parametrize('name', cpu.instruction_sets())
@pytest.mark.parametrize('dtype', [np.float32, np.uint16])
@pytest.mark.parametrize(('n_rows', 'n', 'k'), [*SHAPES, (1, 300, 5), (7, 23, 50)])
def test_floats_are_right_and_the_same_wherever_they_are_fused(name, dtype, n_rows, n, k):
    rng = np.random.default_rng(n_rows)
    codes = rng.standard_normal((n, k)).astype(np.float32)
    if dtype == np.uint16:
        codes = (codes.view(np.uint32) >> 16).astype(np.uint16)
    x, bias = rng.standard_normal((n_rows, k)), rng.standard_normal(n)
    x, bias = x.astype(np.float32), bias.astype(np.float32)
    weight = stored(codes)
    found = gemm(name, weight, x, bias)
    dense = cpu.float_of(codes) if dtype == np.uint16 else codes
    np.testing.assert_allclose(found, x.astype(np.float64) @ dense.T + bias, rtol=1e-5, atol=1e-4)
    if name in FUSED:
        assert np.array_equal(found, gemm(FUSED[0], weight, x, bias))
