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
Random checkpoints in the layout of Voxtral Mini 4B Realtime, for benchmarks and tests.

A checkpoint is a folder with `params.json`, `tekken.json` and `consolidated.safetensors`. Names,
shapes and key order are those of the real files, so the same functions also describe the real
model: `tensor_shapes(real_params())` has 711 entries and 4,429,679,360 numbers.
"""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
import copy
from itertools import islice, product
import json
import math
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
import torch

from voxtral_ros.model.layout import WEIGHTS
from voxtral_ros.quantization import marlin
from voxtral_ros.quantization.format import int4_names, int8_names, Recipe
from voxtral_ros.quantization.output import write_small_files
from voxtral_ros.quantization.tensorfile import DTYPES, Spec, TensorWriter
from voxtral_ros.quantization.tensors import as_array
from voxtral_ros.resources import share_folder

N_SPECIAL, N_TINY_TEXT = 1000, 305  # tokens
BOS, EOS, PAD, STREAMING_PAD, STREAMING_WORD = 1, 2, 11, 32, 33
LARGE_BLOCK = 16 << 20  # numbers that are drawn at once

EMBEDDING = 'mm_streams_embeddings.embedding_module.'
ENCODER = EMBEDDING + 'whisper_encoder.'
ADA_DIM = 32

# Short names for the deep parts of params.json, usable as first key of an override.
SECTIONS = {
    'encoder': 'multimodal.whisper_model_args.encoder_args',
    'audio': 'multimodal.whisper_model_args.encoder_args.audio_encoding_args',
    'downsample': 'multimodal.whisper_model_args.downsample_args',
}

TEKKEN_PATTERN = (
    r'[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+'
    r'|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*'
    r'|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+')
# Names that mistral-common looks up for version v7; the others get its filler name.
SPECIAL_NAMES = dict(enumerate((
    '<unk>', '<s>', '</s>', '[INST]', '[/INST]', '[AVAILABLE_TOOLS]', '[/AVAILABLE_TOOLS]',
    '[TOOL_RESULTS]', '[/TOOL_RESULTS]', '[TOOL_CALLS]', '[IMG]', '<pad>', '[IMG_BREAK]',
    '[IMG_END]', '[PREFIX]', '[MIDDLE]', '[SUFFIX]', '[SYSTEM_PROMPT]', '[/SYSTEM_PROMPT]',
    '[TOOL_CONTENT]')))
SPECIAL_NAMES.update({24: '[AUDIO]', 25: '[BEGIN_AUDIO]',
                      32: '[STREAMING_PAD]', 33: '[STREAMING_WORD]'})


def real_params() -> dict[str, Any]:
    """Return the params.json of Voxtral-Mini-4B-Realtime-2602, in the file's key order."""
    path = share_folder() / 'config' / 'voxtral-mini-4b-realtime.json'
    return json.loads(path.read_text(encoding='utf-8'))


def tiny_params(**overrides: Any) -> dict[str, Any]:
    """
    Return a complete params.json with tiny sizes and attention windows that wrap within 2 s.

    In both stacks n_heads * head_dim != dim; the decoder has 4 query heads per key head. Override
    with nested dicts or dotted keys, where `encoder`, `audio` and `downsample` abbreviate the deep
    sections: `tiny_params(n_layers=1, encoder={'dim': 32}, **{'encoder.sliding_window': 750})`.
    Raises KeyError for a key that the real file does not have.
    """
    params = real_params()
    _update(params, {
        'dim': 64, 'n_layers': 3, 'head_dim': 16, 'hidden_dim': 96, 'n_heads': 8,
        'n_kv_heads': 2, 'vocab_size': N_SPECIAL + N_TINY_TEXT, 'sliding_window': 24,
        'encoder': {
            'dim': 48, 'n_layers': 2, 'head_dim': 16, 'hidden_dim': 80, 'n_heads': 4,
            'n_kv_heads': 4, 'vocab_size': N_SPECIAL + N_TINY_TEXT, 'sliding_window': 16,
        },
    })
    _update(params, overrides)
    return params


def section(params: dict[str, Any], name: str) -> Any:
    """Return what params hold under a dotted name, e.g. 'encoder' or 'audio.hop_length'."""
    node: Any = params
    for key in _path(name):
        node = node[key]
    return node


