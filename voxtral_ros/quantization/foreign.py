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

"""Files and tensors of other formats that people have, and what to take in their place."""

from __future__ import annotations

from collections.abc import Mapping
import re

FILES = ('params.json', 'tekken.json', 'consolidated.safetensors')
A_MODEL = 'a model is a folder with params.json, tekken.json and consolidated.safetensors'
INSTEAD = ('take params.json, tekken.json and consolidated.safetensors of '
           'mistralai/Voxtral-Mini-4B-Realtime-2602, in BF16; `voxtral quantize` makes them '
           'smaller')

# First bytes -> what a file with them is, and what to do.
_STARTS = (
    (b'version https://git-lfs', 'a Git LFS pointer, which only stands for the file',
     'run `git lfs pull` where it was cloned, or download the file itself'),
    (b'GGUF', 'a GGUF file, as llama.cpp has', INSTEAD),
    (b'PK', 'a pickle, which is never loaded', 'convert it to safetensors'),
    (b'\x80', 'a pickle, which is never loaded', 'convert it to safetensors'),
    (b'\x1f\x8b', 'a compressed archive', 'unpack it'),
    (b'(\xb5/\xfd', 'a compressed archive', 'unpack it'),
    (b'<', 'a saved web page', 'download the file itself: that was a page about it, or a login'),
    (b'{', 'a text in JSON', 'download the weights themselves'),
)
# What names of tensors end in -> the quantization that has such.
_FOREIGN_ENDS = {
    'NVFP4': ('.weight_global_scale', '.input_global_scale', '.weight_scale_2'),
    'compressed-tensors': ('.weight_packed', '.weight_shape', '.weight_zero_point'),
    'AWQ or GPTQ': ('.qweight', '.qzeros', '.g_idx'),
    'bitsandbytes': ('.absmax', '.quant_map', '.weight_format', '.SCB'),
    'FP8': ('.weight_scale_inv', '.qscale_weight', '.qscale_act', '.input_scale'),
}
# Types of safetensors that no network here has -> the quantization that has such.
FOREIGN_TYPES = {
    'F8_E4M3': 'FP8', 'F8_E5M2': 'FP8', 'F8_E4M3FNUZ': 'FP8', 'F8_E5M2FNUZ': 'FP8',
    'F8_E8M0': 'MXFP4 or MXFP8', 'F4': 'FP4', 'F6_E2M3': 'FP6', 'F6_E3M2': 'FP6',
    'U16': 'integers', 'U32': 'integers', 'U64': 'integers', 'C64': 'complex numbers',
}
_HUGGING_FACE = re.compile(
    r'(language_model|model|audio_tower|multi_modal_projector|lm_head|thinker)\.')


def quantized_as(method: str) -> str:
    """Return what to say of weights that are quantized in a way that is not ours."""
    return f'its weights are quantized as {method}, which is not supported: {INSTEAD}'


def content_of(start: bytes) -> tuple[str, str] | None:
    """Return what a file with these first bytes is, and what to do; None if that is not known."""
    text = start.lstrip()
    for magic, what, then in _STARTS:
        if (text if magic in (b'<', b'{') else start).startswith(magic):
            return what, then
    return None


def wrong_content(start: bytes) -> str:
    """Return ' but ...' of a file whose content is not what its name says, '' if unknown."""
    line = start[:60].split(b'\n')[0].strip()
    if found := content_of(start):
        return ' but {}: {}'.format(*found)
    if start and not any(start):
        return ' but zeros: download the file again, and check the disk'
    if line and line.isascii() and line.decode().isprintable():
        return f' but the text "{line.decode()}": download the file again'
    return ''


def foreign_tensors(dtypes: Mapping[str, str]) -> str | None:
    """
    Return what is wrong with a file that has such tensors, None if they may be ours.

    :param dtypes: name -> type as safetensors call it
    """
    for method, ends in _FOREIGN_ENDS.items():
        if any(name.endswith(ends) for name in dtypes):
            return quantized_as(method)
    for name, dtype in dtypes.items():
        if dtype in FOREIGN_TYPES:
            return f'{name} is {dtype}: ' + quantized_as(FOREIGN_TYPES[dtype])
    if dtypes and all(map(_HUGGING_FACE.match, dtypes)):
        return (f'its tensors have the names of Hugging Face, as {next(iter(dtypes))}: if it is '
                'this model, call it model.safetensors and put its config.json beside it; if not, '
                + INSTEAD)
    return None
