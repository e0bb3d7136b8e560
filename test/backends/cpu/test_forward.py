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

"""Compiled passes compute what the network computes in PyTorch."""

import math

import numpy as np
import pytest
import torch

from voxtral_ros.model.config import ModelConfig

cpu = pytest.importorskip('support.cpu')

SIZES = {
    'tiny': {}, 'odd': cpu.ODD,
    'no biases': {'encoder.use_biases': False, 'n_kv_heads': 8, 'head_dim': 128, 'n_layers': 1},
    'others': {'rope_theta': 1e4, 'encoder.norm_eps': 0.2, 'norm_eps': 0.1, 'n_kv_heads': 1,
               'audio.frame_rate': 25.0, 'downsample.downsample_factor': 2},
}
N_SLOTS, MAX_TOKENS = 5, 8


@pytest.fixture(scope='module', params=SIZES)
def folder(request, tmp_path_factory):
    return cpu.random_checkpoint(tmp_path_factory.mktemp('sizes'), **SIZES[request.param])


def windows_of(folder, n_streams, n_tokens, seed):
    per_token = ModelConfig.load(folder).audio.samples_per_token
    return cpu.noise(n_streams, n_tokens, seed)[:, :n_tokens * per_token + 240].copy()


def pair(folder, n_slots, int8_cache):
    """Return our backend, and a reference whose KV caches round in the same way."""
    reference = cpu.eager_backend(folder, n_slots, MAX_TOKENS, exact=True, int8_cache=int8_cache)
    return (cpu.cpu_backend(folder, n_slots, MAX_TOKENS, int8_cache),
            reference if int8_cache else cpu.with_half_caches(reference))


@pytest.mark.parametrize('name', cpu.instruction_sets())
@pytest.mark.parametrize('int8_cache', [False, True])
def test_passes_are_those_of_the_network(folder, name, int8_cache):
    """Streams of all ages and sizes of passes, until every KV cache has wrapped."""
    ours, reference = pair(folder, N_SLOTS, int8_cache)
    cpu.open_streams(reference, N_SLOTS)
    cpu.open_streams(ours, N_SLOTS)
    rng = np.random.default_rng(0)
    config = ModelConfig.load(folder)
    ages, n_same = np.zeros(N_SLOTS, int), []
    with cpu.instructions(name):
        for count in range(24):
            slots = rng.permutation(N_SLOTS)[:rng.integers(1, N_SLOTS + 1)].tolist()
            n_tokens = int(rng.integers(1, MAX_TOKENS + 1))
            windows = windows_of(folder, len(slots), n_tokens, count)
            ages[slots] += n_tokens
            tokens = rng.integers(0, config.vocab_size, (len(slots), n_tokens)).tolist()
            # In INT8 a last bit decides which of two codes is nearer, then which token is best.
            (ids, probs, _), (expected_ids, expected, _) = (
                backend.prefill(slots, windows, tokens) if count % 2 or int8_cache
                else backend.decode(slots, windows) for backend in (ours, reference))
            same = np.equal(ids, expected_ids)
            assert same.all() or (int8_cache and same.mean() >= 0.5)
            n_same.append(same.mean())
            compare_probs(np.where(same, probs, 1), np.where(same, expected, 1),
                          0.1 if int8_cache else 5e-3)
    assert np.mean(n_same) > 0.95
    assert ages.min() > config.decoder.sliding_window
    compare_memory(ours, reference, N_SLOTS)
    assert int8_cache or ours.state.last_token.tolist() == reference.last_token.tolist()


def compare_probs(found, expected, tolerance=5e-3):
    """Compare probabilities; where a key or a value is rounded the other way, they move a bit."""
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=1e-6)
    assert np.median(np.abs(np.divide(found, expected) - 1)) < tolerance / 5


