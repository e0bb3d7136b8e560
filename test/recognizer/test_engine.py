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

"""One stream gives exactly the ids of the reference, however its audio arrives."""

import numpy as np
import pytest
from support.slow import slow_but
import torch

from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.recognizer.options import StreamOptions

pytest.importorskip('transformers.models.voxtral_realtime')
checkpoints = pytest.importorskip('support.checkpoints')
hf_reference = pytest.importorskip('support.hf_reference')

PARAMS = checkpoints.tiny_params()
DELAYS = [1, 6, 30]
# Real samples before the first token: model.md, section 3
FIRST_TOKEN = {1: 2600, 2: 3880, 3: 5160, 6: 9000, 12: 16_680, 30: 39_720}


def audio(n_samples, seed=0):
    """Return a gliding tone that comes and goes, with some noise: float32 [n_samples]."""
    time_s = np.arange(n_samples) / 16000
    tone = np.sin(1600 * time_s + 300 * np.cos(4 * time_s + seed))
    noise = 0.02 * np.random.default_rng(seed).standard_normal(n_samples)
    return (0.3 * np.clip(np.sin(8 * time_s) + 0.3, 0, 1) * tone + noise).astype(np.float32)


SOUNDS = {
    'speech-like': audio(8 * 16000 + 77),  # 101 tokens: both windows wrap several times
    'noise': (0.1 * np.random.default_rng(1).standard_normal(96_000)).astype(np.float32),
    'silence': np.zeros(20_000, np.float32),
}


def write(folder, seed, tensors=None):
    return checkpoints.write_checkpoint(
        folder, PARAMS, tensors or checkpoints.random_tensors(PARAMS, seed),
        checkpoints.tiny_tekken())


@pytest.fixture(scope='module', params=slow_but(3, of=[0, 1, 3]))
def pair(request, tmp_path_factory):
    """Return an engine and the reference with the same weights."""
    folder = write(tmp_path_factory.mktemp('tiny'), request.param)
    tensors = checkpoints.random_tensors(PARAMS, request.param)
    return Engine.load(folder, 'cpu'), hf_reference.load_hf(PARAMS, tensors)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp('tiny'), 0)


@pytest.fixture(scope='module')
def engine(folder):
    return Engine.load(folder, 'cpu')


def run(engine, chunks, delay):
    """Return the tokens of a stream fed in chunks and flushed, polled after each."""
    slot = engine.take_slot(delay)
    for chunk in chunks:
        slot.feed(chunk)
        while engine.step():
            pass
    slot.feed(np.zeros(engine.protocol.right_pad(slot.n_samples, delay), np.float32))
    while engine.step():
        pass
    engine.release(slot)
    return list(slot.tokens)


def ids(tokens):
    return [token.id for token in tokens]


def in_chunks(samples, size):
    return [samples[start:start + size] for start in range(0, len(samples), size)]


@pytest.mark.parametrize('delay', DELAYS)
@pytest.mark.parametrize('name', SOUNDS)
def test_ids_are_those_of_the_reference(pair, name, delay):
    engine, hf = pair
    tokens = run(engine, [SOUNDS[name]], delay)
    expected = hf_reference.hf_generate_streaming(hf, SOUNDS[name], delay)
    assert ids(tokens) == expected
    assert [token.index for token in tokens] == list(range(len(expected)))
    assert len(set(expected)) > 5 or name == 'silence'


def test_ids_are_those_of_the_reference_with_windows_of_many_blocks(tmp_path):
    """Attention reads rings in blocks of 128 entries: here there are several."""
    params = checkpoints.tiny_params(**{'sliding_window': 150, 'encoder.sliding_window': 280})
    tensors = checkpoints.random_tensors(params, 9)
    checkpoints.write_checkpoint(tmp_path, params, tensors, checkpoints.tiny_tekken())
    engine, samples = Engine.load(tmp_path, 'cpu'), audio(18 * 16000)
    expected = hf_reference.hf_generate_streaming(
        hf_reference.load_hf(params, tensors), samples, 6)
    assert ids(run(engine, [samples], 6)) == expected
    assert len(set(expected)) > 30


@pytest.mark.parametrize('delay', DELAYS)
def test_probabilities_are_those_of_the_reference(pair, delay):
    engine, hf = pair
    samples = SOUNDS['speech-like']
    tokens = run(engine, [samples], delay)
    prompt = hf_reference.prompt(delay)
    mel = hf_reference.hf_mel(hf_reference.padded(samples, delay))
    logits = hf_reference.hf_logits(hf, mel, (prompt + ids(tokens))[:-1], delay)
    expected = logits.softmax(-1).max(-1).values[len(prompt) - 1:]
    actual = torch.tensor([token.probability for token in tokens])
    torch.testing.assert_close(actual, expected, rtol=0, atol=2e-3)  # KV caches are fp16


@pytest.mark.parametrize('size', [79, 160, 1279, 1280, 1281, 5000])
@pytest.mark.parametrize('delay', DELAYS)
def test_the_size_of_chunks_does_not_matter(engine, size, delay):
    samples = SOUNDS['speech-like'][:70_001]
    whole = run(engine, [samples], delay)
    assert ids(run(engine, in_chunks(samples, size), delay)) == ids(whole)


