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
from support.cuda import dequantize_once

from voxtral_ros.backends import rollback
from voxtral_ros.backends.cuda.backend import CudaBackend

cpu = pytest.importorskip('support.cpu')
backends = pytest.importorskip('support.backends')

CHUNK, N_SLOTS, SIZES = backends.CHUNK, backends.N_SLOTS, backends.SIZES

MAX = rollback.MAX_ROLLBACK_TOKENS
# Windows that wrap after 40 tokens, and such that take several blocks of every kernel.
WINDOWS = {'small': (9, 21), 'large': (301, 1201)}


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp('windows')
    return {name: cpu.random_checkpoint(root / name, **SIZES, **{
        'sliding_window': decoder, 'encoder.sliding_window': encoder})
        for name, (decoder, encoder) in WINDOWS.items()}


def kinds(*makes):
    return [pytest.param((backend, windows), marks=backends.marks_of(backend),
                         id=f'{backend.__name__}, {windows} windows')
            for backend in makes for windows in WINDOWS
            # Launched one by one they are slow, and no kernels of their own.
            if (backend, windows) != (backends.launched, 'large')]


# A row of their passes does not depend on its neighbours, to the last bit.
INDEPENDENT = kinds(backends.compiled, backends.graphs)
CUDA = kinds(backends.launched, backends.graphs)
BACKENDS = kinds(backends.compiled, backends.eager, backends.launched, backends.graphs,
                 backends.eager_on_gpu)


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
            for slot in range(N_SLOTS if seed % 2 else 0):
                backend.set_phrases(slot, cpu.random_trie(slot, SIZES['vocab_size']))
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
        assert tuple(part and part[len(ahead):] for part in found) == expected
        self.ids.update(token for row in expected[0] for token in row)

    def glimpse(self, n_streams, n_tokens):
        """Return what streams look ahead at: silence, but it must not matter what."""
        windows = silence(n_streams, n_tokens)
        # NaN in samples, which a Stream never passes on, makes a pass on a GPU wait for ever.
        on_gpu = isinstance(self.looking, CudaBackend) and self.looking.device != 'cpu'
        kind = self.rng.integers(2 if on_gpu else 3)
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
def make(request, folders, monkeypatch):
    """Return how to make backends of a kind."""
    dequantize_once(monkeypatch)
    backend, windows = request.param
    return lambda **options: backend(folders[windows], **options)


@pytest.mark.parametrize('make', BACKENDS, indirect=True)
@pytest.mark.parametrize('seed', range(3))
def test_looking_ahead_at_random_moments_changes_nothing(make, seed):
    twins = Twins(make, seed, position=[0, 40, 2 ** 31 - 20][seed])
    for _ in range(90):
        twins.anything(merge=False)
    twins.finish()
    assert len(twins.ids) > 5


@pytest.mark.parametrize('make', INDEPENDENT, indirect=True)
@pytest.mark.parametrize('seed', range(3))
def test_looking_ahead_beside_streams_that_go_on_changes_nothing(make, seed):
    twins = Twins(make, seed, position=[0, 40, 2 ** 31 - 20][seed])
    for _ in range(90):
        twins.anything(merge=True)
    twins.finish()
    assert len(twins.ids) > 5


