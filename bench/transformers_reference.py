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

"""
The same weights in a second implementation: `voxtral_realtime` of Hugging Face transformers.

What benchmarks compare with, and tests too (test/support/hf_reference.py). Everything here but
`streaming_times` is fp32 on the CPU, without a batch dimension, and computes padding and prompt
from the formulas rather than from our code. With L = 33 + delay_tokens prompt ids and
N = 32 + ceil(samples / 1280) + delay_tokens + 11 audio embeds, sequence index p holds the token
that enters the decoder together with embed p, and generated token k has sequence index L + k.
"""

# transformers is typed only in part
# mypy: disallow-untyped-calls=False, warn-return-any=False

from collections.abc import Iterator
import math
import time
from typing import Any
import warnings

from bench.random_checkpoints import (
    ADA_DIM, BOS, EMBEDDING, ENCODER, PAD, random_bfloat16, section, STREAMING_PAD)
import numpy as np
import torch
from transformers import (
    VoxtralRealtimeConfig, VoxtralRealtimeEncoderConfig, VoxtralRealtimeFeatureExtractor,
    VoxtralRealtimeForConditionalGeneration, VoxtralRealtimeTextConfig)

SAMPLES_PER_TOKEN = 1280
FRAMES_PER_TOKEN = 8
HOP, WINDOW = 160, 400
LEFT_PAD_TOKENS = 32
RIGHT_PAD_TOKENS = 11  # besides the delay: one for the BOS shift, ten for the longest word

# Checkpoint name -> HF name. Layer numbers and what is common to both follow in `hf_name`.
OUTSIDE_LAYERS = {
    EMBEDDING + 'tok_embeddings': 'model.language_model.embed_tokens',
    EMBEDDING + 'audio_language_projection.0': 'model.multi_modal_projector.linear_1',
    EMBEDDING + 'audio_language_projection.2': 'model.multi_modal_projector.linear_2',
    ENCODER + 'conv_layers.0.conv': 'model.audio_tower.embedder.conv1',
    ENCODER + 'conv_layers.1.conv': 'model.audio_tower.embedder.conv2',
    ENCODER + 'transformer.norm': 'model.audio_tower.norm',
    'norm': 'model.language_model.norm',
}
INSIDE_LAYERS = {
    'attention.wq': 'self_attn.q_proj', 'attention.wk': 'self_attn.k_proj',
    'attention.wv': 'self_attn.v_proj', 'attention.wo': 'self_attn.o_proj',
    'feed_forward.w1': 'mlp.gate_proj', 'feed_forward.w2': 'mlp.down_proj',
    'feed_forward.w3': 'mlp.up_proj',
    'ada_rms_norm_t_cond.0': 'ada_rms_norm.linear1',
    'ada_rms_norm_t_cond.2': 'ada_rms_norm.linear2',
}
ENCODER_NORMS = {'attention_norm': 'self_attn_layer_norm', 'ffn_norm': 'final_layer_norm'}
DECODER_NORMS = {'attention_norm': 'input_layernorm', 'ffn_norm': 'post_attention_layernorm'}


def hf_config(params: dict[str, Any]) -> VoxtralRealtimeConfig:
    """Return the HF configuration of params.json; ValueError where HF cannot express it."""
    encoder, audio = section(params, 'encoder'), section(params, 'audio')
    if encoder['n_kv_heads'] != encoder['n_heads']:
        raise ValueError('HF has no grouped keys in the encoder')
    if params['ada_rms_norm_t_cond_dim'] != ADA_DIM:
        raise ValueError(f'HF fixes the width of the delay conditioning at {ADA_DIM}')
    frames_per_token = audio['sampling_rate'] / audio['frame_rate'] / audio['hop_length']
    return VoxtralRealtimeConfig(
        audio_config=VoxtralRealtimeEncoderConfig(
            num_mel_bins=audio['num_mel_bins'], vocab_size=encoder['vocab_size'],
            activation_function='gelu', **_stack_config(encoder)),
        text_config=VoxtralRealtimeTextConfig(
            num_key_value_heads=params['n_kv_heads'], vocab_size=params['vocab_size'],
            max_position_embeddings=params['model_max_length'], eos_token_id=None,
            **_stack_config(params)),
        audio_length_per_tok=int(frames_per_token),
        downsample_factor=section(params, 'downsample')['downsample_factor'],
        tie_word_embeddings=params['tied_embeddings'])


