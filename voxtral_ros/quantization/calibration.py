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
What the network is given while it transcribes recordings: the inputs to calibrate weights on.

The encoder is given recordings, padded as a stream pads them. Of these it makes audio embeddings,
and the network decodes them greedily, as in use, and at every position its input is the sum of an
audio embedding and the embedding of a token that it has written itself, with the conditioning on a
delay. Weights that are calibrated on less than that, such as on text alone, serve a stream worse:
docs/quantization.md has the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn, Tensor

from voxtral_ros.model.layers import (
    Attend, Rope, rope_cos_sin, SequenceAttention, sliding_window_attention)
from voxtral_ros.model.network import VoxtralRealtime
from voxtral_ros.model.protocol import StreamingProtocol

_BATCH = 48  # streams side by side

Samples = NDArray[np.float32]  # [n]


@dataclass
class EncoderInput:
    """What the blocks of the encoder are given for one sequence of T frames."""

    h: Tensor  # [1, T, dim]; becomes the output of each block in turn
    rope: Rope
    attend: Attend

    def run(self, block: nn.Module, n: int) -> Tensor:
        """Return the output, [1, T, dim], of block n for `h`."""
        out: Tensor = block(self.h, self.rope, self.attend)
        return out


@dataclass
class DecoderInput:
    """What the blocks of the decoder are given for one sequence of T positions."""

    h: Tensor  # [1, T, dim]; becomes the output of each block in turn
    scales: Tensor  # [n_layers, 1, dim], of the feed-forward inputs; ones: no delay conditioning
    rope: Rope
    attend: Attend

    def run(self, block: nn.Module, n: int) -> Tensor:
        """Return the output, [1, T, dim], of block n for `h`."""
        out: Tensor = block(self.h, self.scales[n][:, None], self.rope, self.attend)
        return out


@torch.inference_mode()
def encoder_inputs(network: VoxtralRealtime, protocol: StreamingProtocol,
                   recordings: Sequence[Samples], delays: Sequence[int]) -> list[EncoderInput]:
    """
    Return what the blocks of the encoder are given in streams over recordings.

    :param recordings: float32, 16 kHz, -1..1
    :param delays: tokens; the recordings take them in turns
    """
    config, inputs = network.config.encoder, []
    for n, samples in enumerate(recordings):
        mel = _mel(network, protocol, samples, delays[n % len(delays)])
        h, _ = network.encoder.conv_stem(mel, network.encoder.new_conv_state(1, mel))
        position = torch.arange(h.shape[1])[None]
        inputs.append(EncoderInput(
            h, rope_cos_sin(position, config.head_dim, config.rope_theta),
            sliding_window_attention(h.shape[1], config.sliding_window, h.device)))
    return inputs


@torch.inference_mode()
def calibration_inputs(network: VoxtralRealtime, protocol: StreamingProtocol,
                       recordings: Sequence[Samples], delays: Sequence[int],
                       progress: Callable[[int], object] = lambda count: None,
                       ) -> list[DecoderInput]:
    """
    Return what the decoder is given in streams over recordings.

    :param recordings: float32, 16 kHz, -1..1
    :param delays: tokens; the recordings take them in turns
    :param progress: is called with the count of recordings just decoded
    """
    inputs = []
    for n, delay in enumerate(delays):
        group = recordings[n::len(delays)]
        embeddings = embed(network, protocol, group, delay)
        written = generate(network, protocol, embeddings, delay)
        inputs += [
            decoder_input(network, stream_inputs(network, protocol, audio, tokens, delay), delay)
            for audio, tokens in zip(embeddings, written, strict=True)]
        progress(len(group))
    return inputs


@torch.inference_mode()
def embed(network: VoxtralRealtime, protocol: StreamingProtocol, recordings: Iterable[Samples],
          delay: int, attention: SequenceAttention = sliding_window_attention) -> list[Tensor]:
    """Return the audio embeddings, [T, dim] each, of recordings as a stream pads them."""
    return [network.embed_audio(_mel(network, protocol, samples, delay), attention)[0]
            for samples in recordings]