@pytest.mark.parametrize('make', BACKENDS, indirect=True)
@pytest.mark.parametrize('cuts', [[1] * MAX, [CHUNK] * (MAX // CHUNK), [7, 8, 3, 1, 8, 5]])
def test_a_stream_can_look_as_far_as_is_said(make, cuts):
    twins = Twins(make, 0, position=3)
    assert twins.looking.max_rollback_tokens == MAX == sum(cuts)
    for n_tokens in (1, 1, CHUNK, 5, 1):
        twins.save(1)
        for n_ahead in cuts:
            twins.look([1], n_ahead)
        twins.rollback(1)
        twins.go_on([1], n_tokens)


def poison(backend):
    """Write NaN wherever the KV caches have no position that is in a window."""
    for stack, config, per_token in ((backend.state.encoder, backend.config.encoder, 4),
                                     (backend.state.decoder, backend.config.decoder, 1)):
        for slot in range(N_SLOTS):
            end = int(stack.position[slot]) * per_token
            seen = np.arange(max(0, end - config.sliding_window + 1), end)
            unseen = np.setdiff1d(np.arange(stack.capacity), seen % stack.capacity)
            stack.keys[:, slot, :, unseen // 16, :, unseen % 16] = np.nan
            stack.values[:, slot, :, :, unseen] = np.nan


@pytest.mark.parametrize('make', kinds(backends.compiled), indirect=True)
@pytest.mark.parametrize('position', [0, 30])
def test_compiled_passes_read_nothing_outside_of_the_window(make, position):
    twins = Twins(make, 0, position)
    for n_tokens in (1, CHUNK, 3) * 3:
        twins.save(1)
        for _ in range(MAX // CHUNK):
            twins.look([1], CHUNK)
        twins.rollback(1)
        poison(twins.looking)
        twins.go_on([1, 0], n_tokens)


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


@pytest.mark.parametrize('make', CUDA, indirect=True)
def test_what_is_drafted_in_a_look_is_what_is_decoded_serially(make):
    serial, drafted = make(speculative=False), make()
    found = []
    for backend in (serial, drafted):
        rng = np.random.default_rng(0)
        cpu.open_streams(backend, N_SLOTS)
        for slot in range(N_SLOTS):
            backend.decode([slot], silence(1, 3))
            backend.set_pad_penalty(slot, (-0.5, 0, -2)[slot])
        found.append([])
        for n in range(12):
            slot = n % N_SLOTS
            backend.save(slot)
            looks = [backend.decode([slot], cpu.noise(1, CHUNK, int(rng.integers(99))))
                     for _ in range(2)]
            backend.rollback(slot)
            found[-1] += [looks, backend.decode([slot], cpu.noise(1, 1, n))]
    if serial.device == 'cpu':  # products of several rows round otherwise there
        assert tokens_of(found[0]) == tokens_of(found[1])
    else:
        assert found[0] == found[1]


def tokens_of(found):
    return [[tokens.ids for tokens in part] if isinstance(part, list) else part.ids
            for part in found]


@pytest.mark.parametrize('make', CUDA, indirect=True)
def test_a_look_is_drafted_always_and_never_counted(make):
    """The statistics are of what people say; a look is at silence, whatever they are."""
    backend = make()
    cpu.open_streams(backend, N_SLOTS)
    speculative, kinds_run = backend.speculative_decoding, []
    captured = backend._captured
    backend._captured = lambda kind, *sizes: kinds_run.append(kind) or captured(kind, *sizes)
    backend.set_pad_penalty(0, -1000.0)  # pads alone
    backend.decode([0], silence(1, CHUNK))
    while speculative.enabled:  # drafting does not pay
        speculative.count(1, 1)
    before = vars(speculative).copy()
    kinds_run.clear()
    backend.save(0)
    for _ in range(MAX // CHUNK):
        backend.decode([0], silence(1, CHUNK))
    backend.rollback(0)
    assert kinds_run == ['draft'] * (MAX // CHUNK)
    assert vars(speculative) == before
    backend.decode([0], silence(1, CHUNK))
    assert kinds_run[-1] == 'decode'
    assert vars(speculative) != before


@pytest.mark.parametrize('make', CUDA, indirect=True)
def test_a_stream_that_is_never_rolled_back_is_counted(make):
    backend = make()
    cpu.open_streams(backend, N_SLOTS)
    backend.save(0)
    for _ in range(MAX // CHUNK + 2):
        backend.decode([0], silence(1, CHUNK))
    assert backend.speculative.n_accepted == 2 * CHUNK
