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
"""A stream that has looked ahead and was rolled back goes on as if it had not, bit for bit."""

import numpy as np
import pytest
from support import checkpoints
from support.cuda import backend_without_graphs, on_gpu
import torch

from voxtral_ros.backends import rollback
from voxtral_ros.backends.cuda.backend import CudaBackend
from voxtral_ros.backends.cuda.weight_source import CheckpointWeights
from voxtral_ros.model.checkpoint import load_network, open_weights

cpu = pytest.importorskip('support.cpu')

MAX = rollback.MAX_ROLLBACK_TOKENS
N_SLOTS, CHUNK = 3, 8
SIZES = {
    'n_layers': 2, 'dim': 256, 'head_dim': 64, 'hidden_dim': 256, 'n_heads': 4, 'n_kv_heads': 2,
    'vocab_size': 1088, 'encoder.n_layers': 2, 'encoder.dim': 128, 'encoder.head_dim': 64,
    'encoder.hidden_dim': 128, 'encoder.n_heads': 2, 'encoder.n_kv_heads': 2}
# Windows that wrap after 40 tokens, and such that take several blocks of every kernel.
WINDOWS = {'small': (9, 21), 'large': (301, 1201)}


@pytest.fixture(scope='module', params=WINDOWS)
def folder(request, tmp_path_factory):
    decoder, encoder = WINDOWS[request.param]
    return cpu.random_checkpoint(tmp_path_factory.mktemp(request.param), **SIZES, **{
        'sliding_window': decoder, 'encoder.sliding_window': encoder})


def eager_on_gpu(folder, max_streams=N_SLOTS, max_chunk_tokens=CHUNK):
    network = load_network(folder, 'cuda', torch.float32)
    return cpu.EagerBackend(network, cpu.PAD, max_streams, max_chunk_tokens)


def launched(folder, max_streams=N_SLOTS, max_chunk_tokens=CHUNK):
    return backend_without_graphs(folder, max_streams=max_streams,
                                  max_chunk_tokens=max_chunk_tokens)


def graphs(folder, max_streams=N_SLOTS, max_chunk_tokens=CHUNK):
    with open_weights(folder) as (network, weights):
        source = CheckpointWeights(weights, torch.device('cuda', 0), torch.bfloat16)
        return CudaBackend(network.config, source, cpu.PAD, [checkpoints.STREAMING_WORD],
                           max_streams, max_chunk_tokens)


# Those of whose passes a row does not depend on its neighbours, to the last bit, come first.
INDEPENDENT = [cpu.cpu_backend, pytest.param(graphs, marks=on_gpu)]
BACKENDS = [*INDEPENDENT, cpu.eager_backend, launched, pytest.param(eager_on_gpu, marks=on_gpu)]


def silence(n_streams, n_tokens):
    return np.zeros((n_streams, n_tokens * 1280 + 240), np.float32)


class Twins:
    """Two backends with the same streams; in the first one some look ahead in between."""

    def __init__(self, make, seed, position=0):
        self.looking, self.plain = make(), make()
        self.rng = np.random.default_rng(seed)
        self.ahead = {}  # slots that look ahead -> by how many tokens
        self.ids = set()
        for backend in (self.looking, self.plain):
            cpu.open_streams(backend, N_SLOTS)
            backend.set_position(position)
        for slot in range(N_SLOTS):  # out of phase
            self.go_on([slot], 1 + 2 * slot)

    def windows(self, n_streams, n_tokens):
        return cpu.noise(n_streams, n_tokens, int(self.rng.integers(1 << 30)))

    def go_on(self, slots, n_tokens, ahead=()):
        """Pass streams in both backends, with others that look ahead beside them in one."""
        windows = self.windows(len(slots), n_tokens)
        expected = self.plain.decode(slots, windows)
        every = np.concatenate([self.glimpse(len(ahead), n_tokens), windows])
        found = self.looking.decode([*ahead, *slots], every)
        for slot in ahead:
            self.ahead[slot] += n_tokens
        assert tuple(part[len(ahead):] for part in found) == expected
        self.ids.update(token for row in expected[0] for token in row)

    def glimpse(self, n_streams, n_tokens):
        """Return what streams look ahead at: silence, but it must not matter what."""
        windows = silence(n_streams, n_tokens)
        kind = self.rng.integers(3)
        return windows if kind == 0 else self.windows(n_streams, n_tokens) if kind == 1 \
            else np.full_like(windows, np.nan)

    def look(self, slots, n_tokens):
        if self.rng.random() < 0.2:
            tokens = self.rng.integers(0, SIZES['vocab_size'], (len(slots), n_tokens)).tolist()
            self.looking.prefill(slots, self.glimpse(len(slots), n_tokens), tokens)
        else:
            self.looking.decode(slots, self.glimpse(len(slots), n_tokens))
        for slot in slots:
            self.ahead[slot] += n_tokens

    def save(self, slot):
        self.looking.save(slot)
        self.ahead[slot] = 0

    def rollback(self, slot):
        self.looking.rollback(slot)
        del self.ahead[slot]

    def some(self, slots):
        """Return some of the slots, in any order."""
        n = self.rng.integers(1, len(slots) + 1)
        return self.rng.permutation(sorted(slots))[:n].tolist()

    def anything(self, merge):
        """Do something at random; with merge, some passes are for streams of both kinds."""
        others = set(range(N_SLOTS)) - set(self.ahead)
        may = [slot for slot in self.ahead if self.ahead[slot] < MAX]
        room = min((MAX - self.ahead[slot] for slot in may), default=0)
        n_tokens = int(self.rng.choice([1, CHUNK, self.rng.integers(1, CHUNK + 1)]))
        action = self.rng.choice(['save', 'look', 'look', 'look', 'rollback', 'go_on', 'go_on'])
        if action == 'save' and others:
            self.save(int(self.rng.choice(sorted(others))))
        elif action == 'look' and may:
            self.look(self.some(may), min(n_tokens, room))
        elif action == 'rollback' and self.ahead:
            self.rollback(max(self.ahead, key=self.ahead.get))
        elif action == 'go_on' and others:
            beside = self.some(may) if merge and n_tokens <= room else []
            self.go_on(self.some(others), n_tokens, beside)

    def finish(self):
        for slot in list(self.ahead):
            self.rollback(slot)
        for slot in range(N_SLOTS):
            for n_tokens in (1, CHUNK):
                self.go_on([slot], n_tokens)


