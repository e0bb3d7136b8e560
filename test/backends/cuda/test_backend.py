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

"""The fused kernels in CUDA graphs against the same network, operation by operation."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from support import checkpoints, cpu
from support.cuda import on_gpu
import torch

from voxtral_ros.backends.cuda.backend import CudaBackend
from voxtral_ros.quantization.format import Recipe
from voxtral_ros.quantization.quantizer import quantize
from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.resources import demo_model

pytestmark = on_gpu
DATA = Path(__file__).parents[2] / 'data'
ORDERS = DATA / 'orders.flac'
RECORDINGS = sorted(DATA.rglob('*.flac'))


@pytest.fixture(scope='module')
def audio():
    """Speech, silence, noise and speech again, 16 kHz."""
    speech, _ = soundfile.read(ORDERS, dtype='float32')
    noise = 0.02 * np.random.default_rng(0).standard_normal(3 * 16000).astype('float32')
    return np.concatenate([speech, np.zeros(40000, 'float32'), noise, 0.3 * speech])


def fused(max_streams=1, speculative=False, folder=None, dtype='bfloat16'):
    engine = Engine.load(folder or demo_model(), 'cuda', dtype, max_streams, 6)
    assert isinstance(engine.backend, CudaBackend)
    if not speculative:
        engine.backend.speculative_decoding = None
    return engine


def feed(engine, slot, audio, chunk):
    for start in range(0, len(audio), chunk):
        slot.feed(audio[start:start + chunk])
        while engine.step():
            pass


def tokens(engine, audio, chunk=7680, delay=6):
    slot = engine.take_slot(delay)
    feed(engine, slot, audio, chunk)
    engine.release(slot)
    return [(token.id, token.probability) for token in slot.tokens]


def ids(pairs):
    return [token for token, _ in pairs]


@pytest.fixture(scope='module')
def engine():
    return fused()


def test_the_demo_model_writes_what_it_writes_on_the_cpu(engine, audio):
    reference = cpu.eager_engine(demo_model())
    expected, found = (ids(tokens(each, audio)) for each in (reference, engine))
    same = np.mean([a == b for a, b in zip(expected, found, strict=True)])
    assert same > 0.97  # weights and activations have 8 bits here
    assert len(set(found)) > 20


def test_what_was_closed_leaves_nothing_behind(audio):
    left = []
    for _ in range(4):
        engine = fused(max_streams=2)
        engine.warm_up()
        tokens(engine, audio[:16000])
        engine.close()
        left.append(torch.cuda.memory_allocated())
    assert left[1:] == [left[0]] * 3


def test_half_precision_writes_the_same_tokens(audio):
    reference = cpu.eager_engine(demo_model())
    expected, found = ids(tokens(reference, audio)), ids(tokens(fused(dtype='float16'), audio))
    assert np.mean([a == b for a, b in zip(expected, found, strict=True)]) > 0.99


def test_graphs_equal_the_same_launches_without_graphs(engine, audio):
    """Bit for bit, for more than 2,000 passes with streams coming and going."""
    plain = fused()
    plain.backend._replay = without_graph(plain.backend)
    n_passes = 0
    while n_passes < 2000:
        delay = 1 + n_passes % 15
        assert tokens(plain, audio, 1280, delay) == tokens(engine, audio, 1280, delay)
        n_passes += len(audio) // 1280


def without_graph(backend):
    """Return a _replay that launches every kernel again."""
    bodies = {}
    capture = backend._capture

    def captured(kind, n_streams, n_tokens):
        made = capture(kind, n_streams, n_tokens)
        bodies[id(made)] = lambda: backend._bodies[kind](made.inputs, n_tokens)
        return made

    def replay(made, slots, windows=None):
        made.inputs['slots'].copy_(torch.tensor(slots))
        if windows is not None:
            made.inputs['samples'].copy_(torch.from_numpy(windows))
        if 'tokens' in made.inputs:
            made.inputs['tokens'].copy_(made.staging['tokens'])
        with torch.inference_mode():
            results = [output.cpu() for output in bodies[id(made)]()]
        torch.cuda.synchronize()
        return results

    backend._capture = captured
    return replay


@pytest.mark.parametrize('chunk', [1280, 5000, 80000])
def test_speculative_decoding_changes_no_token(engine, audio, chunk):
    speculative = fused(speculative=True)
    assert tokens(speculative, audio, chunk) == tokens(engine, audio, chunk)
    if chunk > 2560:
        stats = speculative.backend.speculative
        assert stats.n_passes < stats.n_accepted


def an_hour():
    """Yield speech, silence and noise in pieces of 10 ms to 1.3 s."""
    rng = np.random.default_rng(2)
    recordings = [soundfile.read(path, dtype='float32')[0] for path in RECORDINGS]
    n_left = 3600 * 16000
    while n_left > 0:
        pause = np.zeros(int(rng.integers(0, 15 * 16000)), 'float32')
        noise = rng.uniform(0, 0.05) * rng.standard_normal(int(rng.integers(0, 5 * 16000)))
        speech = rng.uniform(0.2, 1) * recordings[rng.integers(len(recordings))]
        for part in (pause, noise.astype('float32'), speech.astype('float32')):
            n_left -= len(part)
            while len(part):
                n_samples = int(rng.integers(160, 21_000))
                yield part[:n_samples]
                part = part[n_samples:]


def test_speculative_decoding_changes_no_token_of_an_hour(engine):
    speculative, found = fused(speculative=True), {}
    for name, each in (('serial', engine), ('drafted', speculative)):
        slot = each.take_slot(6)
        for part in an_hour():
            slot.feed(part)
            while each.step():
                pass
        each.release(slot)
        found[name] = [(token.id, token.probability) for token in slot.tokens]
    assert found['drafted'] == found['serial']
    assert len(found['serial']) > 44_000
    assert len(set(ids(found['serial']))) > 50
    assert speculative.stats.accepted_per_pass > 1.3


def test_the_length_of_chunks_changes_no_token(engine, audio):
    expected = tokens(engine, audio, 1280)
    for chunk in (160, 3000, 100_000):
        assert tokens(engine, audio, chunk) == expected


def test_a_stream_does_not_depend_on_its_neighbours(engine, audio):
    """Five streams with different delays and phases, opened and closed in between."""
    batch = fused(max_streams=5)
    rng = np.random.default_rng(1)
    found, slots, left = {}, {}, {}
    waiting = [(n, 1 + 3 * n, audio[n * 5000:]) for n in range(8)]
    while waiting or slots:
        while waiting and len(slots) < 5:
            name, delay, part = waiting.pop()
            slots[name], left[name] = batch.take_slot(delay), part
        for name in list(slots):
            size = int(rng.integers(0, 9000))
            slots[name].feed(left[name][:size])
            left[name] = left[name][size:]
            if not len(left[name]):
                while batch.step():
                    pass
                found[name] = [(t.id, t.probability) for t in slots[name].tokens]
                batch.release(slots.pop(name))
        batch.step()
    for name in range(8):
        assert found[name] == tokens(engine, audio[name * 5000:], delay=1 + 3 * name)


def test_twenty_streams_in_step(engine, audio):
    """More rows than a tile of the GEMM has."""
    batch = fused(max_streams=20)
    delays = [1 + n % 4 for n in range(20)]
    slots = [batch.take_slot(delay) for delay in delays]
    for start in range(0, 64_000, 5000):
        for slot in slots:
            slot.feed(audio[start:start + 5000])
        while batch.step():
            pass
    alone = {delay: tokens(engine, audio[:65_000], delay=delay) for delay in set(delays)}
    for slot, delay in zip(slots, delays, strict=True):
        assert [(token.id, token.probability) for token in slot.tokens] == alone[delay]


def small_checkpoint(folder):
    params = checkpoints.tiny_params(**{
        'dim': 256, 'head_dim': 64, 'hidden_dim': 512, 'n_heads': 4, 'n_kv_heads': 2,
        'vocab_size': 1088, 'encoder.dim': 256, 'encoder.head_dim': 64, 'encoder.hidden_dim': 512,
        'encoder.n_heads': 4, 'encoder.n_kv_heads': 4})
    tensors = checkpoints.random_tensors(params, 3)
    checkpoints.write_checkpoint(folder, params, tensors, checkpoints.tiny_tekken())


@pytest.mark.parametrize('encoder_bits', [8, 4])
def test_a_compact_checkpoint_has_no_table_of_embeddings(tmp_path, audio, encoder_bits):
    small_checkpoint(tmp_path / 'dense')
    quantize(tmp_path / 'dense', tmp_path / 'compact',
             Recipe('mse', encoder_bits=encoder_bits, head_bits=4))
    serial, drafted = (fused(1, speculative, tmp_path / 'compact', 'float16')
                       for speculative in (False, True))
    assert serial.backend.network.head.table is None
    found = tokens(serial, audio[:160_000])
    assert found == tokens(drafted, audio[:160_000])
    reference = cpu.eager_engine(tmp_path / 'compact')
    expected = ids(tokens(reference, audio[:160_000]))
    first = next((i for i, (a, b) in enumerate(zip(expected, ids(found), strict=True)) if a != b),
                 None)
    assert first is None or first > 20  # random weights: a near tie parts the streams for good


def test_a_network_with_16_bit_weights(tmp_path, audio):
    small_checkpoint(tmp_path)
    reference = cpu.eager_engine(tmp_path)
    found = fused(folder=tmp_path, dtype='float16')
    expected, mine = (ids(tokens(each, audio[:160_000])) for each in (reference, found))
    first = next((i for i, (a, b) in enumerate(zip(expected, mine, strict=True)) if a != b), None)
    assert first is None or first > 20  # random weights: a near tie parts the streams for good
