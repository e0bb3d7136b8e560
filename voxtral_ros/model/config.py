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
Sizes and constants of a Voxtral Realtime checkpoint, read from its `params.json`.

Keys that related checkpoints leave out have the values of Voxtral-Mini-4B-Realtime-2602; sizes
that nothing can be assumed about are required.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
import math
from pathlib import Path
from typing import Any, TypeVar

from voxtral_ros.model.folder import ConfigError
from voxtral_ros.model.layout import find_layout, Layout

__all__ = ['AudioConfig', 'ConfigError', 'ModelConfig', 'StackConfig']

T = TypeVar('T', int, float, bool)

# Beyond these a value is damaged, and would take memory or time without end before anything else
# shows it. The published model has at most a thirtieth of each.
_MOST: dict[str, float] = {
    'n_layers': 1024, 'dim': 1 << 17, 'hidden_dim': 1 << 19, 'n_heads': 1024, 'n_kv_heads': 1024,
    'head_dim': 1 << 13, 'sliding_window': 1 << 18, 'vocab_size': 1 << 22,
    'ada_rms_norm_t_cond_dim': 1 << 16, 'downsample_factor': 128, 'rope_theta': 1e10,
    'norm_eps': 1.0, 'num_mel_bins': 4096, 'hop_length': 1 << 13, 'window_size': 1 << 13,
    'frame_rate': 400.0, 'global_log_mel_max': 40.0,
}


