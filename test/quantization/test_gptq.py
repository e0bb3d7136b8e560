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
import os

import numpy as np
import pytest
from quantization import packable
import torch

from voxtral_ros.model.loading import load_network
from voxtral_ros.model.names import checkpoint_name
from voxtral_ros.model.protocol import StreamingProtocol
from voxtral_ros.model.tokenizer import Tokenizer
from voxtral_ros.quantization import rounding
from voxtral_ros.quantization.calibration import decoder_input, encoder_inputs
from voxtral_ros.quantization.format import Recipe
from voxtral_ros.quantization.gptq import quantize_decoder, quantize_encoder, round_gptq
from voxtral_ros.quantization.output import OutputError
from voxtral_ros.quantization.quantizer import QuantizationError, quantize
from voxtral_ros.quantization.tensorfile import TensorWriter
from voxtral_ros.quantization.weights import WEIGHTS
from voxtral_ros.resources import demo_model

GPTQ = Recipe(method='gptq')
WHOLE = Recipe(encoder_bits=4, method='gptq')  # of encoder and decoder
W2 = 'layers.1.feed_forward.w2.weight'


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


def inputs(network, count=2, length=24, seed=3):
    dim = network.config.decoder.dim
    return [decoder_input(network, gaussian(length, dim, seed=seed + n), 6) for n in range(count)]


def frames(network, seed=3):
    """Return what the encoder is given for two pieces of noise."""
    protocol = StreamingProtocol(Tokenizer.load(demo_model()), network.config.audio)
    noise = [0.1 * gaussian(24000, seed=seed + n).numpy() for n in range(2)]
    return encoder_inputs(network, protocol, noise, [6])


# What quantizes a stack, what it is given, its linear layers, and the last layer's last one.
STACKS = {
    'encoder': (quantize_encoder, frames, packable.ENCODER_LINEARS, packable.ENCODER_LINEARS[5]),
    'decoder': (quantize_decoder, inputs, packable.DECODER_LINEARS, W2)}


@pytest.fixture
def source(tmp_path):
    return packable.write(tmp_path / 'native')


@pytest.fixture
def network(source):
    return load_network(source, dtype=torch.float32)


@pytest.mark.parametrize('rule', rounding.RULES)
def test_inputs_that_are_not_correlated_leave_rounding_to_nearest(rule):
    weight = 0.02 * gaussian(64, 256)
    weight[3, 128:] = 0
    codes, scale = round_gptq(weight, 7 * torch.eye(256), rule)
    expected_codes, expected_scale = rounding.round_int4(weight, rule)
    assert torch.equal(scale, expected_scale)
    assert torch.equal(codes, expected_codes)


def test_codes_are_those_of_the_definition():
    weight, x = 0.02 * gaussian(64, 256, seed=4), correlated_inputs(256)
    codes, _ = round_gptq(weight, x.T @ x)
    expected = by_definition(weight, x.T @ x)
    # Rounding in float32 may tip a tie, and what comes after it.
    assert (codes == expected).float().mean() > 0.999
    assert not torch.equal(codes, rounding.round_int4(weight)[0])


@pytest.mark.parametrize('rule', rounding.RULES)
def test_outputs_are_nearer_than_those_of_rounding_to_nearest(rule):
    weight, x = 0.02 * gaussian(64, 256, seed=5), correlated_inputs(256)

    def error(codes, scale):
        return ((rounding.dequantize(codes, scale) - weight) @ x.T).square().mean()

    assert error(*round_gptq(weight, x.T @ x, rule)) \
        < 0.5 * error(*rounding.round_int4(weight, rule))


@pytest.mark.parametrize('hessian', [torch.zeros(128, 128), torch.full((128, 128), torch.nan)])
def test_calibration_without_usable_inputs_is_refused(hessian):
    with pytest.raises(ValueError, match='calibration'):
        round_gptq(gaussian(64, 128), hessian)


def test_the_layer_that_cannot_be_calibrated_is_named(network):
    network.decoder.layers[1].feed_forward.w2.weight[0, 0] = torch.inf
    with pytest.raises(QuantizationError, match=rf'{W2}: .*fp16'):
        quantize_decoder(network, inputs(network), GPTQ)
    with pytest.raises(QuantizationError, match=r'layers\.0\.attention\.wq.*: .*calibration'):
        quantize_decoder(network, [], GPTQ)


@pytest.mark.parametrize('stack', STACKS)
@torch.inference_mode()
def test_every_layer_is_calibrated_on_what_it_gets(source, network, stack):
    """Inputs of a layer are what comes out of the layers before, with the weights they have."""
    quantize_stack, make_inputs, linears, last = STACKS[stack]
    given = make_inputs(network)
    starts = [one.h for one in given]
    counted = []
    codes = quantize_stack(network, given, WHOLE, counted.append)
    assert sorted(codes) == sorted(linears)
    assert sum(counted) == sum(packable.tensors()[name].numel() for name in codes)
    fresh = load_network(source, dtype=torch.float32)
    seen = []
    layers = network.get_submodule(stack).layers
    w2 = layers[-1].feed_forward.w2
    handle = w2.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][0]))
    for start, one in zip(starts, given, strict=True):
        h = start
        for n, layer in enumerate(layers):
            scales = [one.scales[n][:, None]] if stack == 'decoder' else []
            h = layer(h, *scales, one.rope, one.attend)
        torch.testing.assert_close(h, one.h)
    handle.remove()
    x = torch.cat(seen)
    weight = fresh.get_submodule(stack).layers[-1].feed_forward.w2.weight
    for part, wanted in zip(codes[last], round_gptq(weight, x.T @ x), strict=True):
        # Sums in another order move a few; the inputs of an unquantized network move 14 %.
        assert (part != wanted).float().mean() < 0.03


