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
from voxtral_ros.recognizer.engine import Engine

checkpoints = pytest.importorskip('support.checkpoints')

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


def run(engine, samples, origin=0):
    slot = engine.take_slot(DELAY)
    engine.passes.state.origin[slot.index] = origin
    slot.feed(samples)
    while engine.step():
        pass
    engine.release(slot)
    return list(slot.tokens)


# A day, three weeks, and 2.5 years of tokens
@pytest.mark.parametrize('origin', [10**6, 22_680_001, 10**9])
def test_the_time_of_day_does_not_matter(engine, origin):
    samples = noise(10 * 16000)
    young, old = run(engine, samples), run(engine, samples, origin)
    assert len(young) == 118
    assert [token.id for token in old] == [token.id for token in young]
    for then, now in zip(young, old, strict=True):
        assert now.probability == pytest.approx(then.probability, abs=1e-3)


def test_an_origin_ends_with_its_stream(engine):
    run(engine, noise(5000), origin=10**9)
    slot = engine.take_slot(DELAY)
    assert engine.passes.state.origin[slot.index] == 0
    engine.release(slot)


def test_streams_of_different_ages_share_a_pass(tmp_path):
    engine = load(tmp_path)
    batched = Engine(engine.network, engine.tokenizer, max_streams=2)
    young, old = batched.take_slot(DELAY), batched.take_slot(DELAY)
    batched.passes.state.origin[old.index] = 10**9
    for slot in (young, old):
        slot.feed(noise(50_000))
    while batched.step():
        pass
    expected = [token.id for token in run(engine, noise(50_000))]
    assert [token.id for token in young.tokens] == expected
    assert [token.id for token in old.tokens] == expected


@pytest.fixture(scope='module')
def long_stream(tmp_path_factory):
    """Hear 20 pieces of 1000 tokens, 27 minutes; both windows wrap hundreds of times."""
    engine = load(tmp_path_factory.mktemp('tinier'), seed=4, n_layers=2,
                  **{'encoder.n_layers': 1})
    slot, footprints = engine.take_slot(DELAY), []
    for piece in range(20):
        slot.feed(noise(1000 * TOKEN, seed=piece))
        while engine.step():
            pass
        footprints.append(footprint(engine.passes.state))
    engine.release(slot)
    return engine, slot, footprints


def footprint(state):
    """Return size and addresses of all that is remembered of streams."""
    tensors = [tensor for owner in (state, state.encoder_ring, state.decoder_ring)
               for tensor in vars(owner).values() if isinstance(tensor, torch.Tensor)]
    assert len(tensors) >= 8
    return [state.nbytes, *((tensor.data_ptr(), tensor.untyped_storage().nbytes())
                            for tensor in [*tensors, *state.conv_past])]


def test_memory_does_not_grow(long_stream):
    _, slot, footprints = long_stream
    assert slot.position > 20_000
    assert all(sizes == footprints[0] for sizes in footprints)


def test_the_last_of_20000_tokens_depend_on_the_receptive_field_only(long_stream):
    """
    Beyond the receptive field the stream equals one parallel pass over its end.

    The pass starts at position 0 with sound and tokens of the last piece. A token sees
    (window - 1) positions back per layer: 2 * 23 tokens in the decoder, and from there 15
    encoder frames and 3 mel frames, less than 5 tokens, in the encoder.
    """
    engine, slot, _ = long_stream
    network, reach = engine.network, 2 * 23 + 5
    first = 32 + 19_000 + 1  # the first position whose sound is all in the last piece
    n = slot.position - first
    sound = noise(1000 * TOKEN, seed=19)[TOKEN - 200:][:n * TOKEN + CONTEXT]
    ids = torch.tensor(slot.prompt + [token.id for token in slot.tokens])
    probabilities = torch.tensor([token.probability for token in slot.tokens])[-n:]
    with torch.inference_mode():
        logits = network(network.mel(torch.from_numpy(sound[None])),
                         ids[None, first:first + n], torch.tensor([DELAY]))[0]
    assert n == 998 and len(ids) == first + n + 1
    assert logits.argmax(-1)[reach:].tolist() == ids[first + 1:][reach:].tolist()
    difference = (logits.softmax(-1).max(-1).values - probabilities).abs()
    assert difference[reach:].max() < 1e-4
    assert difference[:20].max() > 1e-2  # the start lacks the past: this comparison can fail
    assert len(ids[-n:].unique()) > 50  # it does not babble