def _stack_config(args: dict[str, Any]) -> dict[str, Any]:
    """Return what encoder and decoder configure alike. HF's encoder theta defaults to 1e4."""
    return {
        'hidden_size': args['dim'], 'intermediate_size': args['hidden_dim'],
        'num_hidden_layers': args['n_layers'], 'num_attention_heads': args['n_heads'],
        'head_dim': args['head_dim'], 'rms_norm_eps': args['norm_eps'],
        'sliding_window': args['sliding_window'], 'hidden_act': 'silu',
        'rope_parameters': {'rope_type': 'default', 'rope_theta': args['rope_theta']},
    }


def hf_name(name: str) -> str:
    """Return the HF name of a checkpoint tensor name; KeyError for an unknown one."""
    module, kind = name.rsplit('.', 1)
    if module in OUTSIDE_LAYERS:
        return f'{OUTSIDE_LAYERS[module]}.{kind}'
    in_encoder = module.startswith(ENCODER)
    layers, norms = ('model.audio_tower.layers', ENCODER_NORMS) if in_encoder else (
        'model.language_model.layers', DECODER_NORMS)
    _, index, part = module.removeprefix(ENCODER + 'transformer.').split('.', 2)
    return f'{layers}.{index}.{ {**INSIDE_LAYERS, **norms}[part] }.{kind}'


def checkpoint_to_hf(tensors: dict[str, torch.Tensor],
                     params: dict[str, Any]) -> dict[str, torch.Tensor]:
    """
    Return an HF state dict: renamed, fp32, q and k rows in half-split order.

    Pairs of RoPE are rows 2j and 2j + 1 of a head in a checkpoint, j and j + head_dim / 2 in HF.
    """
    state = {}
    for name, tensor in tensors.items():
        if '.attention.wq.' in name or '.attention.wk.' in name:
            args = section(params, 'encoder') if name.startswith(ENCODER) else params
            tensor = half_split_rows(tensor, args['head_dim'])
        state[hf_name(name)] = tensor.float()
    state['lm_head.weight'] = state['model.language_model.embed_tokens.weight']
    return state