def compare_memory(ours, reference, n_slots):
    for slot in range(n_slots):
        parts = zip(cpu.memory(ours, slot), cpu.memory(reference, slot), strict=True)
        for n, (mine, theirs) in enumerate(parts):
            if n < 4:  # keys and values of both stacks
                step = 1 / 127 if ours.cache_bits == 8 else 2 ** -10
                atol = 1.01 * step * float(theirs.abs().max()) if theirs.numel() else 0
                torch.testing.assert_close(mine.to(theirs), theirs, rtol=0, atol=max(atol, 1e-3))
                assert not atol or (mine.to(theirs) == theirs).double().mean() > 0.7
            else:
                torch.testing.assert_close(mine.to(theirs), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', cpu.instruction_sets())
@pytest.mark.parametrize('int8_cache', [False, True])
def test_angles_are_right_at_late_positions(folder, name, int8_cache):
    """After 2.5 years; what such a stream has in its KV cache are the zeros of the slots here."""
    ours, reference = pair(folder, 1, int8_cache)
    windows = windows_of(folder, 1, 8, 0)
    with cpu.instructions(name):
        results = []
        for backend in (reference, ours):
            cpu.open_streams(backend, 1)
            backend.set_position(10**9)
            results.append(backend.prefill([0], windows, [[*range(8)]]))
    compare_memory(ours, reference, 1)
    compare_probs(results[1][1], results[0][1], 0.1 if int8_cache else 5e-3)


@pytest.mark.parametrize('int8_cache', [False, True])
def test_what_a_stream_left_behind_does_not_matter(folder, int8_cache):
    """A slot is opened again in the middle: the next stream is like the first one."""
    backend = cpu.cpu_backend(folder, 1, MAX_TOKENS, int8_cache)
    results = []
    for _ in range(2):
        cpu.open_streams(backend, 1)
        backend.prefill([0], windows_of(folder, 1, 3, 0), [[1, 2, 3]])
        results.append(backend.decode([0], windows_of(folder, 1, 8, 1)))
    assert results[0] == results[1]


def test_wrong_arguments_are_refused(folder):
    backend = cpu.cpu_backend(folder, 2, MAX_TOKENS)
    vocab_size = ModelConfig.load(folder).vocab_size
    windows = windows_of(folder, 2, 2, 0)
    with pytest.raises(IndexError, match='each once'):
        backend.decode([0, 0], windows)
    with pytest.raises(IndexError, match='there are 2'):
        backend.decode([0, 2], windows)
    with pytest.raises(IndexError, match='vocabulary'):
        backend.prefill([0], windows[:1], [[0, vocab_size]])
    with pytest.raises(IndexError, match='vocabulary'):
        backend.prefill([0], windows[:1], [[-1, 0]])
    with pytest.raises(ValueError, match='made for 8'):
        backend.decode([0], windows_of(folder, 1, 9, 0))
    with pytest.raises(ValueError, match='of 2 streams, but it is for 1'):
        backend.decode([0], windows)
    with pytest.raises(ValueError, match='2 prompt tokens'):
        backend.prefill([0], windows[:1], [[1]])
    assert backend.state.encoder.position.tolist() == [0, 0]


def test_arrays_must_lie_in_memory_as_they_are(folder):
    backend = cpu.cpu_backend(folder, 2, MAX_TOKENS)
    with pytest.raises(ValueError, match='in memory'):
        backend._keep(np.zeros(4, np.float32)[::2])


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf'), 1e30, -1e18])
@pytest.mark.parametrize('name', cpu.instruction_sets())
@pytest.mark.parametrize('int8_cache', [False, True])
def test_bad_samples_stay_in_their_stream(folder, name, value, int8_cache):
    backend = cpu.cpu_backend(folder, 2, MAX_TOKENS, int8_cache)
    alone = cpu.cpu_backend(folder, 2, MAX_TOKENS, int8_cache)
    vocab_size = ModelConfig.load(folder).vocab_size
    cpu.open_streams(backend, 2)
    cpu.open_streams(alone, 2)
    with cpu.instructions(name):
        for n in range(3):
            windows = windows_of(folder, 2, 8, n)
            windows[0, 700:] = value
            ids, probs, _ = backend.decode([0, 1], windows)
            assert all(0 <= token < vocab_size for token in ids[0])
            expected = alone.decode([1], windows[1:])
            assert (ids[1:], probs[1:], None) == expected
        assert value in (1e30, -1e18) or all(map(math.isnan, probs[0]))
        cpu.open_streams(backend, 1)
        cpu.open_streams(alone, 1)
        windows = windows_of(folder, 1, 8, 9)
        assert backend.decode([0], windows) == alone.decode([0], windows)
