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

"""The reference side of the tests checks itself before anything is compared with it."""

import base64
import json
import math
import wave

import numpy as np
import pytest
from support import golden

torch = pytest.importorskip('torch')
pytest.importorskip('transformers.models.voxtral_realtime')
checkpoints = pytest.importorskip('support.checkpoints')
hf_reference = pytest.importorskip('support.hf_reference')

PARAMS = checkpoints.tiny_params()
SEED = 0


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    """Keep tiny products on one thread: a second one costs a factor of 8 on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='module')
def tensors():
    return checkpoints.random_tensors(PARAMS, SEED)


@pytest.fixture(scope='module')
def model(tensors):
    return hf_reference.load_hf(PARAMS, tensors)


def recording(n_samples: int, seed: int = 0) -> np.ndarray:
    """Return a gliding tone that comes and goes, with some noise: float32 [n_samples]."""
    time_s = np.arange(n_samples) / 16000
    phase = 2 * np.pi * np.cumsum(250 + 200 * np.sin(4 * time_s)) / 16000
    loudness = np.clip(np.sin(8 * time_s) + 0.3, 0, 1)
    noise = 0.02 * np.random.default_rng(seed).standard_normal(n_samples)
    return np.asarray(0.3 * loudness * np.sin(phase) + noise, np.float32)


def test_real_params_are_those_of_the_published_file():
    assert len(json.dumps(checkpoints.real_params(), indent=2)) == 1342
    shapes = checkpoints.tensor_shapes(checkpoints.real_params())
    assert len(shapes) == 711
    assert sum(map(math.prod, shapes.values())) == 4_429_679_360
    assert sum(name.startswith(checkpoints.ENCODER) for name in shapes) == 421
    assert len(set(shapes)) - 421 - 3 == 287  # decoder


def test_tiny_params_keep_the_structure_and_reject_unknown_keys():
    def keys(node):
        return [(key, keys(value)) for key, value in node.items()] if hasattr(node, 'items') else 0

    assert keys(PARAMS) == keys(checkpoints.real_params())
    short = checkpoints.tiny_params(n_layers=1, encoder={'dim': 32}, **{'audio.frame_rate': 25.0})
    assert short['n_layers'] == 1
    assert checkpoints.section(short, 'encoder')['dim'] == 32
    assert checkpoints.section(short, 'audio')['frame_rate'] == 25.0
    with pytest.raises(KeyError):
        checkpoints.tiny_params(**{'encoder.slidingwindow': 3})


def test_random_tensors_have_the_native_shapes(tensors):
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == \
        checkpoints.tensor_shapes(PARAMS)
    again = checkpoints.random_tensors(PARAMS, SEED)
    assert all(torch.equal(tensor, again[name]) for name, tensor in tensors.items())


def test_written_checkpoint_reads_back(tmp_path, tensors):
    from safetensors.torch import load_file
    tekken = checkpoints.tiny_tekken()
    folder = checkpoints.write_checkpoint(tmp_path / 'tiny', PARAMS, tensors, tekken)
    assert json.loads((folder / 'params.json').read_text()) == PARAMS
    assert json.loads((folder / 'tekken.json').read_text()) == tekken
    loaded = load_file(folder / 'consolidated.safetensors')
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize('delay_tokens', [1, 6, 30])
def test_offline_streaming_and_one_pass_agree(model, delay_tokens):
    samples = recording(40_001)  # not a multiple of 1280
    offline = hf_reference.hf_generate_offline(model, samples, delay_tokens)
    streaming = hf_reference.hf_generate_streaming(model, samples, delay_tokens)

    n_prompt = len(hf_reference.prompt(delay_tokens))
    n = hf_reference.n_embeds(len(samples), delay_tokens)
    assert (len(offline), len(streaming)) == (n - n_prompt, n - n_prompt + 1)
    assert offline == streaming[:-1]
    assert len(set(streaming)) > 10  # not stuck

    ids = hf_reference.prompt(delay_tokens) + streaming
    mel = hf_reference.hf_mel(hf_reference.padded(samples, delay_tokens))
    logits = hf_reference.hf_logits(model, mel, ids[:-1], delay_tokens)
    assert logits.shape == (n, PARAMS['vocab_size'])
    assert logits.argmax(-1).tolist()[n_prompt - 1:] == streaming
    assert 4 < logits.max(-1).values.mean() < 12


def test_end_of_speech_does_not_end_a_stream(tensors):
    name = checkpoints.EMBEDDING + 'tok_embeddings.weight'
    embedding = tensors[name].clone()
    embedding[checkpoints.EOS] = 2 * embedding[checkpoints.STREAMING_WORD]
    model = hf_reference.load_hf(PARAMS, {**tensors, name: embedding})
    samples = recording(12_000)
    offline = hf_reference.hf_generate_offline(model, samples, 6)
    streaming = hf_reference.hf_generate_streaming(model, samples, 6)
    assert checkpoints.EOS in offline[:-5]
    assert offline == streaming[:-1]
    assert len(streaming) == hf_reference.n_embeds(len(samples), 6) - 39 + 1


def test_chunked_mel_equals_offline_mel():
    audio = hf_reference.padded(recording(20_000), 6)
    chunks = list(hf_reference.mel_chunks(audio, first_tokens=39))
    assert {chunk.shape[1] for chunk in chunks[1:]} == {8}
    # Not to the last bit: the FFT of torch rounds otherwise for other numbers of frames.
    torch.testing.assert_close(torch.cat(chunks, dim=1), hf_reference.hf_mel(audio),
                               rtol=0, atol=1e-5)


def _logits(params, tensors, delay_tokens=6):
    """Return logits [n, vocab] for fixed audio and fixed, varied ids."""
    mel = hf_reference.hf_mel(hf_reference.padded(recording(8000), 6))
    ids = [1 + 97 * index % 1300 for index in range(mel.shape[1] // 8)]
    return hf_reference.hf_logits(
        hf_reference.load_hf(params, tensors), mel, ids, delay_tokens)


def test_every_tensor_and_every_setting_matters(tensors):
    """Negative control: whatever an implementation gets wrong shows in the logits."""
    expected = _logits(PARAMS, tensors)
    changes = {}
    for name, tensor in tensors.items():
        rows = tensor.flip(0) if tensor.ndim > 1 else torch.zeros_like(tensor)
        changes[name] = _logits(PARAMS, {**tensors, name: rows})
    for setting in ('encoder.sliding_window', 'sliding_window'):
        wider = checkpoints.section(PARAMS, setting) + 1
        changes[setting] = _logits(checkpoints.tiny_params(**{setting: wider}), tensors)
    for setting in ('encoder.rope_theta', 'rope_theta'):
        changes[setting] = _logits(checkpoints.tiny_params(**{setting: 1e4}), tensors)
    changes['delay'] = _logits(PARAMS, tensors, delay_tokens=12)
    unnoticed = {name: float((logits - expected).abs().max())
                 for name, logits in changes.items() if (logits - expected).abs().max() < 0.5}
    assert not unnoticed


@pytest.mark.parametrize('name', [
    'layers.0.attention.wq.weight', 'layers.0.attention.wk.weight',
    checkpoints.ENCODER + 'transformer.layers.0.attention.wq.weight',
    checkpoints.ENCODER + 'transformer.layers.0.attention.wq.bias',
    checkpoints.ENCODER + 'transformer.layers.0.attention.wk.weight'])
def test_forgetting_the_row_order_is_noticed(tensors, name):
    permuted = hf_reference.half_split_rows(tensors[name], PARAMS['head_dim'])
    wrong = _logits(PARAMS, {**tensors, name: permuted})
    assert (wrong - _logits(PARAMS, tensors)).abs().max() > 0.5


def test_row_order_turns_interleaved_into_half_split_rotation():
    """Rotating native pairs (2j, 2j + 1) gives the scores of HF's pairs (j, j + 8)."""
    from transformers.models.voxtral_realtime.modeling_voxtral_realtime import apply_rotary_pos_emb
    heads = torch.randn(2, 5 * 16, 1, generator=torch.Generator().manual_seed(0))  # q and k
    angles = torch.tensor([[3.0], [17.0]]) * 1e6 ** (-torch.arange(0, 16, 2) / 16)  # [2, 8]

    pairs = torch.view_as_complex(heads.reshape(2, 5, 8, 2))
    native = torch.view_as_real(pairs * torch.polar(torch.ones(2, 1, 8), angles[:, None]))
    native_scores = (native[0] * native[1]).sum((-2, -1))  # [5]

    split = torch.stack([hf_reference.half_split_rows(rows, 16) for rows in heads])
    full = torch.cat((angles, angles), dim=-1)[:, None]  # [2, 1, 16]
    half = apply_rotary_pos_emb(
        split.reshape(2, 5, 16), split.reshape(2, 5, 16), full.cos(), full.sin(), 0)[0][0]
    torch.testing.assert_close((half[0] * half[1]).sum(-1), native_scores)


