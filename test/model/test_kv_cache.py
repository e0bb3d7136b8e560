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

"""The KV cache is attention over the whole history, in memory that never grows."""

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest
import torch

from voxtral_ros.model.config import StackConfig
from voxtral_ros.model.kv_cache import KVCache
from voxtral_ros.model.layers import sliding_window_attention

N_LAYERS, HEADS, KEY_HEADS, HEAD_DIM = 2, 4, 2, 4
CPU = torch.device('cpu')


def make_cache(window, n_slots, max_positions, int8=False):
    config = StackConfig(dim=8, n_layers=N_LAYERS, n_heads=HEADS, n_kv_heads=KEY_HEADS,
                         head_dim=HEAD_DIM, hidden_dim=8, sliding_window=window)
    return KVCache(config, n_slots, max_positions, torch.float32, CPU, int8)


class History:
    """A cache and, beside it, everything that was ever put in."""

    def __init__(self, cache, seed=0):
        self.cache = cache
        self.generator = torch.Generator().manual_seed(seed)
        self.length = [0] * cache.n_slots
        # Per slot q, k and v of all positions: [layers, length, heads, head_dim]
        self.past = [self._random(0) for _ in range(cache.n_slots)]

    def _random(self, length):
        return [torch.randn(N_LAYERS, length, heads, HEAD_DIM, generator=self.generator)
                for heads in (HEADS, KEY_HEADS, KEY_HEADS)]

    def reopen(self, slot):
        self.length[slot] = 0
        self.past[slot] = self._random(0)

    def run(self, slots, n_new, slack=0):
        """Pass n_new positions of the streams in `slots` and compare with the whole histories."""
        for slot in slots:
            self.past[slot] = [torch.cat(parts, dim=1) for parts in
                               zip(self.past[slot], self._random(n_new), strict=True)]
        start = torch.tensor([self.length[slot] for slot in slots])
        for slot in slots:
            self.length[slot] += n_new
        max_kv_len = max(self.length[slot] for slot in slots) + slack
        attends = self.cache.attention(
            torch.tensor(slots), start[:, None] + torch.arange(n_new), max_kv_len)
        assert len(attends) == N_LAYERS
        for layer, attend in enumerate(attends):
            new = [torch.stack([self.past[slot][part][layer, -n_new:] for slot in slots])
                   for part in range(3)]
            seen = attend(*new)
            for row, slot in enumerate(slots):
                whole = sliding_window_attention(self.length[slot], self.cache.window, CPU)
                q, k, v = (part[layer][None] for part in self.past[slot])
                torch.testing.assert_close(seen[row], whole(q, k, v)[0, -n_new:])


@st.composite
def schedules(draw):
    """Draw a cache and what happens to it: passes over some of its slots, and reopened slots."""
    window = draw(st.integers(1, 12))
    max_positions = draw(st.integers(1, 6))
    n_slots = draw(st.integers(1, 4))
    some_slots = st.permutations(range(n_slots)).flatmap(
        lambda order: st.integers(1, n_slots).map(lambda n: list(order[:n])))
    passes = st.tuples(st.just('run'), some_slots, st.integers(1, max_positions),
                       st.sampled_from([0, 0, 1, 500]))
    reopened = st.tuples(st.just('reopen'), st.integers(0, n_slots - 1))
    steps = draw(st.lists(st.one_of(passes, passes, passes, passes, reopened), max_size=30))
    return window, n_slots, max_positions, steps


@settings(max_examples=60)
@given(schedules())
def test_a_cache_attends_like_the_whole_history(schedule):
    window, n_slots, max_positions, steps = schedule
    history = History(make_cache(window, n_slots, max_positions))
    for action, *arguments in steps:
        getattr(history, action)(*arguments)


