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
The streaming protocol: what surrounds the audio, and which token is about which moment.

    32 tokens of silence | audio ... | silence up to a whole token, then delay + 11 tokens
    <s> and 32 + delay pads | generated tokens ...

Position p takes token p of audio and text token p and predicts text token p + 1. The prompt covers
the first positions (they are the prefill), so the first generated token (k = 0) was predicted from
delay + 1 tokens of audio; generated token k is about audio up to (k + 1) * 80 ms. Source:
mistral_common `tokens/tokenizers/audio.py` and `instruct.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from voxtral_ros.model.config import AudioConfig, ModelConfig
from voxtral_ros.model.tokenizer import Tokenizer, TokenizerError

# Heuristic of mistral_common: tokens that the longest word may need after the last audio.
TAIL_TOKENS = 10


@dataclass(frozen=True)
class StreamingProtocol:
    """The protocol of one checkpoint; lengths in samples or tokens."""

    tokenizer: Tokenizer
    audio: AudioConfig

    @property
    def samples_per_token(self) -> int:
        return self.audio.samples_per_token

    @property
    def token_ms(self) -> float:
        return 1000.0 * self.samples_per_token / self.audio.sampling_rate

    @property
    def token_s(self) -> float:
        return self.samples_per_token / self.audio.sampling_rate

    @property
    def context(self) -> int:
        """Return how many samples the windows of two tokens share."""
        return self.audio.context

    def delay_tokens(self, delay_ms: float | None = None) -> int:
        """
        Return a delay in tokens; None is the checkpoint's own.

        :raises ValueError: the model was not trained for this delay
        """
        if delay_ms is None:
            delay_ms = self.tokenizer.streaming.transcription_delay_ms
        tokens = delay_ms / self.token_ms
        if tokens not in (*range(1, 16), 30):
            raise ValueError(
                f'a delay of {delay_ms:g} ms is not supported: multiples of {self.token_ms:g} '
                f'from {self.token_ms:g} to {15 * self.token_ms:g}, and {30 * self.token_ms:g}')
        return int(tokens)

    def prompt_tokens(self, delay: int) -> list[int]:
        """Return the tokens of the prefill, one per position, before generation starts."""
        tokens = self.tokenizer
        return [tokens.bos] + [tokens.pad] * (tokens.streaming.n_left_pad_tokens + delay)

    @property
    def left_pad(self) -> int:
        """
        Return the samples of silence before the audio.

        The left half of the first mel window is part of them: the reference pads it by reflection,
        and reflected silence is silence.
        """
        pad = self.tokenizer.streaming.n_left_pad_tokens * self.samples_per_token
        return pad + self.audio.window_size // 2

    def right_pad(self, n_samples: int, delay: int) -> int:
        """Return the samples of silence that bring out the text of all n_samples before them."""
        align = -n_samples % self.samples_per_token
        look_ahead = self.context - self.audio.window_size // 2
        return align + self.tail(delay) + look_ahead

    def tail(self, delay: int) -> int:
        """
        Return the samples of silence that vLLM puts after the audio of a realtime generation.

        It generates one or two tokens fewer with that than there are with `right_pad`.
        """
        return (delay + 1 + TAIL_TOKENS) * self.samples_per_token

    def n_generated(self, n_samples: int, delay: int) -> int:
        """Return how many tokens are generated from a stream of so many samples."""
        n_tokens = self.audio.n_tokens(self.left_pad + n_samples)
        return max(0, n_tokens - len(self.prompt_tokens(delay)) + 1)

    def transcribed_s(self, k: int) -> float:
        """Return up to which second the audio is transcribed with generated token k."""
        return (k + 1) * self.token_s


def load_protocol(folder: str | Path, config: ModelConfig) -> StreamingProtocol:
    """
    Load tokenizer and protocol of a checkpoint folder.

    :raises TokenizerError: tekken.json is missing, damaged, or not for this network
    """
    protocol = StreamingProtocol(Tokenizer.load(folder, config.vocab_size), config.audio)
    try:
        protocol.delay_tokens()
    except ValueError as error:
        raise TokenizerError(f'{Path(folder) / "tekken.json"}: {error}') from None
    return protocol
