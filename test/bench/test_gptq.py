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

"""GPTQ against rounding to nearest, against its definition, and through the file format."""

import json
from pathlib import Path
import subprocess
import sys

from bench.scripts import BENCH, load
import numpy as np
import pytest
from quantization import packable
import torch
from voxtral_ros.audio.files import read_file
from voxtral_ros.audio.resample import resampled
from voxtral_ros.model.checkpoint import load_network
from voxtral_ros.quantization import rounding
from voxtral_ros.quantization.format import Recipe
from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.resources import demo_model

gptq, streams = load('gptq'), load('token_streams')

DATA = Path(__file__).resolve().parents[1] / 'data'


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def correlated_inputs(k, n=2000):
    """Return inputs, [n, K], that a quarter as many directions explain."""
    return gaussian(n, k // 4) @ gaussian(k // 4, k, seed=1) + 0.1 * gaussian(n, k, seed=2)


def by_definition(weight, hessian):
    """Quantize input by input with the inverse Hessian of the inputs that are left."""
    weight, hessian = weight.double().clone(), hessian.double().clone()
    hessian.diagonal().add_(0.01 * hessian.diagonal().mean())
    codes = torch.empty(weight.shape, dtype=torch.int8)
    for k in range(weight.shape[1]):
        if k % 128 == 0:
            scale = rounding.round_int4(weight[:, k:k + 128].float())[1][:, 0].double()
        inverse = torch.linalg.inv(hessian[k:, k:])
        codes[:, k] = (weight[:, k].half().double() / scale).round().clamp(-8, 7)
        error = weight[:, k] - codes[:, k] * scale
        weight[:, k:] -= error[:, None] * inverse[0] / inverse[0, 0]
    return codes


def sequences(network, count=2, length=24, seed=3):
    dim = network.config.decoder.dim
    return [gptq.sequence(network, gaussian(length, dim, seed=seed + n), 6) for n in range(count)]


@pytest.mark.parametrize('rule', rounding.RULES)
def test_inputs_that_are_not_correlated_leave_rounding_to_nearest(rule):
    weight = 0.02 * gaussian(64, 256)
    weight[3, 128:] = 0
    codes, scale = gptq.round_gptq(weight, 7 * torch.eye(256), rule)
    expected_codes, expected_scale = rounding.round_int4(weight, rule)
    assert torch.equal(scale, expected_scale)
    assert torch.equal(codes, expected_codes)


def test_codes_are_those_of_the_definition():
    weight, x = 0.02 * gaussian(64, 256, seed=4), correlated_inputs(256)
    codes, _ = gptq.round_gptq(weight, x.T @ x)
    expected = by_definition(weight, x.T @ x)
    # Rounding in float32 may tip a tie, and what comes after it.
    assert (codes == expected).float().mean() > 0.999
    assert not torch.equal(codes, rounding.round_int4(weight)[0])


@pytest.mark.parametrize('rule', rounding.RULES)
def test_outputs_are_nearer_than_those_of_rounding_to_nearest(rule):
    weight, x = 0.02 * gaussian(64, 256, seed=5), correlated_inputs(256)

    def error(codes, scale):
        return ((rounding.dequantize(codes, scale) - weight) @ x.T).square().mean()

    assert error(*gptq.round_gptq(weight, x.T @ x, rule)) \
        < 0.5 * error(*rounding.round_int4(weight, rule))


@pytest.mark.parametrize('hessian', [torch.zeros(128, 128), torch.full((128, 128), torch.nan)])
def test_calibration_without_usable_inputs_is_refused(hessian):
    with pytest.raises(ValueError, match='calibration'):
        gptq.round_gptq(gaussian(64, 128), hessian)


@torch.inference_mode()
def test_the_decoder_is_calibrated_on_what_it_gets_in_a_stream():
    engine = Engine.load(demo_model(), 'cpu')
    network, protocol = engine.network, engine.protocol
    samples = np.concatenate(list(resampled(read_file(DATA / 'go_forward_ten_meters.flac'))))
    audio, = streams.embed(network, protocol, [samples], delay=6)
    tokens, = streams.generate(network, protocol, [audio], delay=6)
    inputs = gptq.stream_inputs(network, protocol, audio, tokens, delay=6)

    def written(delay):
        given = gptq.sequence(network, inputs, delay)
        h = given.h
        for layer, scale in zip(network.decoder.layers, given.scales, strict=True):
            h = layer(h, scale[:, None], given.angles, given.attend)
        logits = network.decoder.logits(network.decoder.norm(h))[0]
        return logits[len(protocol.prompt(6)) - 1:].argmax(-1).tolist()

    assert written(delay=6) == tokens.tolist()
    assert written(delay=None) != tokens.tolist()


@torch.inference_mode()
def test_every_layer_is_calibrated_on_what_it_gets(tmp_path):
    """Inputs of a layer are what comes out of the layers before, with the weights they have."""
    folder = packable.write(tmp_path)
    network = load_network(folder, dtype=torch.float32)
    given = sequences(network)
    starts = [sequence.h for sequence in given]
    rounded = gptq.calibrate(network, given)
    assert sorted(rounded) == sorted(packable.DECODER_LINEARS)
    fresh = load_network(folder, dtype=torch.float32)
    seen = []
    w2 = network.decoder.layers[1].feed_forward.w2
    handle = w2.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][0]))
    for start, sequence in zip(starts, given, strict=True):
        h = start
        for n, layer in enumerate(network.decoder.layers):
            h = layer(h, sequence.scales[n][:, None], sequence.angles, sequence.attend)
        assert torch.equal(h, sequence.h)
    handle.remove()
    x = torch.cat(seen)
    codes, scale = gptq.round_gptq(fresh.decoder.layers[1].feed_forward.w2.weight, x.T @ x)
    assert torch.equal(codes, rounded['layers.1.feed_forward.w2.weight'][0])
    assert torch.equal(scale, rounded['layers.1.feed_forward.w2.weight'][1])


@torch.inference_mode()
def test_the_file_holds_what_was_computed(tmp_path):
    folder = packable.write(tmp_path / 'native')
    network = load_network(folder, dtype=torch.float32)
    rounded = gptq.calibrate(network, sequences(network))
    output = tmp_path / 'gptq'
    output.mkdir()
    gptq.write(folder, output, rounded, Recipe(), network.config.decoder.head_dim)
    loaded = load_network(output, dtype=torch.float32)
    for name, expected in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], expected), name
    config = json.loads((output / 'params.json').read_text())['quantization_config']
    assert config['quant_method'] == 'gptq'
    assert sorted(path.name for path in output.iterdir()) == [
        'consolidated.safetensors', 'params.json', 'tekken.json']


def test_the_command_writes_a_checkpoint_that_loads(tmp_path):
    folder = packable.write(tmp_path / 'native')
    output = tmp_path / 'gptq'
    command = [sys.executable, BENCH / 'gptq.py', '--model-dir', folder, '--output-dir', output,
               '--calibration', DATA / 'manifest.tsv', '--count', '2', '--delays-ms', '480', '80',
               '--encoder-bits', '8', '--head-bits', '8']
    subprocess.run(command, check=True, capture_output=True)
    packable.logits(load_network(output))
    config = json.loads((output / 'params.json').read_text())['quantization_config']
    assert (config['quant_method'], config['rounding']) == ('gptq', 'mse')
    assert (config['encoder_bits'], config['head_bits']) == (8, 8)
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode != 0
    assert 'exists' in again.stderr
