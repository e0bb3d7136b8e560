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

"""KV cache attention against float64, and its independence of neighbours."""

from dataclasses import replace

import pytest
from support.cuda import DEVICES, DTYPES, on_gpu, relative_error, unit_roundoff
import torch

from voxtral_ros.backends.cuda.attention import attention, LayerCache, n_counters
from voxtral_ros.backends.cuda.norm_rope import rope_cos_sin
from voxtral_ros.model.kv_cache import contents, dequantize, quantize


class Case:
    """Random KV caches that have been written round several times, and new positions."""

    def __init__(self, device, dtype, n_heads, n_kv_heads, head_dim, window, length, positions,
                 per_token=1, half_split=False, spare=0, seed=0, int8=False):
        torch.manual_seed(seed)
        self.device, self.n_heads, self.half_split = device, n_heads, half_split
        n_slots = len(positions) + 2
        capacity = window - 1 + length + spare
        shape = (n_slots, capacity, n_kv_heads, head_dim)
        caches, scales = [torch.randn(shape).to(dtype) for _ in range(2)], None
        if int8:
            caches, scales = zip(*map(quantize, caches), strict=True)
            scales = torch.stack(scales, -1).transpose(1, 2).contiguous().to(device)
        self.cache = LayerCache(*(part.to(device) for part in caches), scales, window, per_token)
        self.slots = torch.randperm(n_slots)[:len(positions)].to(device)
        self.position = torch.zeros(n_slots, dtype=torch.int64, device=device)
        self.position[self.slots] = torch.tensor(positions, device=device)
        width = (n_heads + 2 * n_kv_heads) * head_dim
        self.qkv = torch.randn(len(positions), length, width).to(dtype).to(device)
        inv_freq = 1e6 ** -(torch.arange(0, head_dim, 2).double() / head_dim)
        self.rope = rope_cos_sin(self.slots, self.position + 7, inv_freq.to(device), length,
                                 per_token)
        needed = n_counters(len(positions), length, n_heads, n_kv_heads)
        self.counters = torch.zeros(needed, dtype=torch.int32, device=device)

    def copy(self, device):
        """Return the same with its own caches on another device."""
        other = object.__new__(Case)
        other.device, other.n_heads, other.half_split = device, self.n_heads, self.half_split
        other.cache = replace(self.cache, **{
            name: part.clone().to(device) for name in ('keys', 'values', 'scales')
            if (part := getattr(self.cache, name)) is not None})
        for name in ('slots', 'position', 'qkv', 'counters'):
            setattr(other, name, getattr(self, name).clone().to(device))
        other.rope = tuple(part.to(device) for part in self.rope)
        return other

    def run(self, rows=slice(None), times=slice(None), ahead=0):
        """Attend with some streams and positions, `ahead` positions after the position."""
        qkv = self.qkv[rows, times].contiguous()
        cosine, sine = (part[rows, times].contiguous() for part in self.rope)
        slots, position = self.slots[rows].contiguous(), self.position + ahead
        if qkv.is_cuda:
            # Slots, position and cache have to be older than the last kernel.
            torch.cuda.synchronize()
        return attention(qkv, self.cache, slots, position, cosine, sine, self.n_heads,
                         self.half_split, self.counters)


def in_float64(cache):
    """Return what keys and values of a cache stand for, on the CPU."""
    return [part.cpu().double()
            for part in contents(cache.keys, cache.values, cache.scales)]


def stored(x, cache):
    """Return what is left of keys or values in a cache, in float64."""
    return x.double() if cache.scales is None else dequantize(*quantize(x), torch.float64)