def half_split_rows(tensor: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Reorder the rows of every head from interleaved to half-split: [heads * head_dim, ...]."""
    pairs = tensor.reshape(-1, head_dim // 2, 2, *tensor.shape[1:])  # [heads, hd/2, 2, ...]
    return pairs.transpose(1, 2).reshape(tensor.shape)


def load_hf(params: dict[str, Any],
            tensors: dict[str, torch.Tensor]) -> VoxtralRealtimeForConditionalGeneration:
    """Return the HF model with exactly these weights of a checkpoint, fp32, in eval mode."""
    model = VoxtralRealtimeForConditionalGeneration(hf_config(params)).float()
    model.load_state_dict(checkpoint_to_hf(tensors, params), strict=True)
    model.set_attn_implementation('eager')
    return model.eval().requires_grad_(False)


def prompt(delay_tokens: int) -> list[int]:
    """Return the L = 33 + delay_tokens forced ids."""
    return [BOS] + [STREAMING_PAD] * (LEFT_PAD_TOKENS + delay_tokens)


def n_embeds(n_samples: int, delay_tokens: int) -> int:
    """Return N, the number of audio embeds of a padded recording."""
    speech = math.ceil(n_samples / SAMPLES_PER_TOKEN)
    return LEFT_PAD_TOKENS + speech + delay_tokens + RIGHT_PAD_TOKENS


def padded(samples: np.ndarray, delay_tokens: int) -> np.ndarray:
    """Return 32 tokens of zeros, the samples, and zeros up to N * 1280 samples in all."""
    audio = np.zeros(n_embeds(len(samples), delay_tokens) * SAMPLES_PER_TOKEN, np.float32)
    start = LEFT_PAD_TOKENS * SAMPLES_PER_TOKEN
    audio[start:start + len(samples)] = samples
    return audio


def hf_mel(samples: np.ndarray, center: bool = True) -> torch.Tensor:
    """
    Return the log-mel [128, frames] of 16 kHz samples, without padding tokens.

    With `center` frame t is centred on sample 160 t and there are len(samples) // 160 frames;
    without, it starts at sample 160 t and there are (len(samples) - 400) // 160.
    """
    extract = VoxtralRealtimeFeatureExtractor()
    audio = np.asarray(samples, np.float32)
    return extract(audio, sampling_rate=16000, center=center)['input_features'][0]


def hf_generate_streaming(model: VoxtralRealtimeForConditionalGeneration, samples: np.ndarray,
                          delay_tokens: int) -> list[int]:
    """
    Return the N - L + 1 greedy ids after the prompt (sequence indices L .. N), EOS ignored.

    Mel frames, conv stem, encoder and decoder all work in steps of one token, after a first step
    of L tokens. All but the last id must equal those of `hf_generate_offline`.
    """
    chunks = mel_chunks(padded(samples, delay_tokens), len(prompt(delay_tokens)))
    return generate(model, (chunk[None] for chunk in chunks), delay_tokens)


def mel_chunks(audio: np.ndarray, first_tokens: int) -> Iterator[torch.Tensor]:
    """
    Yield the mel of padded audio as a live stream would see it: [128, 8 L], then [128, 8] each.

    Frame t reads samples 160 t - 200 .. 160 t + 199. HF drops the last frame of each call, so
    later chunks take one hop more than they use; past the end there are zeros.
    """
    n_tokens = len(audio) // SAMPLES_PER_TOKEN
    audio = np.pad(audio, (0, WINDOW))
    first_frames = first_tokens * FRAMES_PER_TOKEN
    yield hf_mel(audio[:(first_frames - 1) * HOP + WINDOW // 2])
    for token in range(first_tokens, n_tokens):
        start = token * SAMPLES_PER_TOKEN - WINDOW // 2
        yield hf_mel(audio[start:start + SAMPLES_PER_TOKEN + WINDOW], center=False)


@torch.no_grad()
def generate(model: Any, features: Any, delay_tokens: int) -> list[int]:
    """Return the greedy ids after the prompt, from mel [1, 128, 8n] or a generator of such."""
    ids = torch.tensor([prompt(delay_tokens)])
    with warnings.catch_warnings():  # HF advises to set max_new_tokens; the embeds set it here
        warnings.filterwarnings('ignore', 'Using the model-agnostic default', UserWarning)
        output = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), input_features=features,
            num_delay_tokens=delay_tokens, do_sample=False, pad_token_id=PAD)
    return output[0, ids.shape[1]:].tolist()


def streaming_times(params: dict[str, Any], device: torch.device) -> list[float]:
    """
    Return the seconds between the chunks of 80 ms that streaming generate asks for.

    Of a model with random weights in BF16, without the first chunks, which load kernels.
    """
    with random_bfloat16(device):
        model = VoxtralRealtimeForConditionalGeneration(hf_config(params)).eval()
    noise = 0.05 * np.random.default_rng(0).standard_normal(5 * 16000)
    audio = padded(noise.astype(np.float32), 6)
    chunks = [chunk[None].to(device, torch.bfloat16)
              for chunk in mel_chunks(audio, len(prompt(6)))]
    moments: list[float] = []

    def live() -> Iterator[torch.Tensor]:
        for chunk in chunks:
            if device.type == 'cuda':
                torch.cuda.synchronize()
            moments.append(time.perf_counter())
            yield chunk

    ids = torch.tensor([prompt(6)], device=device)
    with torch.inference_mode():
        model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), input_features=live(),
                       num_delay_tokens=6, do_sample=False, pad_token_id=PAD)
    return np.diff(moments)[3:].tolist()
