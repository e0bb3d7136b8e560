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

"""Small random checkpoints whose weights have sizes that can be packed."""

from functools import cache

from support import checkpoints
import torch

from voxtral_ros.model.checkpoint import WEIGHTS
from voxtral_ros.quantization.checksums import write_side_file
from voxtral_ros.quantization.inspection import inspect
from voxtral_ros.quantization.quantizer import quantize

# The key heads make 64 outputs, the least that can be packed; no two sizes are equal by accident.
PARAMS = checkpoints.tiny_params(
    dim=128, hidden_dim=384, head_dim=32, n_heads=8, n_kv_heads=2, n_layers=2, vocab_size=1344,
    encoder={'dim': 128, 'hidden_dim': 256, 'head_dim': 32, 'n_heads': 8, 'n_kv_heads': 8,
             'n_layers': 1})
DECODER_LINEARS = tuple(
    f'layers.{i}.{name}.weight' for i in range(PARAMS['n_layers'])
    for name in ('attention.wq', 'attention.wk', 'attention.wv', 'attention.wo',
                 'feed_forward.w1', 'feed_forward.w2', 'feed_forward.w3'))
ENCODER_LINEARS = tuple(
    checkpoints.ENCODER + 'transformer.' + name.replace('layers.1', 'layers.0')
    for name in DECODER_LINEARS if name.startswith('layers.0'))
HEAD = checkpoints.EMBEDDING + 'tok_embeddings.weight'


@cache
def tensors(dtype=torch.bfloat16, seed=0):
    """Return native tensors; do not change them."""
    return {name: tensor.to(dtype)
            for name, tensor in checkpoints.random_tensors(PARAMS, seed).items()}


def write(folder, weights=None, params=PARAMS):
    """Write a checkpoint of native tensors, by default of `tensors()`, and return its folder."""
    vocabulary = checkpoints.tiny_vocabulary() + [b'word %d' % number for number in range(60)]
    tekken = checkpoints.tekken_dict(vocabulary, n_text=PARAMS['vocab_size'] - 1000)
    return checkpoints.write_checkpoint(folder, params, weights or tensors(), tekken)


def write_damaged(folder):
    """Write a checkpoint of which a bit has changed since its checksums were written."""
    path = write(folder) / WEIGHTS
    write_side_file(path, inspect(path).checksums)
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    return folder


def quantized_folders(root, recipes):
    """Return the folder of every recipe's result, and of the source as 'dense'."""
    dense = write(root / 'dense')
    for name, recipe in recipes.items():
        quantize(dense, root / name, recipe)
    return {name: root / name for name in ('dense', *recipes)}


def logits(network):
    """Return the logits of a fixed input, float32 [1, 10, vocab]."""
    generator = torch.Generator().manual_seed(7)
    mel = torch.randn(1, 128, 80, generator=generator)
    tokens = torch.randint(0, PARAMS['vocab_size'], (1, 10), generator=generator)
    with torch.inference_mode():
        return network(mel, tokens, torch.tensor([6.0])).float()
