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
from voxtral_ros.backends.cpu.backend import NativeStep
from voxtral_ros.backends.cpu.passes import NativePasses
from voxtral_ros.backends.eager import EagerStep

native = pytest.importorskip('support.native')

SIZES = {
    'tiny': {}, 'odd': native.ODD,
    'no biases': {'encoder.use_biases': False, 'n_kv_heads': 8, 'head_dim': 128, 'n_layers': 1},
    'others': {'rope_theta': 1e4, 'encoder.norm_eps': 0.2, 'norm_eps': 0.1, 'n_kv_heads': 1,
               'audio.frame_rate': 25.0, 'downsample.downsample_factor': 2},
}
N_SLOTS, MAX_TOKENS = 5, 8


@pytest.fixture(scope='module', params=SIZES)
def network(request, tmp_path_factory):
    return native.random_network(tmp_path_factory.mktemp('sizes'), **SIZES[request.param])


def windows_of(network, n_streams, n_tokens, seed):
    per_token = network.config.audio.samples_per_token
    return native.noise(n_streams, n_tokens, seed)[:, :n_tokens * per_token + 240].copy()


def exact(network):
    """Return the same network in float64."""
    twin = type(network)(network.config)
    twin.load_state_dict(network.state_dict())
    return twin.double().eval().requires_grad_(False)


@pytest.mark.parametrize('name', native.instruction_sets())
def test_streams_of_all_ages_are_those_of_the_network(network, name):
    """Passes over 1 to 5 of the streams, of 1 to 8 tokens, until all windows have wrapped."""
    reference = EagerStep(exact(network), native.PAD, N_SLOTS, MAX_TOKENS)
    ours = NativeStep(network, native.PAD, N_SLOTS, MAX_TOKENS)
    native.open_streams(reference, network, N_SLOTS)
    native.open_streams(ours, network, N_SLOTS)
    rng, ages = np.random.default_rng(0), np.zeros(N_SLOTS, int)
    with torch.inference_mode(), native.instructions(name):
        for count in range(24):
            slots = rng.permutation(N_SLOTS)[:rng.integers(1, N_SLOTS + 1)].tolist()
            n_tokens = int(rng.integers(1, MAX_TOKENS + 1))
            sound = windows_of(network, len(slots), n_tokens, count)
            ages[slots] += n_tokens
            given = rng.integers(0, network.config.vocab_size, (len(slots), n_tokens)).tolist()
            for step in (ours, reference):
                step.result = step.prompt(slots, sound, given, int(ages.max())) \
                    if count % 2 else step.generate(slots, sound, int(ages.max()))
            assert ours.result[0] == reference.result[0]
            np.testing.assert_allclose(ours.result[1], reference.result[1], rtol=1e-4, atol=1e-7)
    assert ages.min() > network.config.decoder.sliding_window
    for slot in range(N_SLOTS):
        pairs = zip(native.memory(ours.state, slot), native.memory(reference.state, slot),
                    strict=True)
        for mine, theirs in pairs:
            torch.testing.assert_close(mine.double(), theirs.double(), rtol=1e-4, atol=1e-4)
    assert ours.last_token.equal(reference.last_token)


def test_what_a_stream_left_behind_does_not_matter(network):
    """A slot is opened again in the middle: the next stream is like the first one."""
    step = NativeStep(network, native.PAD, 1, MAX_TOKENS)
    results = []
    with torch.inference_mode():
        for _ in range(2):
            native.open_streams(step, network, 1)
            step.prompt([0], windows_of(network, 1, 3, 0), [[1, 2, 3]], 3)
            results.append(step.generate([0], windows_of(network, 1, 8, 1), 11))
    assert results[0] == results[1]


def test_wrong_arguments_are_refused(network):
    step = NativeStep(network, native.PAD, 2, MAX_TOKENS)
    sound = windows_of(network, 2, 2, 0)
    with pytest.raises(IndexError, match='each once'):
        step.generate([0, 0], sound, 2)
    with pytest.raises(IndexError, match='there are 2'):
        step.generate([0, 2], sound, 2)
    with pytest.raises(IndexError, match='vocabulary'):
        step.prompt([0], sound[:1], [[0, network.config.vocab_size]], 2)
    with pytest.raises(IndexError, match='vocabulary'):
        step.prompt([0], sound[:1], [[-1, 0]], 2)
    with pytest.raises(ValueError, match='made for 8'):
        step.generate([0], windows_of(network, 1, 9, 0), 9)
    with pytest.raises(ValueError, match='of 2 streams, but it is for 1'):
        step.generate([0], sound, 2)
    with pytest.raises(ValueError, match='2 tokens given'):
        step.prompt([0], sound[:1], [[1]], 2)
    assert step.state.encoded.tolist() == [0, 0]


def test_tensors_must_lie_in_memory_as_they_are(network):
    state = NativeStep(network, native.PAD, 2, MAX_TOKENS).state
    with pytest.raises(ValueError, match='in memory'):
        NativePasses(network, state, native.PAD, torch.zeros(4)[::2], torch.zeros(2), 1)


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf'), 1e30, -1e18])
@pytest.mark.parametrize('name', native.instruction_sets())
def test_bad_samples_stay_in_their_stream(network, name, value):
    step = NativeStep(network, native.PAD, 2, MAX_TOKENS)
    alone = NativeStep(network, native.PAD, 2, MAX_TOKENS)
    native.open_streams(step, network, 2)
    native.open_streams(alone, network, 2)
    with torch.inference_mode(), native.instructions(name):
        for n in range(3):
            sound = windows_of(network, 2, 8, n)
            sound[0, 700:] = value
            ids, chances = step.generate([0, 1], sound, 8 * n + 8)
            assert all(0 <= token < network.config.vocab_size for token in ids[0])
            expected = alone.generate([1], sound[1:], 8 * n + 8)
            assert (ids[1:], chances[1:]) == expected
        assert value in (1e30, -1e18) or all(map(math.isnan, chances[0]))
        native.open_streams(step, network, 1)
        native.open_streams(alone, network, 1)
        sound = windows_of(network, 1, 8, 9)
        assert step.generate([0], sound, 8) == alone.generate([0], sound, 8)
