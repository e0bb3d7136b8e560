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

"""Drafted pads change no token: the bodies of the graphs, launched one by one on the CPU."""

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile
from support import checkpoints
from support.kernels import packed_layer
import torch
from voxtral_ros.backends.cuda import backend as fused_step
from voxtral_ros.backends.cuda import gemm as matmul
from voxtral_ros.backends.cuda.modules import PackedEmbedding
from voxtral_ros.backends.cuda.speculative import Drafting
from voxtral_ros.backends.cuda.weights import dequantize
from voxtral_ros.model.checkpoint import load_network
from voxtral_ros.model.tokenizer import Tokenizer
from voxtral_ros.quantization.format import Recipe
from voxtral_ros.quantization.quantizer import quantize
from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.resources import demo_model

ORDERS = Path(__file__).parents[2] / 'data' / 'orders.flac'
PARAMS = checkpoints.tiny_params(**{
    'n_layers': 1, 'dim': 256, 'head_dim': 64, 'hidden_dim': 256, 'n_heads': 4, 'n_kv_heads': 2,
    'vocab_size': 1280, 'encoder.n_layers': 1, 'encoder.dim': 128, 'encoder.head_dim': 64,
    'encoder.hidden_dim': 128, 'encoder.n_heads': 2, 'encoder.n_kv_heads': 2})
NOISE = (0.1 * np.random.default_rng(0).standard_normal(4 * 16000)).astype(np.float32)


class WithoutGraphs(fused_step.FusedStep):
    """Runs what would be captured."""

    def _capture(self, kind, n_streams, n_tokens):
        inputs = {'slots': torch.zeros(n_streams, dtype=torch.int64),
                  'samples': torch.zeros(n_streams, n_tokens * self._hop + self._context),
                  'given': torch.zeros(n_streams, n_tokens, dtype=torch.int64)}

        def replay():
            return getattr(self, f'_{kind}')(inputs, n_tokens)
        return mock.Mock(staging=inputs, replay=replay)

    def _replay(self, captured, slots, windows=None):
        captured.staging['slots'][:] = torch.tensor(slots)
        if windows is not None:
            captured.staging['samples'][:] = torch.from_numpy(windows)
        return captured.replay()


@pytest.fixture(scope='module')
def speech():
    """Return speech with pauses, 16 kHz."""
    samples, _ = soundfile.read(ORDERS, dtype='float32', stop=7 * 16000)
    return samples


@pytest.fixture
def fast(monkeypatch):
    """Let plain products dequantize every weight once."""
    kept = {}

    def once(weight):
        if id(weight) not in kept:
            kept[id(weight)] = weight, dequantize(weight)
        return kept[id(weight)][1]
    monkeypatch.setattr(matmul, 'dequantize', once)


def fused_engine(folder, drafting):
    with mock.patch('voxtral_ros.model.checkpoint.packed_layer', packed_layer):
        network = load_network(folder, 'cpu', torch.float32)
    tokenizer = Tokenizer.load(folder, network.config.vocab_size)

    def passes(network, tokenizer, max_streams, max_chunk_tokens):
        return WithoutGraphs(network, tokenizer.pad, [tokenizer.pad, tokenizer.word], max_streams,
                             max_chunk_tokens, drafting)

    with mock.patch('torch.cuda.graph_pool_handle'), mock.patch('torch.cuda.Stream'), \
            mock.patch('voxtral_ros.recognizer.engine._passes', passes):
        return Engine(network, tokenizer, max_chunk_tokens=6)


def ids(engine, sound, penalty=0.0):
    slot = engine.take_slot(6)
    engine.penalise_pad(slot, penalty)
    sizes = np.random.default_rng(1).integers(1, 9000, len(sound))
    for part in np.split(sound, sizes.cumsum()[sizes.cumsum() < len(sound)]):
        slot.feed(part)
        while engine.step():
            pass
    engine.release(slot)
    return [token.id for token in slot.tokens]


@pytest.mark.parametrize(('penalty', 'share'), [(99.0, 0.0), (0.0, 0.65), (-99.0, 1.0)])
def test_tokens_are_those_of_serial_decoding(fast, speech, penalty, share):
    """With no pads at all, with those of speech, and with nothing else."""
    drafted = fused_engine(demo_model(), True)
    found = ids(drafted, speech, penalty)
    assert found == ids(fused_engine(demo_model(), False), speech, penalty)
    assert np.mean([token == drafted.tokenizer.pad for token in found]) \
        == pytest.approx(share, abs=0.2)
    counted = drafted.passes.drafting
    # From two to six tokens waited.
    least, most = {0.0: (1, 1), 1.0: (2, 6)}.get(share, (1.2, 4))
    assert least <= counted.n_tokens / counted.n_passes <= most


def test_the_embedding_of_a_packed_head_gives_the_tokens_of_the_dequantized_one(tmp_path):
    checkpoints.write_checkpoint(tmp_path / 'dense', PARAMS,
                                 checkpoints.random_tensors(PARAMS, 0), checkpoints.tiny_tekken())
    quantize(tmp_path / 'dense', tmp_path / 'compact',
             Recipe('mse', encoder_bits=8, head_bits=4))
    engine = fused_engine(tmp_path / 'compact', True)
    assert isinstance(engine.network.decoder.tok_embeddings, PackedEmbedding)
    found = ids(engine, NOISE)
    reference = Engine.load(tmp_path / 'compact', 'cpu', 'float32', max_chunk_tokens=6)
    assert found == ids(reference, NOISE)
    assert len(set(found)) > 3


def test_drafting_rests_when_it_does_not_pay_and_tries_again():
    drafting = Drafting()
    assert drafting.is_on
    for _ in range(200):
        if drafting.pays:
            drafting.count(3, 3)
    assert not drafting.is_on
    while not drafting.pays:
        pass
    assert drafting.is_on


def test_drafting_that_pays_goes_on():
    drafting = Drafting()
    for _ in range(1000):
        assert drafting.pays
        drafting.count(3, 2)
    assert drafting.n_tokens / drafting.n_passes == 1.5