@pytest.fixture
def make(request, folder):
    """Return how to make backends of a kind."""
    return lambda: request.param(folder, N_SLOTS, CHUNK)


@pytest.mark.parametrize('make', BACKENDS, indirect=True)
@pytest.mark.parametrize('seed', range(3))
def test_looking_ahead_at_random_moments_changes_nothing(make, seed):
    twins = Twins(make, seed, position=[0, 40, 2 ** 31 - 20][seed])
    for _ in range(120):
        twins.anything(merge=False)
    twins.finish()
    assert len(twins.ids) > 5


@pytest.mark.parametrize('make', INDEPENDENT, indirect=True)
@pytest.mark.parametrize('seed', range(3))
def test_looking_ahead_beside_streams_that_go_on_changes_nothing(make, seed):
    twins = Twins(make, seed, position=[0, 40, 2 ** 31 - 20][seed])
    for _ in range(120):
        twins.anything(merge=True)
    twins.finish()
    assert len(twins.ids) > 5


@pytest.mark.parametrize('make', BACKENDS, indirect=True)
@pytest.mark.parametrize('cuts', [[1] * MAX, [CHUNK] * (MAX // CHUNK), [7, 8, 3, 1, 8, 5]])
def test_a_stream_can_look_as_far_as_is_said(make, cuts):
    """From every phase of the small caches, and at once again."""
    twins = Twins(make, 0, position=3)
    assert twins.looking.max_rollback_tokens == MAX == sum(cuts)
    for n_tokens in [1] * 6 + [CHUNK, 5] * 3:
        twins.save(1)
        for n_ahead in cuts:
            twins.look([1], n_ahead)
        twins.rollback(1)
        twins.go_on([1], n_tokens)


@pytest.mark.parametrize('make', BACKENDS, indirect=True)
def test_what_is_saved_stays_until_something_else_is(make):
    twins = Twins(make, 0)
    twins.save(0)
    for _ in range(3):
        twins.look([0], 8)
        twins.looking.rollback(0)
    twins.go_on([0], 2)
    twins.save(0)
    twins.save(1)
    twins.look([0, 1], 3)
    twins.looking.reset(2, 5)  # of another slot
    twins.rollback(1)
    twins.go_on([1], 8)
    twins.looking.rollback(0)
    twins.go_on([0], 8)


@pytest.mark.parametrize('make', BACKENDS, indirect=True)
def test_a_penalty_is_not_rolled_back(make):
    twins = Twins(make, 0)
    twins.save(0)
    twins.look([0], 4)
    for backend in (twins.looking, twins.plain):
        backend.set_pad_penalty(0, -1000.0)
    twins.rollback(0)
    twins.ids.clear()
    twins.go_on([0], 4)
    assert twins.ids == {cpu.PAD}


@pytest.mark.parametrize('make', BACKENDS, indirect=True)
def test_a_rollback_to_nowhere_is_refused(make):
    backend = make()
    cpu.open_streams(backend, N_SLOTS)
    backend.save(1)
    for slot in (0, 2):
        with pytest.raises(RuntimeError, match=f'slot {slot} .*nothing was saved'):
            backend.rollback(slot)
    backend.reset(1, 3)
    with pytest.raises(RuntimeError, match='slot 1 .*nothing was saved'):
        backend.rollback(1)
    backend.save(1)
    backend.set_position(100)
    with pytest.raises(RuntimeError, match='slot 1 .*nothing was saved'):
        backend.rollback(1)


@pytest.mark.parametrize('make', BACKENDS, indirect=True)
def test_a_rollback_too_far_is_refused_and_changes_nothing(make):
    twins = Twins(make, 0)
    twins.looking.save(0)
    for _ in range(MAX // CHUNK):
        twins.go_on([0], CHUNK)
    twins.go_on([0], 1)
    with pytest.raises(RuntimeError, match=f'slot 0 .*saved {MAX + 1} tokens ago.*within {MAX}'):
        twins.looking.rollback(0)
    twins.go_on([0], CHUNK)
    twins.save(0)
    twins.look([0], CHUNK)
    twins.rollback(0)
    twins.go_on([0], CHUNK)