def test_names_and_shapes_fit_the_real_hf_model():
    params = checkpoints.real_params()
    with torch.device('meta'):
        model = hf_reference.VoxtralRealtimeForConditionalGeneration(
            hf_reference.hf_config(params))
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert expected.pop('lm_head.weight') == (131072, 3072)
    assert expected == {hf_reference.hf_name(name): shape
                        for name, shape in checkpoints.tensor_shapes(params).items()}


@pytest.mark.parametrize('delay_tokens', [1, 6, 30])
def test_mistral_common_takes_the_tekken_and_pads_alike(tmp_path, delay_tokens):
    pytest.importorskip('mistral_common')
    from mistral_common.protocol.transcription.request import StreamingMode, TranscriptionRequest
    from mistral_common.tokens.tokenizers.audio import Audio
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
    path = tmp_path / 'tekken.json'
    path.write_text(json.dumps(checkpoints.tiny_tekken(delay_ms=80 * delay_tokens)))
    tokenizer = MistralTokenizer.from_file(path)
    samples = recording(9001)
    encoded = tokenizer.encode_transcription(TranscriptionRequest.model_validate({
        'audio': Audio(samples, 16000, 'wav').to_base64('wav'),
        'streaming': StreamingMode.OFFLINE}))
    assert encoded.tokens == hf_reference.prompt(delay_tokens)
    padded = hf_reference.padded(samples, delay_tokens)
    assert encoded.audios[0].audio_array.shape == padded.shape
    np.testing.assert_allclose(encoded.audios[0].audio_array, padded, atol=1e-4)

    tekken = tokenizer.instruct_tokenizer.tokenizer
    assert tekken.n_words == PARAMS['vocab_size']
    text = 'the robot, caf\u00e9 \u043d\u0435?'
    ids = tekken.encode(' ' + text, bos=False, eos=False)
    assert golden.decode(ids, checkpoints.tiny_vocabulary()) == text
    assert max(ids) >= 1256  # a merged token