@dataclass(frozen=True)
class AudioConfig:
    """Front end: 16 kHz audio to log-mel frames of 10 ms."""

    sampling_rate: int = 16000  # Hz
    frame_rate: float = 12.5  # tokens per second
    num_mel_bins: int = 128
    hop_length: int = 160  # samples between mel frames
    window_size: int = 400  # samples, also the FFT length
    global_log_mel_max: float = 1.5  # log10 of mel power

    @property
    def samples_per_token(self) -> int:
        return int(self.sampling_rate / self.frame_rate)

    @property
    def frames_per_token(self) -> int:
        return self.samples_per_token // self.hop_length

    @property
    def context(self) -> int:
        """Return how many samples the windows of two tokens share."""
        return self.window_size - self.hop_length

    def n_tokens(self, n_samples: int) -> int:
        """Return how many whole tokens a window of so many samples is for."""
        return max(0, (n_samples - self.context) // self.samples_per_token)


@dataclass(frozen=True)
class StackConfig:
    """One transformer stack, encoder or decoder."""

    dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    hidden_dim: int  # of the SwiGLU feed-forward
    sliding_window: int  # positions a query sees, itself included
    rope_theta: float = 1e6
    norm_eps: float = 1e-5
    use_biases: bool = False  # on wq, wv, wo and w2; never on wk, w1 and w3

    def cache_capacity(self, max_positions: int) -> int:
        """Return how many positions the KV cache of a stream has places for, in passes so long."""
        return self.sliding_window - 1 + max_positions

    def kv_bytes(self, bits: int) -> int:
        """
        Return the bytes of the keys and values of one position, in all layers.

        :param bits: of a number; with 8 each key and each value of a head also has a scale
        """
        scale = 2 if bits == 8 else 0
        return 2 * self.n_layers * self.n_kv_heads * (self.head_dim * bits // 8 + scale)


@dataclass(frozen=True)
class ModelConfig:
    """The whole network."""

    audio: AudioConfig
    encoder: StackConfig
    decoder: StackConfig
    vocab_size: int
    downsample_factor: int = 4  # encoder frames per token
    ada_dim: int = 32  # bottleneck of the delay conditioning
    # Ours: probabilities to this power are right as often as they say, measured on this model.
    confidence_exponent: float = 1.0

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> ModelConfig:
        """Build from the content of `params.json`; raise ConfigError naming a wrong key."""
        whisper = _section(params, 'multimodal.whisper_model_args')
        encoder = _section(whisper, 'encoder_args', 'multimodal.whisper_model_args')
        audio = _audio(_optional(encoder, 'audio_encoding_args'))
        factor = _size(_optional(whisper, 'downsample_args'), 'downsample_factor', 4)
        config = cls(
            audio=audio,
            encoder=_stack(encoder, 'multimodal.whisper_model_args.encoder_args.', 750, True),
            decoder=_stack(params, '', 8192, False),
            vocab_size=_size(params, 'vocab_size'),
            downsample_factor=factor,
            ada_dim=_size(params, 'ada_rms_norm_t_cond_dim', 32),
            confidence_exponent=_positive(params, 'confidence_exponent', float, 1.0),
        )
        _check(config, params, encoder)
        return config

    def with_window(self, window: int) -> ModelConfig:
        """
        Return the same with a decoder that looks back `window` tokens; 0 changes nothing.

        :raises ConfigError: the model cannot look back so far
        """
        own = self.decoder.sliding_window
        if not 0 <= window <= own:
            raise ConfigError(f'the window is {window} tokens, but this model can have 1 to '
                              f'{own}, or 0 for all of them')
        return replace(self, decoder=replace(self.decoder, sliding_window=window or own))

    def kv_cache_bytes(self, max_tokens: int, bits: int) -> int:
        """Return the bytes of the KV caches of a stream, for passes so long; see kv_bytes."""
        encoder, decoder = self.encoder, self.decoder
        capacity = encoder.cache_capacity(max_tokens * self.downsample_factor)
        return encoder.kv_bytes(bits) * capacity \
            + decoder.kv_bytes(bits) * decoder.cache_capacity(max_tokens)

    @classmethod
    def load(cls, folder: str | Path) -> ModelConfig:
        """
        Read `params.json` or `config.json`.

        :raises ConfigError: it is missing or wrong
        :raises CheckpointError: it cannot be said where the weights are
        """
        return cls.of_layout(find_layout(folder))

    @classmethod
    def of_layout(cls, layout: Layout) -> ModelConfig:
        """Read it where it is known to be; see `load`."""
        params = layout.params()
        try:
            return cls.from_params(params)
        except ConfigError as error:
            raise ConfigError(f'{layout.config}: {error}') from None


def _section(values: Mapping[str, Any], path: str, parent: str = '') -> Mapping[str, Any]:
    """Return the object at the dotted `path` in `values`."""
    here: Any = values
    for key in path.split('.'):
        here = here.get(key) if isinstance(here, Mapping) else None
        if not isinstance(here, Mapping):
            full = f'{parent}.{path}' if parent else path
            raise ConfigError(f'"{full}" is missing: these are not the parameters of a '
                              'Voxtral Realtime model')
    return here  # type: ignore[no-any-return]


def _value(values: Mapping[str, Any], key: str, kind: type[T], default: T | None = None,
           prefix: str = '') -> T:
    """Return a number or flag; JSON null counts as missing."""
    value = values.get(key)
    if value is None:
        if default is None:
            raise ConfigError(f'"{prefix}{key}" is missing')
        return default
    fits = isinstance(value, (int, float)) and isinstance(value, bool) == (kind is bool)
    try:
        if fits and math.isfinite(value) and value == kind(value):
            return kind(value)
    except OverflowError:
        pass
    shown = repr(value)
    raise ConfigError(f'"{prefix}{key}" is {shown[:40]}, expected {kind.__name__}')


def _positive(values: Mapping[str, Any], key: str, kind: type[T], default: T | None = None,
              prefix: str = '') -> T:
    """Return a number above zero."""
    number = _value(values, key, kind, default, prefix)
    if number <= 0:
        raise ConfigError(f'"{prefix}{key}" is {number}, expected more than 0')
    most = _MOST.get(key, math.inf)
    if number > most:
        raise ConfigError(f'"{prefix}{key}" is {str(number)[:40]}, expected at most {most:g}: is '
                          'the file damaged?')
    return number


def _size(values: Mapping[str, Any], key: str, default: int | None = None,
          prefix: str = '') -> int:
    """Return a positive integer."""
    return _positive(values, key, int, default, prefix)


def _optional(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return an object that may be missing."""
    section = values.get(key)
    if section is None:
        return {}
    if not isinstance(section, Mapping):
        raise ConfigError(f'"{key}" is a {type(section).__name__}, expected an object')
    return section


def _audio(values: Mapping[str, Any]) -> AudioConfig:
    known = {}
    for key, default in vars(AudioConfig()).items():
        known[key] = _positive(values, key, type(default), default,
                               prefix='audio_encoding_args.')
    return AudioConfig(**known)


def _stack(values: Mapping[str, Any], prefix: str, window: int, biases: bool) -> StackConfig:
    def size(key: str, default: int | None = None) -> int:
        return _size(values, key, default, prefix)

    n_heads = size('n_heads')
    stack = StackConfig(
        dim=size('dim'),
        n_layers=size('n_layers'),
        n_heads=n_heads,
        n_kv_heads=size('n_kv_heads', n_heads),
        head_dim=size('head_dim'),
        hidden_dim=size('hidden_dim'),
        sliding_window=size('sliding_window', window),
        rope_theta=_positive(values, 'rope_theta', float, 1e6, prefix),
        norm_eps=_positive(values, 'norm_eps', float, 1e-5, prefix),
        use_biases=_value(values, 'use_biases', bool, biases, prefix),
    )
    if stack.n_heads % stack.n_kv_heads:
        raise ConfigError(f'"{prefix}n_kv_heads" is {stack.n_kv_heads}, which does not divide '
                          f'n_heads {stack.n_heads}')
    if stack.head_dim % 2:
        raise ConfigError(f'"{prefix}head_dim" is {stack.head_dim}, rotary embeddings need pairs')
    return stack


def _check(config: ModelConfig, params: Mapping[str, Any], encoder: Mapping[str, Any]) -> None:
    """Refuse relatives of this network that would load and transcribe nonsense."""
    required = (
        (params, 'tied_embeddings', True),
        (params, 'ada_rms_norm_t_cond', True),
        (encoder, 'causal', True),
        (encoder, 'pos_embed', 'rope'),
        (encoder, 'ffn_type', 'swiglu'),
        (encoder, 'norm_type', 'rms_norm'),
    )
    for values, key, only in required:
        value = values.get(key)
        if value is not None and value != only:
            raise ConfigError(f'"{key}" is {repr(value)[:40]}; this network has {only!r}')
    audio = config.audio
    if audio.sampling_rate != AudioConfig.sampling_rate:
        raise ConfigError(f'"sampling_rate" is {audio.sampling_rate} Hz; this network has '
                          f'{AudioConfig.sampling_rate}')
    if audio.window_size < audio.hop_length:
        raise ConfigError(f'"window_size" is {audio.window_size}, less than "hop_length", '
                          f'{audio.hop_length}')
    if audio.frames_per_token != 2 * config.downsample_factor \
            or audio.samples_per_token % audio.hop_length:
        raise ConfigError(
            f'"downsample_factor" is {config.downsample_factor}: with frame_rate '
            f'{audio.frame_rate} and hop_length {audio.hop_length} a token has '
            f'{audio.frames_per_token} mel frames, and the conv stem halves them')
    if config.decoder.use_biases:
        raise ConfigError('"use_biases" is true; the decoder of this network has none')
