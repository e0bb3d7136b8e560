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

"""The network equals the reference number by number, and the comparison would notice a slip."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from voxtral_ros.model import layers
from voxtral_ros.model.config import ModelConfig
from voxtral_ros.model.loading import checkpoint_parameters, load_network
from voxtral_ros.model.names import checkpoint_name
from voxtral_ros.model.network import VoxtralRealtime

pytest.importorskip('transformers.models.voxtral_realtime')
checkpoints = pytest.importorskip('support.checkpoints')
hf_reference = pytest.importorskip('support.hf_reference')

SEEDS = [0, 1, 3]
DELAYS = [1, 6, 30]
N = 90  # tokens: the encoder window of 4 and the decoder window of 24 tokens wrap
# What a slip must move at least, thousands of times the tolerance; measured: 0.048 and 2.2
EMBEDS_SLIP, LOGITS_SLIP = 0.02, 0.5

BIASES = [name for name in checkpoints.tensor_shapes(checkpoints.tiny_params())
          if name.endswith('.bias')]


def recording(n_samples, seed=0):
    """Return a gliding tone that comes and goes, with some noise: float32 [n_samples]."""
    time_s = np.arange(n_samples) / 16000
    tone = np.sin(1600 * time_s + 300 * np.cos(4 * time_s))
    noise = 0.02 * np.random.default_rng(seed).standard_normal(n_samples)
    return (0.3 * np.clip(np.sin(8 * time_s) + 0.3, 0, 1) * tone + noise).astype(np.float32)


def load_pair(folder, params, seed):
    """Return the same random weights in our network and in the reference."""
    tensors = checkpoints.random_tensors(params, seed)
    checkpoints.write_checkpoint(folder, params, tensors, checkpoints.tiny_tekken())
    return load_network(folder), hf_reference.load_hf(params, tensors)


@pytest.fixture(scope='module', params=SEEDS)
def pair(request, tmp_path_factory):
    return load_pair(tmp_path_factory.mktemp('tiny'), checkpoints.tiny_params(), request.param)


@pytest.fixture
def fresh(tmp_path):
    """Return a pair that a test may spoil."""
    return load_pair(tmp_path, checkpoints.tiny_params(), SEEDS[0])


@pytest.fixture(scope='module')
def mel():
    return hf_reference.hf_mel(np.pad(recording(N * 1280 - 6000), (2000, 4000)))  # [128, 8 N]


def some_ids(n, vocab_size=1305, seed=0):
    return np.random.default_rng(seed).integers(0, vocab_size, n).tolist()


def embeds_error(pair, mel):
    network, hf = pair
    ours = network.embed_audio(mel[None])[0]
    theirs = hf_reference.hf_audio_embeds(hf, mel)
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max())


def logits_error(pair, mel, delay=6):
    network, hf = pair
    ids = some_ids(mel.shape[1] // 8, network.config.vocab_size)
    ours = network(mel[None], torch.tensor([ids]), torch.tensor([delay]))[0]
    theirs = hf_reference.hf_logits(hf, mel, ids, delay)
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max())


def test_audio_embeds_are_those_of_the_reference(pair, mel):
    """Measured: 6e-7 of values up to 0.6."""
    assert embeds_error(pair, mel) < 1e-5


@pytest.mark.parametrize('delay', DELAYS)
def test_logits_are_those_of_the_reference(pair, mel, delay):
    """Measured: 3.3e-5 of values up to 14."""
    assert logits_error(pair, mel, delay) < 1e-4


@pytest.mark.parametrize('changes', [
    {'n_kv_heads': 8}, {'n_kv_heads': 1, 'n_layers': 1}, {'encoder.n_layers': 1, 'head_dim': 32},
    {'rope_theta': 1e4, 'encoder.rope_theta': 1e5}, {'norm_eps': 0.1, 'encoder.norm_eps': 0.2},
    {'sliding_window': 1000, 'encoder.sliding_window': 1000},
    {'audio.frame_rate': 25.0, 'downsample.downsample_factor': 2}])
def test_other_sizes_are_right_too(tmp_path, changes):
    params = checkpoints.tiny_params(**changes)
    pair = load_pair(tmp_path, params, seed=0)
    frames = pair[0].config.audio.frames_per_token
    mel = torch.randn(128, 40 * frames, generator=torch.Generator().manual_seed(0))
    assert embeds_error(pair, mel) < 1e-5
    network, hf = pair
    ids = some_ids(40)
    ours = network(mel[None], torch.tensor([ids]), torch.tensor([6]))[0]
    torch.testing.assert_close(ours, hf_reference.hf_logits(hf, mel, ids, 6), rtol=0, atol=1e-4)


# ---- what the comparison must notice ----


def test_a_wrong_pad_of_the_second_convolution_is_noticed(fresh, mel):
    """Padding kernel - 1 instead of kernel - stride shifts the frames by 10 ms."""
    fresh[0].encoder.conv_layers[1].left_context = 2
    assert embeds_error(fresh, mel) > EMBEDS_SLIP
    assert logits_error(fresh, mel) > LOGITS_SLIP


def half_split_rotate(x, angles):
    cos, sin = angles
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


def test_half_split_rotation_is_noticed(fresh, mel, monkeypatch):
    monkeypatch.setattr(layers, 'apply_rotary_emb', half_split_rotate)
    assert embeds_error(fresh, mel) > EMBEDS_SLIP
    assert logits_error(fresh, mel) > LOGITS_SLIP


def test_half_split_rotation_of_the_decoder_alone_is_noticed(fresh, mel, monkeypatch):
    """Both stacks have the same head_dim here: report them apart by their 50 Hz and 12.5 Hz."""
    right = layers.apply_rotary_emb
    monkeypatch.setattr(layers, 'apply_rotary_emb', lambda x, angles: (
        half_split_rotate if x.shape[1] == N else right)(x, angles))
    assert embeds_error(fresh, mel) < 1e-5
    assert logits_error(fresh, mel) > LOGITS_SLIP


@pytest.mark.parametrize('name', BIASES)
def test_a_lost_bias_is_noticed(fresh, mel, name):
    dict(checkpoint_parameters(fresh[0]))[name].zero_()
    assert embeds_error(fresh, mel) > EMBEDS_SLIP
    assert logits_error(fresh, mel) > LOGITS_SLIP


@pytest.mark.parametrize('stack', ['encoder', 'decoder'])
@pytest.mark.parametrize('change', [-1, 1])
def test_a_window_that_is_off_by_one_is_noticed(fresh, mel, stack, change):
    network = fresh[0]
    sizes = getattr(network.config, stack)
    sizes = dataclasses.replace(sizes, sliding_window=sizes.sliding_window + change)
    network.config = dataclasses.replace(network.config, **{stack: sizes})
    assert logits_error(fresh, mel) > LOGITS_SLIP


def test_a_delay_that_is_off_by_one_is_noticed(fresh, mel):
    network, hf = fresh
    ids = some_ids(N)
    ours = network(mel[None], torch.tensor([ids]), torch.tensor([7]))[0]
    assert (ours - hf_reference.hf_logits(hf, mel, ids, 6)).abs().max() > LOGITS_SLIP


# ---- batches, streams, training ----


def test_a_batch_of_different_sequences_and_delays_is_its_rows(pair):
    network = pair[0]
    mels = torch.stack([hf_reference.hf_mel(recording(60 * 1280, seed)) for seed in range(3)])
    tokens = torch.tensor([some_ids(60, seed=seed) for seed in range(3)])
    delays = torch.tensor(DELAYS)
    together = network(mels, tokens, delays)
    for row in range(3):
        alone = network(mels[[row]], tokens[[row]], delays[[row]])[0]
        torch.testing.assert_close(together[row], alone, rtol=0, atol=1e-4)


@pytest.mark.parametrize('seed', range(4))
def test_steps_over_a_state_are_the_parallel_forward(pair, seed):
    """Two streams of different ages and delays advance in passes of 1 to 5 tokens."""
    network, rng = pair[0], np.random.default_rng(seed)
    state = network.new_state(n_slots=3, max_tokens=5)
    delays = torch.tensor([1, 30])
    scales = network.decoder.delay_scales(delays)
    samples = torch.from_numpy(np.stack([recording(70 * 1280 + 240, row) for row in range(2)]))
    tokens = torch.tensor([some_ids(70, seed=row) for row in range(2)])
    whole = network(network.mel(samples), tokens, delays)
    embeds = network.embed_audio(network.mel(samples))

    slots, done = [2, 0], [0, 0]
    for row in range(2):
        state.reset(slots[row], scales[:, row])
    while min(done) < 70:
        rows = [row for row in rng.permutation(2)[:rng.integers(1, 3)] if done[row] < 70]
        if not rows:
            continue
        n = int(min(rng.integers(1, 6), 70 - max(done[row] for row in rows)))
        index = torch.tensor([slots[row] for row in rows])
        max_kv_len = max(done[row] for row in rows) + n
        audio = network.encode(
            torch.stack([samples[row, done[row] * 1280:(done[row] + n) * 1280 + 240]
                         for row in rows]), state, index, max_kv_len)
        logits = network.decode(
            audio, torch.stack([tokens[row, done[row]:done[row] + n] for row in rows]),
            state, index, max_kv_len)
        for place, row in enumerate(rows):
            expected = embeds[row, done[row]:done[row] + n]
            torch.testing.assert_close(audio[place], expected, rtol=0, atol=1e-5)
            done[row] += n
            torch.testing.assert_close(logits[place], whole[row, done[row] - 1], rtol=0, atol=1e-4)
    assert state.encoder_position.tolist() == state.decoder_position.tolist() == [70, 0, 70]


def test_every_parameter_is_trained(fresh, mel):
    network = fresh[0].requires_grad_(True)
    ids = torch.tensor([some_ids(N)])
    logits = network(mel[None], ids, torch.tensor([6]))
    nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:]).backward()
    norms = {name: float(parameter.grad.norm()) if parameter.grad is not None else 0.0
             for name, parameter in network.named_parameters()}
    assert all(map(math.isfinite, norms.values()))
    assert not [name for name, norm in norms.items() if norm < 1e-3]  # measured: 0.07


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_runs_and_is_about_right(fresh, mel, dtype):
    network, hf = fresh
    ids = some_ids(N)
    logits = network.to(dtype)(mel[None], torch.tensor([ids]), torch.tensor([6]))[0]
    assert logits.dtype == dtype
    error = (logits.float() - hf_reference.hf_logits(hf, mel, ids, 6)).abs()
    assert error.mean() < 0.05 * logits.float().std()


# ---- names and sizes ----


@pytest.mark.parametrize(('params', 'n_tensors', 'n_numbers'), [
    (checkpoints.real_params(), 711, 4_429_679_360),
    (checkpoints.tiny_params(), 68, None)])
def test_names_and_shapes_are_those_of_the_checkpoint(params, n_tensors, n_numbers):
    with torch.device('meta'):
        network = VoxtralRealtime(ModelConfig.from_params(params))
    parameters = dict(checkpoint_parameters(network))
    assert {name: tuple(parameter.shape) for name, parameter in parameters.items()} == \
        checkpoints.tensor_shapes(params)
    assert len(list(network.parameters())) == n_tensors
    assert not list(network.buffers())
    if n_numbers:
        assert sum(parameter.numel() for parameter in network.parameters()) == n_numbers


def test_names_outside_the_network_are_refused():
    name = 'layers.3.attention.wq.weight'
    assert checkpoint_name(f'decoder.{name}') == name
    with pytest.raises(KeyError):
        checkpoint_name('output.weight')