@pytest.fixture(scope='module')
def vocabulary():
    path = golden.mistral_vocabulary()
    if path is None:
        pytest.skip(golden.MISSING_VOCABULARY)
    return golden.vocabulary_bytes(path)


def test_golden_ids_spell_the_golden_texts(vocabulary):
    clips = golden.golden_clips()
    if not clips:
        pytest.skip(golden.MISSING_CLIPS)
    assert vocabulary[:256] == [bytes([value]) for value in range(256)]
    for ids, text, wav in clips:
        assert golden.decode(ids, vocabulary) == text
        with wave.open(str(wav)) as file:
            assert (file.getframerate(), file.getnchannels()) == (16000, 1)
            n_samples = file.getnframes()
        assert len(ids) == hf_reference.n_embeds(n_samples, 6) - len(hf_reference.prompt(6)) + 1


def test_tekken_dict_with_the_real_vocabulary_has_the_real_form(vocabulary):
    tekken = checkpoints.tekken_dict(vocabulary, n_text=130_072)
    path = golden.mistral_vocabulary()
    assert path is not None
    original = json.loads(path.read_text(encoding='utf-8'))
    assert tekken['config'] == {**original['config'], 'version': 'v7'}
    assert tekken['vocab'] == original['vocab']
    assert base64.b64decode(tekken['vocab'][300]['token_bytes']) == b' \xd0'