@pytest.mark.parametrize('window', [100, 128, 200, 300])
def test_long_windows_are_right_before_and_after_every_wrap(window):
    """Attention reads the cache in blocks: streams of very different ages share a pass."""
    history = History(make_cache(window, n_slots=2, max_positions=7))
    for _ in range(3 * window // 14):
        history.run([1], 7)
    for n_new in [7, 1, 3] * (window // 14):
        history.run([0, 1], n_new)
        history.run([1], 7)
    assert history.length[1] > 3 * history.cache.capacity > 3 * history.length[0] // 2


def test_slots_keep_their_order_whatever_the_order_of_a_pass():
    caches = [make_cache(4, n_slots=3, max_positions=2) for _ in range(2)]
    q, k, v = (torch.randn(3, 2, heads, HEAD_DIM) for heads in (HEADS, KEY_HEADS, KEY_HEADS))
    positions = torch.arange(2).expand(3, 2)
    order = torch.tensor([2, 0, 1])
    straight = caches[0].attention(torch.arange(3), positions, 2)[0](q, k, v)
    shuffled = caches[1].attention(order, positions, 2)[0](q[order], k[order], v[order])
    torch.testing.assert_close(shuffled, straight[order])
    assert torch.equal(caches[0].keys, caches[1].keys)


def test_a_pass_leaves_other_slots_and_other_layers_alone():
    cache = make_cache(4, n_slots=3, max_positions=2)
    before = cache.keys.clone(), cache.values.clone()
    q, k, v = (torch.randn(1, 2, heads, HEAD_DIM) for heads in (HEADS, KEY_HEADS, KEY_HEADS))
    cache.attention(torch.tensor([1]), torch.tensor([[0, 1]]), 2)[1](q, k, v)
    for now, then in zip((cache.keys, cache.values), before, strict=True):
        changed = (now != then).any(dim=(2, 3, 4))
        assert changed.nonzero().tolist() == [[1, 1]]


@pytest.mark.parametrize('age', [1, 5, 9, 10, 11, 500])
def test_a_reopened_slot_never_sees_its_predecessor(age):
    """Its output is bit for bit that of a slot that never had one."""
    used, fresh = make_cache(8, 2, 3), make_cache(8, 2, 3)
    slots = torch.tensor([1])

    def run(cache, position, n_new, scale, generator):
        q, k, v = (scale * torch.randn(1, n_new, heads, HEAD_DIM, generator=generator)
                   for heads in (HEADS, KEY_HEADS, KEY_HEADS))
        positions = position + torch.arange(n_new)[None]
        return cache.attention(slots, positions, position + n_new)[0](q, k, v)

    for position in range(age):
        run(used, position, 1, 1e6, torch.Generator())
    generators = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    for position in range(0, 60, 3):
        first, second = (run(cache, position, 3, 1.0, generator)
                         for cache, generator in zip((used, fresh), generators, strict=True))
        assert torch.equal(first, second)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_memory_is_fixed_at_construction(dtype):
    config = StackConfig(dim=8, n_layers=3, n_heads=4, n_kv_heads=2, head_dim=6, hidden_dim=8,
                         sliding_window=10)
    cache = KVCache(config, n_slots=5, max_positions=4, dtype=dtype, device=CPU)
    # keys and values, layers, slots, window - 1 + 4 entries, key heads, head_dim
    expected = 2 * 3 * 5 * 13 * 2 * 6 * dtype.itemsize
    assert cache.nbytes == expected
    addresses = cache.keys.data_ptr(), cache.values.data_ptr()
    q, k, v = (torch.randn(5, 4, heads, 6, dtype=dtype) for heads in (4, 2, 2))
    for position in range(0, 100, 4):
        positions = (position + torch.arange(4)).expand(5, 4)
        for attend in cache.attention(torch.arange(5), positions, position + 4):
            attend(q, k, v)
    assert (cache.keys.data_ptr(), cache.values.data_ptr()) == addresses
    assert expected == sum(
        tensor.untyped_storage().nbytes() for tensor in (cache.keys, cache.values))