@pytest.mark.parametrize('seed', range(4))
def test_random_chunks_do_not_matter(engine, seed):
    samples = SOUNDS['speech-like'][:60_000]
    cuts = sorted(np.random.default_rng(seed).integers(0, len(samples), 30))
    assert ids(run(engine, np.split(samples, cuts), 6)) == ids(run(engine, [samples], 6))


def test_single_samples_do_not_matter(engine):
    samples = SOUNDS['speech-like'][:3001]
    assert ids(run(engine, in_chunks(samples, 1), 1)) == ids(run(engine, [samples], 1))


@pytest.mark.parametrize('max_chunk_tokens', [1, 3, 50])
def test_the_size_of_passes_does_not_matter(engine, folder, max_chunk_tokens):
    other = Engine.load(folder, 'cpu', max_chunk_tokens=max_chunk_tokens)
    samples = SOUNDS['speech-like'][:60_000]
    assert ids(run(other, [samples], 6)) == ids(run(engine, [samples], 6))


@pytest.mark.parametrize('n_samples', [0, 1, 1279, 1280, 1281])
def test_short_audio_have_the_tokens_of_their_padding(pair, n_samples):
    engine, hf = pair
    samples = SOUNDS['speech-like'][:n_samples]
    expected = hf_reference.hf_generate_streaming(hf, samples, 6)
    assert ids(run(engine, [samples], 6)) == expected


@pytest.mark.parametrize('delay', [*range(1, 16), 30])
def test_the_first_token_comes_as_soon_as_its_audio_is_there(engine, delay):
    needed = 1320 + 1280 * delay
    assert needed == FIRST_TOKEN.get(delay, needed)
    slot = engine.take_slot(delay)
    slot.feed(audio(needed - 1))
    while engine.step():
        pass
    assert not slot.tokens
    slot.feed(audio(1))
    while engine.step():
        pass
    engine.release(slot)
    assert [token.index for token in slot.tokens] == [0]


def test_no_poll_returns_a_token_before_562_5_ms(engine):
    tokens = []
    stream = engine.open(delay_ms=480, options=StreamOptions(on_token=tokens.append))
    stream.feed(audio(8999))
    stream.poll()
    assert not tokens
    stream.feed(audio(1))
    stream.poll()
    assert len(tokens) == 1
    stream.abandon()


def test_a_token_every_80_ms_from_then_on(engine):
    slot, counts = engine.take_slot(6), []
    for _ in range(3 * 9000 // 40):
        slot.feed(audio(40))
        while engine.step():
            pass
        counts.append(len(slot.tokens))
    engine.release(slot)
    fed = np.arange(1, len(counts) + 1) * 40
    assert counts == np.maximum(0, (fed - 9000) // 1280 + 1).tolist()


def test_a_stream_delivers_the_ids_to_its_listener(engine):
    tokens, samples = [], SOUNDS['speech-like']
    stream = engine.open(options=StreamOptions(on_token=tokens.append))
    for chunk in in_chunks(samples, 3000):
        stream.feed(chunk)
        stream.poll()
    stream.close()
    assert tokens == run(engine, in_chunks(samples, 3000), 6)


def test_end_of_speech_does_not_end_a_stream(tmp_path):
    tensors = checkpoints.random_tensors(PARAMS, 0)
    embedding = tensors[checkpoints.EMBEDDING + 'tok_embeddings.weight']
    embedding[checkpoints.EOS] = 2 * embedding[checkpoints.STREAMING_WORD]
    engine = Engine.load(write(tmp_path, 0, tensors), 'cpu')
    samples = SOUNDS['speech-like'][:40_000]
    expected = hf_reference.hf_generate_streaming(
        hf_reference.load_hf(PARAMS, tensors), samples, 6)
    assert checkpoints.EOS in expected[:20]
    assert ids(run(engine, in_chunks(samples, 1000), 6)) == expected


def test_a_pad_penalty_lowers_one_logit_and_ends_with_the_stream(engine):
    samples = SOUNDS['speech-like']
    usual = run(engine, [samples], 6)
    assert checkpoints.STREAMING_PAD in ids(usual)
    slot = engine.take_slot(6)
    engine.penalise_pad(slot, 1e6)
    slot.feed(samples)
    while engine.step():
        pass
    engine.release(slot)
    assert checkpoints.STREAMING_PAD not in ids(slot.tokens)
    assert ids(run(engine, [samples], 6)) == ids(usual)


@pytest.mark.parametrize('options', [{'max_streams': 0}, {'max_chunk_tokens': 0}])
def test_sizes_of_an_engine_are_checked(folder, options):
    with pytest.raises(ValueError, match='at least 1'):
        Engine.load(folder, 'cpu', **options)


@pytest.mark.parametrize('options', [
    {'device': 'tpu'}, {'device': 'meta'}, {'device': ''}, {'dtype': 'int8'},
    {'dtype': 'float64'}])
def test_a_wrong_device_or_type_is_a_value_error(tmp_path, options):
    folder = write(tmp_path, 0)
    with pytest.raises(ValueError, match=r'device|dtype'):
        Engine.load(folder, **{'device': 'cpu', **options})


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_half_precision_streams(tmp_path, dtype):
    engine = Engine.load(write(tmp_path, 0), 'cpu', dtype)
    tokens = run(engine, [SOUNDS['speech-like'][:30_000]], 6)
    assert len(tokens) == hf_reference.n_embeds(30_000, 6) - 39 + 1
    assert all(0 < token.probability <= 1 for token in tokens)