def _path(name: str) -> list[str]:
    """Split a dotted name into keys of params.json, short section names written out."""
    head, dot, rest = name.partition('.')
    return (SECTIONS.get(head, head) + dot + rest).split('.')


def _update(params: dict[str, Any], changes: dict[str, Any]) -> None:
    """Apply nested or dotted changes in place."""
    for name, value in changes.items():
        *parents, key = _path(name)
        node = section(params, '.'.join(parents)) if parents else params
        if key not in node:
            raise KeyError(f'params.json has no key {name!r}')
        if isinstance(value, dict):
            _update(node[key], value)
        else:
            node[key] = value


def tensor_shapes(params: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of every tensor in consolidated.safetensors."""
    dim, encoder = params['dim'], section(params, 'encoder')
    factor = section(params, 'downsample')['downsample_factor']
    mels = section(params, 'audio')['num_mel_bins']
    conv, projection = ENCODER + 'conv_layers.', EMBEDDING + 'audio_language_projection.'
    shapes: dict[str, tuple[int, ...]] = {
        EMBEDDING + 'tok_embeddings.weight': (params['vocab_size'], dim),
        projection + '0.weight': (dim, encoder['dim'] * factor),
        projection + '2.weight': (dim, dim),
        conv + '0.conv.weight': (encoder['dim'], mels, 3),
        conv + '0.conv.bias': (encoder['dim'],),
        conv + '1.conv.weight': (encoder['dim'], encoder['dim'], 3),
        conv + '1.conv.bias': (encoder['dim'],),
    }
    for i in range(encoder['n_layers']):
        prefix = f'{ENCODER}transformer.layers.{i}.'
        shapes.update(_block_shapes(prefix, encoder))
        for name in ('attention.wq', 'attention.wv', 'attention.wo', 'feed_forward.w2'):
            shapes[prefix + name + '.bias'] = shapes[prefix + name + '.weight'][:1]
    shapes[ENCODER + 'transformer.norm.weight'] = (encoder['dim'],)
    ada_dim = params['ada_rms_norm_t_cond_dim']
    for i in range(params['n_layers']):
        prefix = f'layers.{i}.'
        shapes.update(_block_shapes(prefix, params))
        shapes[prefix + 'ada_rms_norm_t_cond.0.weight'] = (ada_dim, dim)
        shapes[prefix + 'ada_rms_norm_t_cond.2.weight'] = (dim, ada_dim)
    shapes['norm.weight'] = (dim,)
    return shapes


def _block_shapes(prefix: str, args: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the weights that encoder and decoder blocks have in common."""
    dim, hidden = args['dim'], args['hidden_dim']
    q_dim, kv_dim = args['n_heads'] * args['head_dim'], args['n_kv_heads'] * args['head_dim']
    return {
        prefix + 'attention_norm.weight': (dim,),
        prefix + 'attention.wq.weight': (q_dim, dim),
        prefix + 'attention.wk.weight': (kv_dim, dim),
        prefix + 'attention.wv.weight': (kv_dim, dim),
        prefix + 'attention.wo.weight': (dim, q_dim),
        prefix + 'ffn_norm.weight': (dim,),
        prefix + 'feed_forward.w1.weight': (hidden, dim),
        prefix + 'feed_forward.w2.weight': (dim, hidden),
        prefix + 'feed_forward.w3.weight': (hidden, dim),
    }


def random_tensors(params: dict[str, Any], seed: int,
                   dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """
    Return random weights under their checkpoint names, the same for the same params and seed.

    Every tensor matters: biases are not zero, norms are not one. Logits are a few units wide and
    the fed-back token shapes the next one, so that greedy streams wander. Special tokens other
    than EOS, STREAMING_PAD and STREAMING_WORD have small embeddings and almost never win, as in
    the real model; those three win about every fifth step. Seeds 0, 1 and 3 of `tiny_params()`
    give lively streams, seed 4 sticks to one id.
    """
    generator = torch.Generator().manual_seed(seed)
    return {name: _random(name, shape, 0, shape[0], generator).to(dtype)
            for name, shape in tensor_shapes(params).items()}


def _random(name: str, shape: tuple[int, ...], start: int, stop: int,
            generator: torch.Generator) -> torch.Tensor:
    """Return random rows `start` to `stop` of a tensor, float32, on the generator's device."""
    noise = torch.randn((stop - start, *shape[1:]), generator=generator, device=generator.device)
    if name.endswith('tok_embeddings.weight'):
        return noise * _embedding_scale(shape)[start:stop].to(noise.device)
    if name.endswith('norm.weight'):
        return 1 + 0.2 * noise
    if name.endswith('.bias'):
        return 0.3 * noise
    return noise * _gain(name) / math.sqrt(math.prod(shape[1:]))  # by the fan in


def _gain(name: str) -> float:
    """
    Return the scale of a weight relative to 1 / sqrt(fan in).

    Found by trying: larger ones make greedy streams livelier but also amplify rounding.
    """
    in_decoder, module = name.startswith('layers.'), name.split('.')[-2]
    if module in ('wq', 'wk'):
        return 1.5 if in_decoder else 2.0  # attention that is not flat
    if 'audio_language_projection' in name:
        return 0.5  # audio that does not drown the fed-back tokens
    if in_decoder and module == 'w2':
        return 3.0
    return 1.5 if module == 'conv' else 1.0


def _embedding_scale(shape: tuple[int, ...]) -> torch.Tensor:
    """Return the scale of each embedding row, [vocab, 1]; it is also the scale of its logit."""
    scale = torch.full((shape[0], 1), 2.0)
    scale[:N_SPECIAL] = 0.5
    # In a large vocabulary, less: fed back, a pad that was strong would be followed by pads only.
    scale[[EOS, STREAMING_PAD, STREAMING_WORD]] = 4.0 if shape[0] < 10_000 else 2.5
    return scale / math.sqrt(shape[1])


def tekken_dict(vocab: list[bytes], n_special: int = N_SPECIAL, n_text: int | None = None,
                delay_ms: int = 480, left_pad_tokens: int = 32) -> dict[str, Any]:
    """
    Return a tekken.json with the byte strings `vocab` as text tokens n_special + rank.

    Only the first `n_text` entries are in use (default: all); the real file, too, lists more than
    its `default_vocab_size` admits.
    """
    return {
        'config': {
            'pattern': TEKKEN_PATTERN, 'num_vocab_tokens': len(vocab),
            'default_vocab_size': n_special + (len(vocab) if n_text is None else n_text),
            'default_num_special_tokens': n_special, 'version': 'v7',
        },
        'vocab': [
            {'rank': rank, 'token_bytes': base64.b64encode(text).decode(),
             'token_str': _decode_or_none(text)}
            for rank, text in enumerate(vocab)],
        'special_tokens': [
            {'rank': rank, 'is_control': True,
             'token_str': SPECIAL_NAMES.get(rank, f'<SPECIAL_{rank}>')}
            for rank in range(n_special)],
        'audio': {
            'sampling_rate': 16000, 'frame_rate': 12.5, 'transcription_format': 'streaming',
            'transcription_delay_ms': delay_ms, 'streaming_look_ahead_ms': 2.5,
            'streaming_look_back_ms': 52.5, 'streaming_n_left_pad_tokens': left_pad_tokens,
            'audio_encoding_config': {'num_mel_bins': 128, 'hop_length': 160, 'window_size': 400},
        },
    }


def _decode_or_none(text: bytes) -> str | None:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return None


def write_checkpoint(folder: str | Path, params: dict[str, Any],
                     tensors: dict[str, torch.Tensor], tekken: dict[str, Any]) -> Path:
    """Write the three files of a checkpoint, creating the folder if needed, and return it."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'params.json').write_text(json.dumps(params, indent=2))
    (folder / 'tekken.json').write_text(json.dumps(tekken))
    save_file(copy.copy(tensors), str(folder / 'consolidated.safetensors'))
    return folder


def write_large_checkpoint(folder: str | Path, params: dict[str, Any],
                           recipe: Recipe | None = None, seed: int = 0,
                           device: torch.device | str = 'cpu') -> Path:
    """
    Write a random checkpoint of any size, piece by piece, and return its folder.

    Its tokenizer has a word of its own for every token of text, see `random_words`.

    :param recipe: in which form; codes are drawn as they are. None: in BF16
    :param device: where the numbers are drawn; other devices draw others
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = [bytes([value]) for value in range(256)]
    vocabulary += islice(random_words(), params['vocab_size'] - N_SPECIAL - len(vocabulary))
    if recipe:
        params = {**params, 'quantization_config': recipe.quantization_config()}
    write_small_files(folder, params, json.dumps(tekken_dict(vocabulary)).encode())
    generator = torch.Generator(device).manual_seed(seed)
    shapes = tensor_shapes(params)
    bits = {name: recipe.bits(name) if recipe else 16 for name in shapes}
    specs = {part: spec for name, shape in shapes.items()
             for part, spec in _specs(name, shape, bits[name]).items()}
    with TensorWriter(folder / WEIGHTS, specs, with_checksums=recipe is not None) as writer:
        for name, shape in shapes.items():
            if bits[name] < 16:
                _write_codes(writer, name, shape, bits[name], generator,
                             _depth_gain(name, params))
                continue
            rows = max(1, LARGE_BLOCK // math.prod(shape[1:]))
            for start in range(0, shape[0], rows):
                tensor = _random(name, shape, start, min(start + rows, shape[0]), generator)
                tensor *= _depth_gain(name, params)
                writer.write(name, as_array(tensor.bfloat16().cpu()), start)
        if recipe:
            writer.sync()  # the checksums
    return folder


def _specs(name: str, shape: tuple[int, ...], bits: int) -> dict[str, Spec]:
    """Return the tensors that a weight of so many bits is stored as."""
    if bits == 16:
        return {name: Spec('BF16', shape)}
    n, k = shape
    groups = k // marlin.GROUP
    names, specs = (int8_names(name), (Spec('I8', (n, k)), Spec('F16', (n, groups)))) \
        if bits == 8 else (int4_names(name), (Spec('I32', (k // marlin.TILE_K, 2 * n)),
                                              Spec('F16', (groups, n))))
    return dict(zip(names, specs, strict=True))


def _depth_gain(name: str, params: dict[str, Any]) -> float:
    """
    Return what the branches of a deep network are scaled by.

    Found by trying, with all layers of the real model: branches that add up to more end in the
    same token whatever is said, and those that add up to less in the one before.
    """
    module = name.split('.')[-2]
    if module not in ('wo', 'w2'):
        return 1.0
    n_layers = params['n_layers'] if name.startswith('layers.') \
        else section(params, 'encoder')['n_layers']
    return 1 / math.sqrt(n_layers)


def _write_codes(writer: TensorWriter, name: str, shape: tuple[int, ...], bits: int,
                 generator: torch.Generator, gain: float) -> None:
    """Write random codes of 4 or 8 bits, and scales that make the weight as wide as others."""
    (codes, spec), (scales, _) = _specs(name, shape, bits).items()
    rows = max(1, LARGE_BLOCK // math.prod(spec.shape[1:]))
    for start in range(0, spec.shape[0], rows):
        count = min(rows, spec.shape[0] - start), spec.shape[1] * spec.itemsize
        drawn = torch.randint(256, count, dtype=torch.uint8, generator=generator,
                              device=generator.device)
        # 0 instead of the lowest code: a mean that is not 0 would drown all else, and in 8 bits no
        # rounding makes it.
        if bits == 4:
            low, high = (torch.where(part == 0, marlin.ZERO, part)
                         for part in (drawn & 15, drawn >> 4))
            drawn = low | high << 4
        else:
            drawn[drawn == 128] = 0
        writer.write(codes, drawn.cpu().numpy().view(DTYPES[spec.dtype]), start)
    # Uniform codes have a variance of 4 ** bits / 12.
    width = _embedding_scale(shape) if name.endswith('tok_embeddings.weight') \
        else torch.full((shape[0], 1), _gain(name) / math.sqrt(shape[1]))
    scale = (width * gain * 12 ** 0.5 / 2 ** bits).half()
    scale = scale.expand(-1, shape[1] // marlin.GROUP).numpy()
    writer.write(scales, marlin.permute_scales(scale.T) if bits == 4 else scale)


def random_words() -> Iterator[bytes]:
    """Yield 347970 words, with the space before each: ' ba', ..., ' zuzuzu'."""
    syllables = [''.join(pair) for pair in product('bdfgklmnprstvz', 'aeiou')]
    for count in (1, 2, 3):
        for word in product(syllables, repeat=count):
            yield (' ' + ''.join(word)).encode()


@contextmanager
def random_bfloat16(device: torch.device) -> Iterator[None]:
    """Let networks be made on a device in BF16, with the random weights of their modules."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(default)