def _mel(network: VoxtralRealtime, protocol: StreamingProtocol, samples: Samples, delay: int,
         ) -> Tensor:
    """Return the mel spectrogram, [1, 128, 8T], of a recording as a stream pads it."""
    samples = np.pad(samples, (protocol.left_pad, protocol.right_pad(len(samples), delay)))
    n_tokens = (len(samples) - protocol.context) // protocol.samples_per_token
    samples = samples[:n_tokens * protocol.samples_per_token + protocol.context]
    mel: Tensor = network.mel(torch.from_numpy(samples)[None])
    return mel


@torch.inference_mode()
def generate(network: VoxtralRealtime, protocol: StreamingProtocol, embeddings: Sequence[Tensor],
             delay: int, int8_cache: bool = False) -> list[Tensor]:
    """
    Return the tokens that a stream over each of these embeddings writes, step by step.

    :param embeddings: see embed
    :param int8_cache: keys and values in INT8
    :return: int64 [T - prompt + 1] each: those after the prompt
    """
    prompt_tokens = torch.tensor(protocol.prompt_tokens(delay))
    scales = network.decoder.delay_scales(torch.tensor([delay]))[:, 0]
    written: list[Tensor] = [torch.empty(0)] * len(embeddings)
    # Streams of about the same length side by side: the shorter ones of a batch are padded.
    order = sorted(range(len(embeddings)), key=lambda n: len(embeddings[n]))
    for at in range(0, len(order), _BATCH):
        batch = order[at:at + _BATCH]
        audio = torch.nn.utils.rnn.pad_sequence([embeddings[n] for n in batch], batch_first=True)
        tokens = _greedy(network, audio, prompt_tokens, scales, int8_cache)
        for n, row in zip(batch, tokens, strict=True):
            written[n] = row[:len(embeddings[n]) - len(prompt_tokens) + 1].clone()
    return written


def _greedy(network: VoxtralRealtime, audio: Tensor, prompt_tokens: Tensor, scales: Tensor,
            int8_cache: bool) -> Tensor:
    """Prefill the prompt, then take the likeliest token at every position: int64 [B, G]."""
    slots = torch.arange(len(audio))
    state = network.new_state(len(audio), len(prompt_tokens), int8_cache)
    for slot in slots.tolist():
        state.reset(slot, scales)
    start = len(prompt_tokens)
    logits = network.decode(audio[:, :start], prompt_tokens.expand(len(audio), -1), state, slots,
                            start)
    tokens = [logits.argmax(-1)]
    for position in range(start, audio.shape[1]):
        logits = network.decode(audio[:, position:position + 1], tokens[-1][:, None], state, slots,
                                position + 1)
        tokens.append(logits.argmax(-1))
    return torch.stack(tokens, 1)


def stream_inputs(network: VoxtralRealtime, protocol: StreamingProtocol, audio: Tensor,
                  tokens: Tensor, delay: int) -> Tensor:
    """Return what the first block is given, [T, dim], in a stream that writes `tokens`."""
    before = torch.cat((torch.tensor(protocol.prompt_tokens(delay)), tokens[:-1]))
    return audio + network.decoder.tok_embeddings(before)


def decoder_input(network: VoxtralRealtime, h: Tensor, delay: int | None) -> DecoderInput:
    """
    Return what the blocks are given, the first one `h`.

    :param h: [T, dim]
    :param delay: tokens; None leaves out the conditioning
    """
    config = network.config.decoder
    scales = network.decoder.delay_scales(torch.tensor([delay or 0]))
    position = torch.arange(len(h))[None]
    return DecoderInput(
        h[None], torch.ones_like(scales) if delay is None else scales,
        rope_cos_sin(position, config.head_dim, config.rope_theta),
        sliding_window_attention(len(h), config.sliding_window, h.device))
