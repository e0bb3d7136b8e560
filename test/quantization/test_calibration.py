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

"""What weights are calibrated on is what the engine gives the decoder in a stream."""

from pathlib import Path

import numpy as np
import pytest
import torch

from voxtral_ros.evaluation.manifest import read_manifest
from voxtral_ros.model.loading import load_network
from voxtral_ros.quantization import calibration
from voxtral_ros.quantization.calibration import (
    calibration_inputs, decoder_input, embed, encoder_inputs, generate, stream_inputs)
from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.resources import demo_model

MANIFEST = Path(__file__).resolve().parents[1] / 'data' / 'manifest.tsv'
DELAY = 6  # tokens
PAD = 32


@pytest.fixture(scope='module')
def engine():
    return Engine.load(demo_model(), 'cpu', max_streams=2)


@pytest.fixture(scope='module')
def recordings():
    """Return the samples of two short ones of different lengths."""
    return [recording.samples() for recording in read_manifest(MANIFEST)[1:4:2]]


@pytest.fixture(scope='module')
def network():
    return load_network(demo_model(), dtype=torch.float32)


@pytest.fixture(scope='module')
def embeddings(engine, network, recordings):
    return embed(network, engine.protocol, recordings, DELAY)


def of_the_engine(engine, samples):
    slot = engine.take_slot(DELAY)
    slot.feed(np.pad(samples, (0, engine.protocol.right_pad(len(samples), DELAY))))
    while engine.step():
        pass
    engine.release(slot)
    return [token.id for token in slot.tokens]


@pytest.mark.parametrize('batch', [48, 1])
def test_streams_are_those_of_the_engine(
        engine, recordings, embeddings, monkeypatch, batch, network):
    monkeypatch.setattr(calibration, '_BATCH', batch)
    written = generate(network, engine.protocol, embeddings, DELAY)
    for samples, tokens in zip(recordings, written, strict=True):
        assert tokens.tolist() == of_the_engine(engine, samples)
    assert len(written[0]) != len(written[1])
    assert any((tokens != PAD).any() for tokens in written)


@torch.inference_mode()
def test_the_decoder_writes_the_same_from_its_inputs(engine, embeddings, network):
    """So they are those of the stream; without the conditioning it writes something else."""
    protocol = engine.protocol
    tokens, _ = generate(network, protocol, embeddings, DELAY)
    states = stream_inputs(network, protocol, embeddings[0], tokens, DELAY)

    def written(delay):
        given = decoder_input(network, states, delay)
        h = given.h
        for layer, scale in zip(network.decoder.layers, given.scales, strict=True):
            h = layer(h, scale[:, None], given.rope, given.attend)
        logits = network.decoder.logits(network.decoder.norm(h))[0]
        return logits[len(protocol.prompt_tokens(DELAY)) - 1:].argmax(-1).tolist()

    assert written(DELAY) == tokens.tolist()
    assert written(None) != tokens.tolist()


@torch.inference_mode()
def test_the_encoder_makes_the_same_of_its_inputs(engine, recordings, network):
    """With delays in turns: the recordings are padded as a stream with that delay pads them."""
    delays = [DELAY, 1]
    given = encoder_inputs(network, engine.protocol, recordings, delays)
    for one, samples, delay in zip(given, recordings, delays, strict=True):
        for n, layer in enumerate(network.encoder.layers):
            one.h = one.run(layer, n)
        groups = network.encoder.norm(one.h).unflatten(1, (-1, 4)).flatten(2)
        expected = embed(network, engine.protocol, [samples], delay)[0]
        torch.testing.assert_close(network.adapter(groups)[0], expected)


def test_recordings_take_the_delays_in_turns(engine, recordings, network):
    counted = []
    given = calibration_inputs(network, engine.protocol, [*recordings, recordings[0]],
                               [DELAY, 1], counted.append)
    assert counted == [2, 1]
    # First those of the first delay, then those of the second, which is shorter.
    lengths = [one.h.shape[1] for one in given]
    assert lengths[0] == lengths[1]
    expected = [len(embed(network, engine.protocol, [samples], delay)[0])
                for samples, delay in ((recordings[0], DELAY), (recordings[1], 1))]
    assert [lengths[0], lengths[2]] == expected
    scales = network.decoder.delay_scales(torch.tensor([DELAY, 1]))
    for one, row in zip(given, (0, 0, 1), strict=True):
        torch.testing.assert_close(one.scales[:, 0], scales[:, row])


def test_more_delays_than_recordings(engine, recordings, network):
    given = calibration_inputs(network, engine.protocol, recordings[:1], [DELAY, 1, 2])
    assert len(given) == 1
