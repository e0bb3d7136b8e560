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
The network: sound to audio embeddings to token logits.

One position is one token is 80 ms. The same modules run whole utterances in parallel (forward, for
training and scoring) and streams step by step (encode and decode, over a StreamState).
"""

from __future__ import annotations

import torch
from torch import nn, Tensor
from voxtral_ros.model.config import ModelConfig
from voxtral_ros.model.decoder import Decoder
from voxtral_ros.model.encoder import Encoder
from voxtral_ros.model.kv_cache import RingCache
from voxtral_ros.model.layers import banded_attention, rotation, WholeAttention
from voxtral_ros.model.mel import LogMel


class StreamState:
    """
    All that is remembered of `n_slots` streams; its memory is fixed at construction.

    Counters are tokens since the stream was opened. `origin` moves the clock of the rotary
    embedding only: attention depends on differences of positions, so it changes no token.
    """

    def __init__(self, network: VoxtralRealtime, n_slots: int, max_tokens: int,
                 n_spare: int = 0) -> None:
        """
        Allocate for passes over at most `max_tokens` tokens per stream.

        :param n_spare: further slots that have everything but keys and values: for the rows of
            a fixed-size batch that are not needed
        """
        config = network.config
        weight = network.decoder.norm.weight
        dtype, device = weight.dtype, weight.device
        frames = config.downsample_factor
        self.encoder_ring = RingCache(config.encoder, n_slots, max_tokens * frames, dtype, device)
        self.decoder_ring = RingCache(config.decoder, n_slots, max_tokens, dtype, device)
        n_slots += n_spare
        self.conv_past = network.encoder.conv_past(n_slots, weight)
        self.delay_scales = torch.ones(
            (config.decoder.n_layers, n_slots, config.decoder.dim), dtype=dtype, device=device)
        self.encoded = torch.zeros(n_slots, dtype=torch.int64, device=device)
        self.decoded = torch.zeros(n_slots, dtype=torch.int64, device=device)
        self.origin = torch.zeros(n_slots, dtype=torch.int64, device=device)

    def reset(self, slot: int, delay_scales: Tensor, origin: int = 0) -> None:
        """Forget the stream in `slot`; the next one has these delay_scales, [n_layers, dim]."""
        for past in self.conv_past:
            past[slot] = 0
        self.encoder_ring.clear(slot)
        self.decoder_ring.clear(slot)
        self.delay_scales[:, slot] = delay_scales
        self.encoded[slot] = 0
        self.decoded[slot] = 0
        self.origin[slot] = origin

    @property
    def nbytes(self) -> int:
        return self.encoder_ring.nbytes + self.decoder_ring.nbytes


class VoxtralRealtime(nn.Module):
    """Voxtral Mini 4B Realtime, or the same network with other sizes."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.mel = LogMel(config.audio)
        self.encoder = Encoder(config)
        self.adapter = nn.Sequential(
            nn.Linear(config.encoder.dim * config.downsample_factor, config.decoder.dim,
                      bias=False),
            nn.GELU(),
            nn.Linear(config.decoder.dim, config.decoder.dim, bias=False),
        )
        self.decoder = Decoder(config)

    def forward(self, mel: Tensor, tokens: Tensor, delay: Tensor,
                attention: WholeAttention = banded_attention) -> Tensor:
        """
        Compute the logits of whole sequences, teacher-forced.

        :param mel: [B, 128, 8N]
        :param tokens: int64 [B, N]; logits at n predict the token after tokens[:, n]
        :param delay: [B], tokens
        :param attention: (length, window, device) -> the attention of a stack
        :return: [B, N, vocab_size]
        """
        audio = self.embed_audio(mel, attention)
        config = self.config.decoder
        position = torch.arange(tokens.shape[1], device=tokens.device)[None]  # [1, N]
        attend = attention(position.shape[1], config.sliding_window, tokens.device)
        hidden = self.decoder(
            audio, tokens, self.decoder.delay_scales(delay),
            rotation(position, config.head_dim, config.rope_theta), [attend] * config.n_layers)
        return self.decoder.logits(hidden)

    def embed_audio(self, mel: Tensor, attention: WholeAttention = banded_attention) -> Tensor:
        """Encode whole mel spectrograms [B, 128, 8N] to audio embeddings [B, N, dim]."""
        config = self.config.encoder
        mel = mel.to(self.decoder.norm.weight.dtype)
        position = torch.arange(mel.shape[-1] // 2, device=mel.device)[None]  # [1, 4N]
        attend = attention(position.shape[1], config.sliding_window, mel.device)
        groups, _ = self.encoder(
            mel, self.encoder.conv_past(len(mel), mel),
            rotation(position, config.head_dim, config.rope_theta), [attend] * config.n_layers)
        out: Tensor = self.adapter(groups)
        return out

    def encode(self, samples: Tensor, state: StreamState, slots: Tensor, filled: int) -> Tensor:
        """
        Encode the next n tokens of sound of M streams and advance them.

        :param samples: float32 [M, n * 1280 + 240], windows overlapping by 240 samples
        :param slots: int64 [M], different ones
        :param filled: host-side bound: tokens of the longest of these streams after this call
        :return: audio embeddings [M, n, dim]
        """
        config, frames = self.config.encoder, self.config.downsample_factor
        mel = self.mel(samples).to(self.decoder.norm.weight.dtype)  # [M, 128, 8n]
        n_tokens = mel.shape[-1] // (2 * frames)
        step = torch.arange(n_tokens * frames, device=slots.device)
        position = state.encoded[slots, None] * frames + step  # [M, 4n]
        angles = rotation(position + state.origin[slots, None] * frames,
                          config.head_dim, config.rope_theta)
        groups, past = self.encoder(
            mel, tuple(kept[slots] for kept in state.conv_past), angles,
            state.encoder_ring.attention(slots, position, filled * frames))
        for kept, new in zip(state.conv_past, past, strict=True):
            kept[slots] = new
        state.encoded[slots] += n_tokens
        out: Tensor = self.adapter(groups)
        return out

    def decode(self, audio: Tensor, tokens: Tensor, state: StreamState, slots: Tensor,
               filled: int) -> Tensor:
        """
        Decode the next T positions of M streams, return the last logits and advance them.

        :param audio: [M, T, dim]
        :param tokens: int64 [M, T]
        :param slots, filled: as for encode
        :return: [M, vocab_size]
        """
        config = self.config.decoder
        step = torch.arange(tokens.shape[1], device=slots.device)
        position = state.decoded[slots, None] + step  # [M, T]
        angles = rotation(position + state.origin[slots, None],
                          config.head_dim, config.rope_theta)
        hidden = self.decoder(
            audio, tokens, state.delay_scales[:, slots], angles,
            state.decoder_ring.attention(slots, position, filled))
        state.decoded[slots] += tokens.shape[1]
        return self.decoder.logits(hidden[:, -1])