def test_layers_that_are_skipped_keep_their_weights(source, network):
    recipe = Recipe(method='gptq', skip=('layers.0.*', '*.attention.w[kv].weight'))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    codes = quantize_decoder(network, inputs(network), recipe)
    assert set(codes) == {name for name in packable.DECODER_LINEARS if recipe.bits(name) == 4}
    assert W2 in codes
    changed = {name.removeprefix('decoder.') for name, tensor in network.state_dict().items()
               if not torch.equal(tensor, before[name])}
    assert changed == set(codes)


@pytest.mark.parametrize('recipe', [
    GPTQ, Recipe('mse', 8, 4, method='gptq'), WHOLE,
    Recipe('mse', 4, 8, method='gptq', skip=('*whisper_encoder*.w2.weight',)),
    Recipe(method='gptq', skip=('layers.0.*', '*.attention.wq.weight'))])
def test_the_file_holds_what_was_computed(source, network, tmp_path, monkeypatch, recipe):
    # The test weights fit into one block each; the real ones do not.
    for module in ('weights', 'quantizer'):
        monkeypatch.setattr(f'voxtral_ros.quantization.{module}._BLOCK', 9000)
    output = tmp_path / 'gptq'

    def calibrated():
        encoder = quantize_encoder(network, frames(network), recipe)
        return encoder | quantize_decoder(network, inputs(network), recipe)

    quantize(source, output, recipe, verify=True, calibrated=calibrated)
    loaded = load_network(output, dtype=torch.float32).state_dict()
    for name, expected in network.state_dict().items():
        key = checkpoint_name(name)
        kept = recipe.bits(key) == 16 or recipe.is_calibrated(key)  # the rest is rounded
        assert torch.equal(loaded[name], expected) == kept, name
    config = json.loads((output / 'params.json').read_text())['quantization_config']
    assert config == Recipe(recipe.rounding, recipe.encoder_bits, recipe.head_bits, recipe.skip
                            ).quantization_config() | {'quant_method': 'voxtral_ros_gptq'}
    assert sorted(os.listdir(output)) == [WEIGHTS, 'params.json', 'tekken.json']


@pytest.mark.parametrize('part', ['B', 's'])
def test_verify_notices_a_wrong_bit_of_a_code_or_a_scale(source, network, tmp_path, monkeypatch,
                                                         part):
    original, done = TensorWriter.write, []

    def damage(writer, written, array, first_row=0):
        if written == f'layers.1.mlp.down_proj.{part}':
            done.append(written)
            array = np.array(array, order='C')
            array.reshape(-1)[7:8].view(np.uint8)[0] ^= 1
        original(writer, written, array, first_row)

    monkeypatch.setattr(TensorWriter, 'write', damage)
    with pytest.raises(QuantizationError, match=f'{W2} was not written as computed'):
        quantize(source, tmp_path / 'out', GPTQ, verify=True,
                 calibrated=lambda: quantize_decoder(network, inputs(network), GPTQ))
    assert done
    assert not os.listdir(tmp_path / 'out')


def test_progress_counts_every_weight_once_and_twice_with_verify(source, network, tmp_path):
    total = sum(tensor.numel() for tensor in packable.tensors().values())
    codes = quantize_decoder(network, inputs(network), GPTQ)
    for verify in (False, True):
        counted = []
        quantize(source, tmp_path / str(verify), GPTQ, verify, counted.append, lambda: codes)
        assert sum(counted) == total * (1 + verify)


def test_codes_are_those_of_the_recipe(source, network, tmp_path):
    """Nothing is rounded in silence where the file says that it is calibrated."""
    codes = quantize_decoder(network, inputs(network), GPTQ)
    missing = {name: part for name, part in codes.items() if name != W2}
    cut = codes | {W2: tuple(part[:64] for part in codes[W2])}
    skipping = Recipe(method='gptq', skip=(W2,))
    for recipe, given in ((GPTQ, missing), (GPTQ, cut), (skipping, codes)):
        with pytest.raises(QuantizationError, match=f'{W2} has calibrated codes'):
            quantize(source, tmp_path / 'out', recipe, calibrated=lambda given=given: given)
        assert not os.listdir(tmp_path / 'out')
    for recipe, calibrated in ((Recipe(), lambda: codes), (GPTQ, None)):
        with pytest.raises(QuantizationError, match='where the method is gptq'):
            quantize(source, tmp_path / 'out', recipe, calibrated=calibrated)


def test_hours_of_calibration_begin_when_all_else_is_in_order(source, tmp_path):
    def calibrated():
        pytest.fail('too early')

    quantize(source, tmp_path / 'small', Recipe())
    for folder, output, recipe, message in (
            (source, tmp_path / 'small', GPTQ, 'not overwritten'),
            (tmp_path / 'small', tmp_path / 'out', GPTQ, 'quantized already'),
            (source, tmp_path / 'out', Recipe(method='gptq', skip=('none.*',)), 'no tensor')):
        with pytest.raises((QuantizationError, OutputError), match=message):
            quantize(folder, output, recipe, calibrated=calibrated)
