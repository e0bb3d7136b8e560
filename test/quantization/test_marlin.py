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

"""Marlin bytes: against an independent packer, the index formula, and themselves."""

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
from optimum.quanto.tensor.weights.marlin.int4.packed import pack as quanto_pack
import pytest
import torch

from voxtral_ros.quantization import marlin

# K, N of the linear layers of a decoder block of Voxtral-Mini-4B-Realtime
DECODER = {'q': (3072, 4096), 'k': (3072, 1024), 'v': (3072, 1024), 'o': (4096, 3072),
           'gate': (3072, 9216), 'up': (3072, 9216), 'down': (9216, 3072)}

SIZES = st.tuples(st.integers(1, 4).map(lambda tiles: 16 * tiles),
                  st.integers(1, 3).map(lambda tiles: 64 * tiles))


def random_codes(k, n, seed=0):
    return np.random.default_rng(seed).integers(0, 16, (k, n), np.uint8)


def random_scales(groups, n, seed=0):
    return np.random.default_rng(seed).standard_normal((groups, n)).astype(np.float16)


@pytest.mark.parametrize(('k', 'n'), [*DECODER.values(), (16, 64), (48, 192), (3072, 6144)],
                         ids=[*DECODER, 'one tile', 'nine tiles', 'merged qkv'])
def test_the_bytes_are_those_of_an_independent_packer(k, n):
    codes = random_codes(k, n, seed=k + n)
    words = marlin.pack(codes)
    assert words.shape == (k // 16, 2 * n)
    assert words.dtype == np.int32
    assert np.array_equal(words, quanto_pack(torch.from_numpy(codes.T)))


@given(SIZES, st.integers(0, 2**32 - 1))
def test_unpack_undoes_pack(size, seed):
    codes = random_codes(*size, seed)
    assert np.array_equal(marlin.unpack(marlin.pack(codes)), codes)


@given(SIZES, st.integers(0, 2**32 - 1))
def test_pack_undoes_unpack(size, seed):
    """No bit of a word is lost: every int32 stands for eight codes."""
    k, n = size
    words = np.random.default_rng(seed).integers(-2**31, 2**31, (k // 16, 2 * n), np.int64)
    words = words.astype(np.int32)
    assert np.array_equal(marlin.pack(marlin.unpack(words)), words)


@given(SIZES, st.data())
def test_a_code_is_where_the_formula_says(size, data):
    k, n = data.draw(st.integers(0, size[0] - 1)), data.draw(st.integers(0, size[1] - 1))
    codes = np.zeros(size, np.uint8)
    codes[k, n] = 15
    lane = (n & 7) * 4 + ((k & 7) >> 1)
    j = (n & 63) >> 4
    nibble = ((k >> 3) & 1) + 2 * ((n >> 3) & 1) + 4 * (k & 1)
    expected = np.zeros((size[0] // 16, 2 * size[1]), np.uint32)
    expected[k >> 4, (n >> 6) * 128 + lane * 4 + j] = 15 << (4 * nibble)
    assert np.array_equal(marlin.pack(codes).view(np.uint32), expected)


def test_slices_of_wider_tensors_can_be_packed_and_unpacked():
    codes = random_codes(32, 256)
    words = marlin.pack(codes)
    assert np.array_equal(marlin.pack(codes[:, 64:192]), words[:, 128:384])
    assert np.array_equal(marlin.unpack(words[:, 128:384]), codes[:, 64:192])
    assert np.array_equal(marlin.pack(codes.T.copy().T), words)


@given(st.integers(1, 3), st.integers(1, 3))
def test_scales_are_permuted_as_upstream_does(n_groups, n_blocks):
    """Upstream indexes blocks of 64 with the list [i + 8 j for i in 0..7 for j in 0..7]."""
    scales = np.arange(n_groups * n_blocks * 64).astype(np.float16).reshape(n_groups, -1)
    order = [i + 8 * j for i in range(8) for j in range(8)]
    upstream = scales.reshape(-1, 64)[:, order].reshape(scales.shape)
    permuted = marlin.permute_scales(scales)
    assert np.array_equal(permuted, upstream)
    assert np.array_equal(marlin.permute_scales(permuted), scales)
    n = 64 * n_blocks - 7
    assert permuted[0, 64 * (n >> 6) + 8 * (n & 7) + ((n & 63) >> 3)] == scales[0, n]


def test_merging_is_concatenating_outputs():
    parts = [random_codes(128, n, seed=n) for n in (256, 64, 64)]
    merged = np.concatenate([marlin.pack(part) for part in parts], axis=1)
    assert np.array_equal(merged, marlin.pack(np.concatenate(parts, axis=1)))
    scales = [random_scales(1, n, seed=n) for n in (256, 64, 64)]
    merged = np.concatenate([marlin.permute_scales(part) for part in scales], axis=1)
    assert np.array_equal(marlin.permute_scales(merged), np.concatenate(scales, axis=1))


def test_dequantize_is_code_less_eight_times_the_scale_of_its_group():
    codes, scales = random_codes(256, 128), random_scales(2, 128)
    weight = marlin.dequantize(marlin.pack(codes), marlin.permute_scales(scales))
    expected = (codes.astype(float) - 8) * scales.astype(float).repeat(128, axis=0)
    assert weight.dtype == np.float32
    assert np.array_equal(weight, expected)


@pytest.mark.parametrize(('k', 'n'), [(128, 64), (9216, 3072), (3072, 131072)])
def test_sizes_that_can_be_packed(k, n):
    marlin.check_size(k, n)


@pytest.mark.parametrize(('k', 'n', 'wrong'), [
    (64, 64, '64 inputs'), (192, 64, '192 inputs'), (128, 32, '32 outputs'),
    (128, 96, '96 outputs')])
def test_sizes_that_cannot_be_packed_are_named(k, n, wrong):
    with pytest.raises(ValueError, match=wrong):
        marlin.check_size(k, n)
