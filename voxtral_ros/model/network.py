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
The network: audio to audio embeddings to token logits.

One position is one token: 80 ms of audio. The same modules run whole utterances in parallel
(forward, for training and scoring) and streams step by step (encode and decode, over a
StreamState).
"""

from __future__ import annotations

import torch
from torch import nn, Tensor

from voxtral_ros.model.config import ModelConfig
from voxtral_ros.model.decoder import Decoder
from voxtral_ros.model.encoder import conv_state_shapes, Encoder
from voxtral_ros.model.kv_cache import KVCache
from voxtral_ros.model.layers import rope_cos_sin, SequenceAttention, sliding_window_attention
from voxtral_ros.model.mel import LogMel


class StreamState:
    """
    All that is remembered of `n_slots` streams; its memory is fixed at construction.

    Positions are tokens since the stream was opened: of the encoder and of the decoder.
    """

    def __init__(self, config: ModelConfig, n_slots: int, max_tokens: int, dtype: torch.dtype,
                 device: torch.device | str = 'cpu', n_spare: int = 0,
                 int8_cache: bool = False) -> None:
        """
        Allocate for passes over, or ways back by, at most `max_tokens` tokens per stream.

        :param n_spare: further slots that have everything but a KV cache: for the rows of a
            fixed-size batch that are not needed
        :param int8_cache: keys and values in INT8
        """
        device = torch.device(device)
        encoder, decoder = config.encoder, config.decoder
        self._frames = frames = config.downsample_factor
        self.encoder_cache = KVCache(
            encoder, n_slots, max_tokens * frames, dtype, device, int8_cache)
        self.decoder_cache = KVCache(decoder, n_slots, max_tokens, dtype, device, int8_cache)
        n_slots += n_spare
        self.conv_state = tuple(
            torch.zeros(n_slots, channels, left_context, dtype=dtype, device=device)
            for channels, left_context in conv_state_shapes(config))
        self.delay_scales = torch.ones(
            (decoder.n_layers, n_slots, decoder.dim), dtype=dtype, device=device)
        self.encoder_position = torch.zeros(n_slots, dtype=torch.int64, device=device)
        self.decoder_position = torch.zeros(n_slots, dtype=torch.int64, device=device)

    def reset(self, slot: int, delay_scales: Tensor) -> None:
        """Forget the stream in `slot`; the next one has these delay_scales, [n_layers, dim]."""
        for state in self.conv_state:
            state[slot] = 0
        self.encoder_cache.clear(slot)
        self.decoder_cache.clear(slot)
        self.delay_scales[:, slot] = delay_scales
        self.encoder_position[slot] = 0
        self.decoder_position[slot] = 0

    def clear_ahead(self, slot: int, n_tokens: int) -> None:
        """Forget the keys and values of so many tokens after the position of a stream."""
        self.encoder_cache.clear_ahead(
            slot, self.encoder_position[slot] * self._frames, n_tokens * self._frames)
        self.decoder_cache.clear_ahead(slot, self.decoder_position[slot], n_tokens)

    @property
    def nbytes(self) -> int:
        return self.encoder_cache.nbytes + self.decoder_cache.nbytes

    @property
    def cache_bits(self) -> int:
        """Return the bits of a number in the KV caches."""
        return 8 * self.decoder_cache.keys.itemsize


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
                attention: SequenceAttention = sliding_window_attention) -> Tensor:
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
            rope_cos_sin(position, config.head_dim, config.rope_theta), [attend] * config.n_layers)
        return self.decoder.logits(hidden)

    def embed_audio(self, mel: Tensor,
                    attention: SequenceAttention = sliding_window_attention) -> Tensor:
        """Encode whole mel spectrograms [B, 128, 8N] to audio embeddings [B, N, dim]."""
        config = self.config.encoder
        mel = mel.to(self.decoder.norm.weight.dtype)
        position = torch.arange(mel.shape[-1] // 2, device=mel.device)[None]  # [1, 4N]
        attend = attention(position.shape[1], config.sliding_window, mel.device)
        groups, _ = self.encoder(
            mel, self.encoder.new_conv_state(len(mel), mel),
            rope_cos_sin(position, config.head_dim, config.rope_theta), [attend] * config.n_layers)
        out: Tensor = self.adapter(groups)
        return out

    def new_state(self, n_slots: int, max_tokens: int, int8_cache: bool = False) -> StreamState:
        """Return the state of as many streams, in the type and on the device of the weights."""
        weight = self.decoder.norm.weight
        return StreamState(self.config, n_slots, max_tokens, weight.dtype, weight.device,
                           int8_cache=int8_cache)

    def encode(self, samples: Tensor, state: StreamState, slots: Tensor,
               max_kv_len: int) -> Tensor:
        """
        Encode the next n tokens of audio of M streams and advance them.

        :param samples: float32 [M, n * 1280 + 240], windows overlapping by 240 samples
        :param slots: int64 [M], different ones
        :param max_kv_len: host-side bound: tokens of the longest of these streams after this call
        :return: audio embeddings [M, n, dim]
        """
        config, frames = self.config.encoder, self.config.downsample_factor
        mel = self.mel(samples).to(self.decoder.norm.weight.dtype)  # [M, 128, 8n]
        n_tokens = mel.shape[-1] // (2 * frames)
        step = torch.arange(n_tokens * frames, device=slots.device)
        position = state.encoder_position[slots, None] * frames + step  # [M, 4n]
        groups, conv_state = self.encoder(
            mel, tuple(part[slots] for part in state.conv_state),
            rope_cos_sin(position, config.head_dim, config.rope_theta),
            state.encoder_cache.attention(slots, position, max_kv_len * frames))
        for part, new in zip(state.conv_state, conv_state, strict=True):
            part[slots] = new
        state.encoder_position[slots] += n_tokens
        out: Tensor = self.adapter(groups)
        return out

    def decode(self, audio: Tensor, tokens: Tensor, state: StreamState, slots: Tensor,
               max_kv_len: int) -> Tensor:
        """
        Decode the next T positions of M streams, return the last logits and advance them.

        With T > 1 this is the prefill: tokens that are known in advance, all in one pass.

        :param audio: [M, T, dim]
        :param tokens: int64 [M, T]
        :param slots, max_kv_len: as for encode
        :return: [M, vocab_size]
        """
        config = self.config.decoder
        step = torch.arange(tokens.shape[1], device=slots.device)
        position = state.decoder_position[slots, None] + step  # [M, T]
        hidden = self.decoder(
            audio, tokens, state.delay_scales[:, slots],
            rope_cos_sin(position, config.head_dim, config.rope_theta),
            state.decoder_cache.attention(slots, position, max_kv_len))
        state.decoder_position[slots] += tokens.shape[1]
        return self.decoder.logits(hidden[:, -1])
