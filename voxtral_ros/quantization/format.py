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
How a checkpoint says what is quantized: names of tensors, and `quantization_config`.

A weight has one checkpoint name, Mistral's, and is stored in one of three ways:

    dense    <name>                              any floating-point type
    int8     <module>.weight_int8, .weight_scale   int8 [N, K], fp16 [N, K / 128]
    int4     <packed module>.B, .s                 int32 [K / 16, 2 N], fp16 [K / 128, N]

The INT4 names of the decoder are those of the original INT4 checkpoint, after Hugging Face; those
of the encoder and of the token embedding are the checkpoint name without ".weight". The names
alone say how a tensor is stored; `quantization_config` in params.json is for people, and protects
old readers from new formats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
import re
from typing import Any

from voxtral_ros.quantization.foreign import quantized_as

HEAD = 'mm_streams_embeddings.embedding_module.tok_embeddings.weight'
_ENCODER = 'mm_streams_embeddings.embedding_module.whisper_encoder.transformer.layers.'
_LINEARS = {
    'attention.wq': 'self_attn.q_proj', 'attention.wk': 'self_attn.k_proj',
    'attention.wv': 'self_attn.v_proj', 'attention.wo': 'self_attn.o_proj',
    'feed_forward.w1': 'mlp.gate_proj', 'feed_forward.w2': 'mlp.down_proj',
    'feed_forward.w3': 'mlp.up_proj',
}
CHECKPOINT_LINEARS = {packed: weight_name for weight_name, packed in _LINEARS.items()}

METHODS = ('rtn', 'gptq')  # of choosing codes; all of them give the same format
# What files call them. "gptq", as they did, is to other programs a layout, which this is not.
_QUANT_METHODS = {'rtn': 'rtn', 'gptq': 'voxtral_ros_gptq'}
RULES = ('seed', 'mse')  # of rounding to nearest, see rounding.round_int4

# What the original says, and what is understood if nothing is said. Values of other keys than
# these are our extensions and absent where they are the original's.
_ORIGINAL: dict[str, Any] = {
    'quant_method': 'rtn', 'bits': 4, 'group_size': 128, 'sym': True,
    'checkpoint_format': 'marlin', 'pack_dtype': 'int32', 'encoding': 'uint4b8',
}
_EXTENSIONS: dict[str, tuple[Any, ...]] = {
    'rounding': RULES, 'encoder_bits': (16, 8, 4), 'head_bits': (16, 8, 4),
}


@dataclass(frozen=True)
class Recipe:
    """What to quantize, and how; the defaults are those of the original INT4 checkpoint."""

    rounding: str = 'seed'  # see rounding.round_int4
    encoder_bits: int = 16  # 16, 8 or 4, of the linear layers of the encoder
    head_bits: int = 16  # 16, 8 or 4, of the token embedding, which is also the output head
    skip: tuple[str, ...] = ()  # patterns, as of a shell, of checkpoint names to leave alone
    method: str = 'rtn'  # of METHODS, for linear layers in INT4; not for the token embedding

    def __post_init__(self) -> None:
        for key, allowed in {**_EXTENSIONS, 'method': METHODS}.items():
            if getattr(self, key) not in allowed:
                raise ValueError(f'{key} is {getattr(self, key)!r}, expected one of '
                                 + ', '.join(map(str, allowed)))

    def bits(self, weight_name: str) -> int:
        """Return with how many bits to store a tensor: 4, 8, or 16 for as it is."""
        if any(fnmatchcase(weight_name, pattern) for pattern in self.skip):
            return 16
        if weight_name == HEAD:
            return self.head_bits
        if _decoder_linear(weight_name):
            return 4
        return self.encoder_bits if _encoder_linear(weight_name) else 16

    def is_calibrated(self, weight_name: str) -> bool:
        """Return whether the codes of a tensor are chosen on data, and not by rounding alone."""
        return self.method == 'gptq' and self.bits(weight_name) == 4 and weight_name != HEAD

    def quantization_config(self) -> dict[str, Any]:
        """Return what params.json is to say."""
        own: dict[str, Any] = {key: getattr(self, key) for key in _EXTENSIONS
                               if getattr(self, key) != getattr(Recipe, key)}
        if self.skip:
            own['skip'] = list(self.skip)
        return _ORIGINAL | {'quant_method': _QUANT_METHODS[self.method]} | own