def one_by_one(case):
    """Return attention in float64, one query after the other, straight from its definition."""
    qkv, (cosine, sine) = case.qkv.cpu(), (part.cpu() for part in case.rope)
    m, length, _ = qkv.shape
    _, capacity, n_kv_heads, head_dim = case.cache.keys.shape
    heads = qkv.unflatten(-1, (-1, head_dim)).double()
    cosine, sine = cosine.double()[:, :, None], sine.double()[:, :, None]
    if case.half_split:
        a, b = heads.chunk(2, -1)
        turned = torch.cat((a * cosine - b * sine, a * sine + b * cosine), -1)
    else:
        a, b = heads[..., ::2], heads[..., 1::2]
        turned = torch.stack((a * cosine - b * sine, a * sine + b * cosine), -1).flatten(-2)
    turned = turned.to(qkv.dtype)
    new_keys = stored(turned[:, :, case.n_heads:case.n_heads + n_kv_heads], case.cache)
    new_values = stored(qkv.unflatten(-1, (-1, head_dim))[:, :, case.n_heads + n_kv_heads:],
                        case.cache)
    turned = turned.double()
    old_keys, old_values = in_float64(case.cache)
    out = torch.empty(m, length, case.n_heads, head_dim, dtype=torch.float64)
    group = case.n_heads // n_kv_heads
    for stream in range(m):
        slot = case.slots[stream].item()
        first = case.position[slot].item() * case.cache.per_token
        held = {}
        for entry in range(capacity):  # what the cache holds from before
            position = first - 1 - (first - 1 - entry) % capacity
            if first > 0 and position >= 0:
                held[position] = old_keys[slot, entry], old_values[slot, entry]
        for t in range(length):
            held[first + t] = new_keys[stream, t], new_values[stream, t]
        for t in range(length):
            seen = [p for p in held if first + t - case.cache.window < p <= first + t]
            keys = torch.stack([held[p][0] for p in seen])  # [S, Hkv, D]
            values = torch.stack([held[p][1] for p in seen])
            for head in range(case.n_heads):
                scores = keys[:, head // group] @ turned[stream, t, head] / head_dim ** 0.5
                out[stream, t, head] = scores.softmax(0) @ values[:, head // group]
    return out.flatten(2)


SHAPES = {
    'decoder': {'n_heads': 32, 'n_kv_heads': 8, 'head_dim': 128, 'window': 300, 'length': 1},
    'draft': {'n_heads': 32, 'n_kv_heads': 8, 'head_dim': 128, 'window': 300, 'length': 6},
    'encoder': {'n_heads': 6, 'n_kv_heads': 6, 'head_dim': 64, 'window': 750, 'length': 20,
                'per_token': 4},
    'tiny': {'n_heads': 4, 'n_kv_heads': 2, 'head_dim': 64, 'window': 16, 'length': 3},
}


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('half_split', [False, True])
@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('positions', [[0], [5, 63, 700], [256, 255]])
@pytest.mark.parametrize('int8', [False, True])
def test_equals_the_definition(device, dtype, half_split, shape, positions, int8):
    case = Case('cpu', dtype, positions=positions, half_split=half_split, int8=int8,
                **SHAPES[shape])
    expected = one_by_one(case)
    other = case.copy(device)
    assert relative_error(other.run(), expected) < 1.5 * unit_roundoff(dtype)
    # The cache has got the new positions, and nothing else.
    case.run()
    assert torch.equal(other.cache.values.cpu(), case.cache.values)
    (keys, values), (expected_keys, expected_values) = map(in_float64, (other.cache, case.cache))
    assert torch.equal(values, expected_values)
    # An angle's last bit can decide which of two codes is nearer.
    assert relative_error(keys, expected_keys) < (3e-4 if int8 else 1e-4)
    assert not other.counters.any()


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('size', [0.0, 1e-4, 1.0, 500.0])
def test_keys_and_values_of_any_size_fit_into_int8(device, dtype, size):
    case = Case('cpu', dtype, positions=[3], int8=True, **SHAPES['draft'])
    case.cache.scales.mul_(size)
    case.qkv *= size
    expected = one_by_one(case)
    result = case.copy(device).run()
    assert result.isfinite().all()
    assert relative_error(result, expected) < 2 * unit_roundoff(dtype) or not expected.any()


@pytest.mark.parametrize('device', DEVICES)
def test_what_int8_costs(device):
    """Of random numbers: the error of 8 bits whose largest is some three deviations."""
    errors = []
    for int8 in (False, True):
        case = Case('cpu', torch.float16, positions=[700], int8=int8, **SHAPES['decoder'])
        errors.append(case.copy(device).run().double().cpu())
    assert 1e-3 < relative_error(errors[1], errors[0]) < 2e-2


@on_gpu
@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('int8', [False, True])
def test_a_query_depends_neither_on_its_neighbours_nor_on_the_run(shape, int8):
    case = Case('cuda', torch.bfloat16, positions=[0, 40, 3000, 999], spare=9, int8=int8,
                **SHAPES[shape])
    length = case.qkv.shape[1]
    together = case.copy('cuda').run()
    for _ in range(20):
        assert torch.equal(case.copy('cuda').run(), together)
    for stream in range(4):
        alone = case.copy('cuda').run(rows=slice(stream, stream + 1))
        assert torch.equal(alone, together[stream:stream + 1])
    if case.cache.per_token == 1:
        serial = case.copy('cuda')
        parts = [serial.run(times=slice(t, t + 1), ahead=t) for t in range(length)]
        assert torch.equal(torch.cat(parts, 1), together)


@on_gpu
def test_too_few_counters_are_refused():
    case = Case('cuda', torch.float16, positions=[0], **SHAPES['decoder'])
    case.counters = case.counters[:1]
    with pytest.raises(ValueError, match='counters'):
        case.run()
