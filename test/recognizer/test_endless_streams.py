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

"""A stream goes on for ever: nothing depends on how long ago it began, and nothing grows."""

import numpy as np
import pytest
import torch

from voxtral_ros.backends.eager import EagerBackend
from voxtral_ros.model.layers import sliding_window_attention
from voxtral_ros.model.loading import load_network
from voxtral_ros.recognizer.engine import Engine

checkpoints = pytest.importorskip('support.checkpoints')
cpu = pytest.importorskip('support.cpu')

TOKEN, CONTEXT = 1280, 240
LEFT_PAD = 32 * TOKEN + 200
DELAY, N_PROMPT = 6, 39


def load(folder, seed=0, **sizes):
    params = checkpoints.tiny_params(**sizes)
    checkpoints.write_checkpoint(folder, params, checkpoints.random_tensors(params, seed),
                                 checkpoints.tiny_tekken())
    return Engine.load(folder, 'cpu', max_chunk_tokens=16)


@pytest.fixture(scope='module')
def engine(tmp_path_factory):
    return load(tmp_path_factory.mktemp('tiny'))


def noise(n_samples, seed=0):
    """Return noise that comes and goes: float32 [n_samples]."""
    loudness = 0.1 + 0.1 * np.sin(np.arange(n_samples) / 2000)
    rng = np.random.default_rng(seed)
    return (loudness * rng.standard_normal(n_samples, np.float32)).astype(np.float32)


def run(engine, samples):
    slot = engine.take_slot(DELAY)
    slot.feed(samples)
    while engine.step():
        pass
    engine.release(slot)
    return list(slot.tokens)


# A day, three weeks, and 2.5 years of tokens
@pytest.mark.parametrize('position', [10**6, 22_680_001, 10**9])
def test_a_stream_that_is_old_goes_on_as_one_of_exact_angles(tmp_path, position):
    """Compiled passes and PyTorch's, after so many tokens of zeros in the KV cache."""
    engine = load(tmp_path)
    network = load_network(tmp_path, dtype=torch.float32)
    exact = EagerBackend(network.double(), engine.tokenizer.pad, 1, 16)
    exact = Engine(cpu.with_half_caches(exact), engine.tokenizer, network.config.audio)
    found = []
    for each in (engine, exact):
        slot = each.take_slot(DELAY)
        each.backend.set_position(position)
        slot.feed(noise(5 * 16000))
        each.process()
        found.append(list(slot.tokens))
    assert len(found[0]) == 56
    assert [token.id for token in found[0]] == [token.id for token in found[1]]
    for ours, reference in zip(*found, strict=True):
        assert ours.probability == pytest.approx(reference.probability, abs=1e-3)


def test_a_position_ends_with_its_stream(engine):
    engine.release(engine.take_slot(DELAY))
    engine.backend.set_position(10**9)
    slot = engine.take_slot(DELAY)
    assert engine.backend.state.encoder.position[slot.index] == 0
    assert engine.backend.state.decoder.position[slot.index] == 0
    engine.release(slot)


def test_streams_of_different_ages_share_a_pass(tmp_path):
    engine = load(tmp_path)
    batched = Engine.load(tmp_path, 'cpu', max_streams=2, max_chunk_tokens=16)
    first, second = noise(50_000), noise(50_000, seed=1)
    old = batched.take_slot(DELAY)
    old.feed(first)
    batched.process()
    young = batched.take_slot(DELAY)
    young.feed(first)
    old.feed(second)
    batched.process()
    for slot, samples in ((young, first), (old, np.concatenate((first, second)))):
        assert [token.id for token in slot.tokens] == [
            token.id for token in run(engine, samples)]


@pytest.fixture(scope='module')
def long_stream(tmp_path_factory):
    """Process 20 pieces of 1000 tokens, 27 minutes; both windows wrap hundreds of times."""
    folder = tmp_path_factory.mktemp('tinier')
    engine = load(folder, seed=4, n_layers=2, **{'encoder.n_layers': 1})
    slot, footprints = engine.take_slot(DELAY), []
    for piece in range(20):
        slot.feed(noise(1000 * TOKEN, seed=piece))
        while engine.step():
            pass
        footprints.append(footprint(engine.backend.state))
    engine.release(slot)
    return load_network(folder, dtype=torch.float32), slot, footprints


def footprint(state):
    """Return size and addresses of all that is remembered of streams."""
    arrays = [array for owner in (state, state.encoder, state.decoder)
              for array in vars(owner).values() if isinstance(array, np.ndarray)]
    assert len(arrays) >= 8
    return [state.nbytes, *((array.ctypes.data, array.nbytes)
                            for array in [*arrays, *state.conv_state])]


def test_memory_does_not_grow(long_stream):
    _, slot, footprints = long_stream
    assert slot.position > 20_000
    assert all(sizes == footprints[0] for sizes in footprints)


def test_the_last_of_20000_tokens_depend_on_the_receptive_field_only(long_stream):
    """
    Beyond the receptive field the stream equals one parallel pass over its end.

    The pass starts at position 0 with audio and tokens of the last piece. A token sees
    (window - 1) positions back per layer: 2 * 23 tokens in the decoder, and from there 15
    encoder frames and 3 mel frames, less than 5 tokens, in the encoder.
    """
    network, slot, _ = long_stream
    reach = 2 * 23 + 5
    first = 32 + 19_000 + 1  # the first position whose audio is all in the last piece
    n = slot.position - first
    audio = noise(1000 * TOKEN, seed=19)[TOKEN - 200:][:n * TOKEN + CONTEXT]
    ids = torch.tensor(slot.prompt_tokens + [token.id for token in slot.tokens])
    probabilities = torch.tensor([token.probability for token in slot.tokens])[-n:]
    with torch.inference_mode():
        logits = network(
            network.mel(torch.from_numpy(audio[None])), ids[None, first:first + n],
            torch.tensor([DELAY]),
            lambda *sizes: cpu.half_cached(sliding_window_attention(*sizes)))[0]
    assert n == 998 and len(ids) == first + n + 1
    assert logits.argmax(-1)[reach:].tolist() == ids[first + 1:][reach:].tolist()
    difference = (logits.softmax(-1).max(-1).values - probabilities).abs()
    assert difference[reach:].max() < 5e-3
    assert difference[reach:].median() < 1e-4
    assert difference[:20].max() > 1e-2  # the start lacks the past: this comparison can fail
    assert len(ids[-n:].unique()) > 50  # it does not babble