def check_config(params: Mapping[str, Any]) -> None:
    """Raise ValueError if a params.json says of its weights what we could misread."""
    native = params.get('quantization')  # Mistral's own, of its FP8 checkpoints
    if native is not None:
        method = native.get('qformat_weight') if isinstance(native, Mapping) else native
        raise ValueError(quantized_as(str(method)[:40]))
    config = params.get('quantization_config')
    if config is None:  # dense, or by an early version of the original script
        return
    if not isinstance(config, Mapping):
        raise ValueError(f'"quantization_config" is {repr(config)[:40]}, expected an object')
    method = config.get('quant_method', 'rtn')
    if method not in (known := (*METHODS, *_QUANT_METHODS.values())):
        raise ValueError(f'"quantization_config.quant_method" is {str(method)[:40]!r}: '
                         + quantized_as(str(method)[:40]))
    allowed = {key: (value,) for key, value in _ORIGINAL.items()} | _EXTENSIONS
    allowed['quant_method'] = known
    for key, value in config.items():
        if key == 'skip':
            continue
        if key not in allowed:
            raise ValueError(f'"quantization_config.{key[:40]}" is not known to this version')
        if value not in allowed[key]:
            raise ValueError(f'"quantization_config.{key}" is {repr(value)[:40]}, supported: '
                             + ', '.join(map(repr, allowed[key])))


def int8_names(weight_name: str) -> tuple[str, str]:
    """Return the names of the codes and scales of a weight in INT8."""
    return weight_name + '_int8', weight_name + '_scale'


def int4_names(weight_name: str) -> tuple[str, str]:
    """Return the names of the words and scales of a weight in INT4."""
    match = _decoder_linear(weight_name)
    module = f'layers.{match[1]}.{_LINEARS[match[2]]}' if match else weight_name[:-len('.weight')]
    return module + '.B', module + '.s'


def stored_weight(name: str) -> tuple[str, str] | None:
    """
    Return checkpoint name and way of storage, 'dense', 'int8' or 'int4', of a tensor's weight.

    None for scales: they belong to the weight that the other name stands for.
    """
    if name.endswith('.weight_int8'):
        return name.removesuffix('_int8'), 'int8'
    if name.endswith('.B'):
        module = name.removesuffix('.B')
        match = re.fullmatch(r'layers\.(\d+)\.(.+)', module)
        if match and match[2] in CHECKPOINT_LINEARS:
            module = f'layers.{match[1]}.{CHECKPOINT_LINEARS[match[2]]}'
        return module + '.weight', 'int4'
    if name.endswith(('.weight_scale', '.s')):
        return None
    return name, 'dense'


def is_half_split(weight_name: str) -> bool:
    """
    Return whether INT4 has the rows of this weight in half-split order.

    Mistral's rows of q and k stand in pairs that RoPE rotates, (2j, 2j + 1) of a head; the
    original packs them for kernels that turn (j, j + head_dim / 2).
    """
    match = _decoder_linear(weight_name)
    return match is not None and match[2] in ('attention.wq', 'attention.wk')


def _decoder_linear(weight_name: str) -> re.Match[str] | None:
    match = re.fullmatch(r'layers\.(\d+)\.(.+)\.weight', weight_name)
    return match if match and match[2] in _LINEARS else None


def _encoder_linear(weight_name: str) -> bool:
    match = re.fullmatch(re.escape(_ENCODER) + r'\d+\.(.+)\.weight', weight_name)
    return match is not None and match[1] in _LINEARS
