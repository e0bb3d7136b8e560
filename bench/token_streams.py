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
Token streams of recordings, and how two networks differ on them.

voxtral_ros/quantization/calibration.py writes them: greedy, step by step as in the engine.
"""

from __future__ import annotations

from difflib import SequenceMatcher
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from voxtral_ros.model.kv_cache import dequantize, quantize
from voxtral_ros.model.layers import (
    Attend, rope_cos_sin, SequenceAttention, sliding_window_attention)
from voxtral_ros.model.network import VoxtralRealtime
from voxtral_ros.model.protocol import StreamingProtocol
from voxtral_ros.model.tokenizer import Tokenizer
from voxtral_ros.recognizer.slot import Token
from voxtral_ros.recognizer.text import Utterance
from voxtral_ros.recognizer.words import WordReader


class Margins(NamedTuple):
    """
    Logit of pad minus the best other one, at the boundaries of a token stream.

    A stream is right at an onset while the margin is negative, elsewhere while it is positive.
    """

    before: Tensor  # at the last pad before a group of words
    onset: Tensor  # at the first token of a group, after a pad
    offset: Tensor  # at the first pad after a group


class WordAt(NamedTuple):
    """A word of a stream."""

    text: str
    token: int  # where its first token was written


def int8_attention(length: int, window: int, device: torch.device) -> Attend:
    """Return attention whose keys and values are rounded as those of a KV cache in INT8."""
    attend = sliding_window_attention(length, window, device)

    def rounded(x: Tensor) -> Tensor:
        return dequantize(*quantize(x), x.dtype)
    return lambda q, k, v: attend(q, rounded(k), rounded(v))


@torch.inference_mode()
def score(network: VoxtralRealtime, protocol: StreamingProtocol, audio: Tensor, tokens: Tensor,
          delay: int, attention: SequenceAttention = sliding_window_attention) -> Tensor:
    """
    Return the logits of a network at each step of a stream that has been written already.

    :param audio: [T, dim]
    :param tokens: the generated ones, [G]
    :return: logits [G, vocab_size], float32; row g is about tokens[g]
    """
    prompt_tokens = torch.tensor(protocol.prompt_tokens(delay))
    inputs = torch.cat((prompt_tokens, tokens[:-1]))[None]
    config = network.config.decoder
    position = torch.arange(inputs.shape[1])[None]
    attend = attention(inputs.shape[1], config.sliding_window, audio.device)
    hidden = network.decoder(
        audio[None], inputs, network.decoder.delay_scales(torch.tensor([delay])),
        rope_cos_sin(position, config.head_dim, config.rope_theta), [attend] * config.n_layers)
    return network.decoder.logits(hidden[0, len(prompt_tokens) - 1:]).float()


def margins(logits: Tensor, tokens: Tensor, pad: int) -> Margins:
    """Return the margins of pad at the boundaries of `tokens`, [G], from logits [G, V]."""
    others = logits.clone()
    others[:, pad] = -torch.inf
    margin = logits[:, pad] - others.amax(-1)
    is_pad = tokens == pad
    onset = ~is_pad[1:] & is_pad[:-1]
    offset = is_pad[1:] & ~is_pad[:-1]
    return Margins(margin[:-1][onset], margin[1:][onset], margin[1:][offset])


def encode(text: str, tokenizer: Tokenizer) -> list[int]:
    """Return the tokens of a text, a space before each word: pieces of lowest rank merge first."""
    ranks = {piece: rank for rank, piece in enumerate(tokenizer.pieces)}
    tokens = []
    for word in text.split():
        parts = [bytes([byte]) for byte in f' {word}'.encode()]
        while len(parts) > 1:
            merged = [ranks.get(first + second, len(ranks)) for first, second in pairwise(parts)]
            best = min(merged)
            if best == len(ranks):
                break
            at = merged.index(best)
            parts[at:at + 2] = [parts[at] + parts[at + 1]]
        tokens += [tokenizer.n_special + ranks[part] for part in parts]
    return tokens


def words(tokens: Tensor, tokenizer: Tokenizer) -> list[WordAt]:
    """Return the words of a stream and where they were written."""
    utterance, reader = Utterance(1, 0.0), WordReader(tokenizer)
    for n, token in enumerate(tokens.tolist()):
        if not tokenizer.is_text(token):
            reader.start_group()
            continue
        for written in reader.push(Token(n, token, 1.0), n):
            utterance.append(written)
    transcript = utterance.publish(lambda n: n, is_final=True)
    return [WordAt(word.text, int(word.end_s)) for word in transcript.words]


def shifts(before: list[WordAt], after: list[WordAt]) -> list[int]:
    """Return how many tokens later each word comes that both streams have."""
    matcher = SequenceMatcher(None, [word.text for word in before],
                              [word.text for word in after], autojunk=False)
    return [after[block.b + n].token - before[block.a + n].token
            for block in matcher.get_matching_blocks() for n in range(block.size)]
