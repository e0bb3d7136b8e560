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

"""The demo model in mistral-common: its tokenizer is one of Mistral's, and says what ours says."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from voxtral_ros.model.config import ModelConfig
from voxtral_ros.model.protocol import load_protocol
from voxtral_ros.resources import demo_model

pytest.importorskip('mistral_common')
SPEECH = np.sin(np.arange(30_001) / 9).astype(np.float32) / 3


@pytest.fixture(scope='module')
def config():
    return ModelConfig.load(demo_model())


@pytest.fixture(scope='module')
def protocol(config):
    return load_protocol(demo_model(), config)


@pytest.fixture(scope='module')
def mistral():
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
    return MistralTokenizer.from_file(demo_model() / 'tekken.json')


@pytest.fixture(scope='module')
def tekken(mistral):
    return mistral.instruct_tokenizer.tokenizer


def test_every_id_of_the_network_has_a_name_or_a_text(tekken, protocol, config):
    assert tekken.n_words == config.vocab_size
    assert tekken.num_special_tokens == protocol.tokenizer.n_special
    for token in range(tekken.num_special_tokens):
        assert tekken.is_special(token)
        assert tekken.get_special_token(tekken.id_to_piece(token)) == token
    for token in range(tekken.num_special_tokens, tekken.n_words):
        piece = protocol.tokenizer.pieces[token - tekken.num_special_tokens]
        assert tekken.id_to_byte_piece(token) == piece


@pytest.mark.parametrize(('name', 'token'), [
    ('<unk>', 0), ('<s>', 1), ('</s>', 2), ('[INST]', 3), ('[/INST]', 4), ('<pad>', 11),
    ('[SYSTEM_PROMPT]', 17), ('[TOOL_CONTENT]', 19), ('[AUDIO]', 24), ('[BEGIN_AUDIO]', 25),
    ('[STREAMING_PAD]', 32), ('[STREAMING_WORD]', 33), ('<SPECIAL_999>', 999)])
def test_special_tokens_have_their_ids(tekken, protocol, name, token):
    assert tekken.get_special_token(name) == token
    assert protocol.tokenizer.specials[name] == token


@settings(deadline=None)
@given(st.text(max_size=30) | st.from_regex(r'( [a-z\']{1,12}){1,8}', fullmatch=True))
def test_texts_have_the_same_tokens(tekken, protocol, text):
    tokens = tekken.encode(text, bos=False, eos=False)
    assert protocol.tokenizer.encode(text) == tokens
    assert protocol.tokenizer.decode(tokens) == tekken.decode(tokens) == text


def test_the_audio_is_described_as_the_network_takes_it(mistral, protocol, config):
    audio = mistral.instruct_tokenizer.audio_encoder.audio_config
    assert audio.is_streaming
    assert audio.sampling_rate == config.audio.sampling_rate
    assert audio.frame_rate == config.audio.frame_rate
    assert vars(audio.encoding_config) == {
        key: getattr(config.audio, key) for key in ('num_mel_bins', 'hop_length', 'window_size')}
    streaming = protocol.tokenizer.streaming
    assert audio.n_left_pad_tokens == streaming.n_left_pad_tokens
    assert audio.get_num_delay_tokens() == protocol.delay_tokens()


@pytest.mark.parametrize('delay_ms', [None, 80, 480, 960, 2400])
@pytest.mark.parametrize('mode', ['offline', 'online'])
def test_a_request_for_a_transcript_has_our_prompt_and_silence(mistral, protocol, mode, delay_ms):
    from mistral_common.protocol.transcription.request import StreamingMode, TranscriptionRequest
    from mistral_common.tokens.tokenizers.audio import Audio
    audio = Audio(SPEECH, 16000, 'wav').to_base64('wav') if mode == 'offline' else ''
    encoded = mistral.encode_transcription(TranscriptionRequest.model_validate({
        'audio': audio, 'streaming': StreamingMode(mode), 'target_streaming_delay_ms': delay_ms}))
    delay = protocol.delay_tokens(delay_ms)
    assert encoded.tokens == protocol.prompt_tokens(delay)
    n_left = protocol.tokenizer.streaming.n_left_pad_tokens * protocol.samples_per_token
    n_right = protocol.tail(delay)
    if mode == 'offline':
        aligned = -(-len(SPEECH) // protocol.samples_per_token) * protocol.samples_per_token
        padded = np.zeros(n_left + aligned + n_right)
        padded[n_left:n_left + len(SPEECH)] = SPEECH
        np.testing.assert_allclose(encoded.audios[0].audio_array, padded, atol=1e-4)
    else:
        before, after = (len(part.audio_array) for part in encoded.audios)
        assert (before, after) == (n_left, n_right)


def test_what_vllm_looks_for_in_params_is_there():
    """It warns where the first is missing, and of token ids of Whisper beyond the second."""
    transformers = pytest.importorskip('transformers')
    params = json.loads((demo_model() / 'params.json').read_text(encoding='utf-8'))
    assert params['max_position_embeddings'] == params['model_max_length']
    encoder = params['multimodal']['whisper_model_args']['encoder_args']
    whisper = transformers.WhisperConfig()
    for name in ('bos_token_id', 'eos_token_id', 'pad_token_id', 'decoder_start_token_id'):
        assert getattr(whisper, name) < encoder['vocab_size'], name


def test_how_it_is_quantized_has_the_name_of_no_other_layout():
    """A program that does not know the name says so; "gptq" it would read as something else."""
    quantizers = pytest.importorskip('transformers.quantizers.auto')
    params = json.loads((demo_model() / 'params.json').read_text(encoding='utf-8'))
    method = params['quantization_config']['quant_method']
    assert method == 'voxtral_ros_gptq'
    assert method not in quantizers.AUTO_QUANTIZER_MAPPING
