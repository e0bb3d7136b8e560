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
The second implementation of bench/transformers_reference.py, with what only tests ask of it.

All but the last id of `hf_generate_streaming` must equal those of `hf_generate_offline`.
"""

# transformers is typed only in part
# mypy: disallow-untyped-calls=False, warn-return-any=False

from bench.transformers_reference import (
    generate, half_split_rows, hf_config, hf_generate_streaming, hf_mel, hf_name, load_hf,
    mel_chunks, n_embeds, padded, prompt)
import numpy as np
import torch
from transformers import VoxtralRealtimeForConditionalGeneration

__all__ = [
    'VoxtralRealtimeForConditionalGeneration', 'half_split_rows', 'hf_audio_embeds', 'hf_config',
    'hf_generate_offline', 'hf_generate_streaming', 'hf_logits', 'hf_mel', 'hf_name', 'load_hf',
    'mel_chunks', 'n_embeds', 'padded', 'prompt']


@torch.no_grad()
def hf_audio_embeds(model: VoxtralRealtimeForConditionalGeneration,
                    mel: torch.Tensor) -> torch.Tensor:
    """Return the audio embeds [n, dim] of mel [128, 8n], in one pass without caches."""
    return model.get_audio_features(mel[None], use_cache=False).pooler_output[0]


@torch.no_grad()
def hf_logits(model: VoxtralRealtimeForConditionalGeneration, mel: torch.Tensor, ids: list[int],
              delay_tokens: int) -> torch.Tensor:
    """Return logits [n, vocab] of mel [128, 8n] and n ids; row p predicts the id of p + 1."""
    return model(input_ids=torch.tensor([ids]), input_features=mel[None], use_cache=False,
                 num_delay_tokens=delay_tokens).logits[0]


def hf_generate_offline(model: VoxtralRealtimeForConditionalGeneration, samples: np.ndarray,
                        delay_tokens: int) -> list[int]:
    """
    Return the N - L greedy ids after the prompt (sequence indices L .. N - 1), EOS ignored.

    HF bounds the sequence by the N embeds, so it never uses the last one; a loop that runs until
    the embeds are used up (the golden streams, `hf_generate_streaming`) yields one id more.
    """
    mel = hf_mel(padded(samples, delay_tokens))
    return generate(model, mel[None], delay_tokens)
