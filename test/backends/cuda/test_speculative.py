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

"""Speculative pads change no token: the bodies of the graphs, launched one by one on the CPU."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from support import checkpoints, cpu
from support.cuda import backend_without_graphs, dequantize_once
from support.slow import slow_but
import torch

from voxtral_ros.backends.cuda.speculative import count_accepted, SpeculativeDecoding
from voxtral_ros.model.config import ModelConfig
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


@pytest.fixture(scope='module')
def speech():
    """Return speech with pauses, 16 kHz."""
    samples, _ = soundfile.read(ORDERS, dtype='float32', stop=7 * 16000)
    return samples


@pytest.fixture
def fast(monkeypatch):
    dequantize_once(monkeypatch)


def fused_engine(folder, speculative):
    backend = backend_without_graphs(folder, max_chunk_tokens=6, speculative=speculative)
    config = ModelConfig.load(folder)
    return Engine(backend, Tokenizer.load(folder, config.vocab_size), config.audio)


def ids(engine, audio, penalty=0.0):
    slot = engine.take_slot(6)
    engine.penalise_pad(slot, penalty)
    sizes = np.random.default_rng(1).integers(1, 9000, len(audio))
    for part in np.split(audio, sizes.cumsum()[sizes.cumsum() < len(audio)]):
        slot.feed(part)
        while engine.step():
            pass
    engine.release(slot)
    return [token.id for token in slot.tokens]


@pytest.mark.parametrize(('penalty', 'share'), slow_but(
    (0.0, 0.65), of=[(99.0, 0.0), (0.0, 0.65), (-99.0, 1.0)]))
def test_tokens_are_those_of_serial_decoding(fast, speech, penalty, share):
    """With no pads at all, with those of speech, and with nothing else."""
    drafted = fused_engine(demo_model(), True)
    found = ids(drafted, speech, penalty)
    assert found == ids(fused_engine(demo_model(), False), speech, penalty)
    assert np.mean([token == drafted.tokenizer.pad for token in found]) \
        == pytest.approx(share, abs=0.2)
    counted = drafted.backend.speculative
    # From two to six tokens waited.
    least, most = {0.0: (1, 1), 1.0: (2, 6)}.get(share, (1.2, 4))
    assert least <= counted.n_accepted / counted.n_passes <= most


def test_the_embedding_of_a_packed_head_gives_the_tokens_of_the_dequantized_one(tmp_path):
    checkpoints.write_checkpoint(tmp_path / 'dense', PARAMS,
                                 checkpoints.random_tensors(PARAMS, 0), checkpoints.tiny_tekken())
    quantize(tmp_path / 'dense', tmp_path / 'compact',
             Recipe('mse', encoder_bits=8, head_bits=4))
    engine = fused_engine(tmp_path / 'compact', True)
    assert engine.backend.network.head.table is None
    found = ids(engine, NOISE)
    reference = cpu.eager_engine(tmp_path / 'compact', max_chunk_tokens=6)
    assert found == ids(reference, NOISE)
    assert len(set(found)) > 3


def test_pads_and_the_first_other_token_are_accepted():
    tokens = torch.tensor([[32, 32, 32], [7, 32, 32], [32, 7, 32], [32, 32, 7]])
    assert count_accepted(tokens, 32).tolist() == [3, 1, 2, 3]


def test_drafting_rests_when_it_does_not_pay_and_tries_again():
    speculative = SpeculativeDecoding()
    assert speculative.enabled
    for _ in range(200):
        if speculative.next_chunk():
            speculative.count(3, 3)
    assert not speculative.enabled
    while not speculative.next_chunk():
        pass
    assert speculative.enabled


def test_drafting_that_pays_goes_on():
    speculative = SpeculativeDecoding()
    for _ in range(1000):
        assert speculative.next_chunk()
        speculative.count(3, 2)
    assert speculative.stats.n_accepted / speculative.stats.n_passes == 1.5
