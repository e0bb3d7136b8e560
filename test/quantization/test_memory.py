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
Memory: neither quantizing, loading nor exporting ever holds a second copy, or the source.

The model has 600 MB, its largest tensor 67 MB.
"""

import os
import sys

import numpy as np
import pytest
from quantization.measured import measure
from support import checkpoints
import torch

from voxtral_ros.quantization.tensorfile import Spec, TensorWriter
from voxtral_ros.quantization.tensors import as_array

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')

PARAMS = checkpoints.tiny_params(
    dim=1024, hidden_dim=4096, head_dim=128, n_heads=16, n_kv_heads=4, n_layers=12,
    vocab_size=32768, encoder={'dim': 512, 'hidden_dim': 2048, 'head_dim': 32, 'n_heads': 16,
                               'n_kv_heads': 16, 'n_layers': 12})
SHAPES = checkpoints.tensor_shapes(PARAMS)
TOTAL = 2 * sum(torch.Size(shape).numel() for shape in SHAPES.values())  # bytes
# So that freed memory goes back at once, and what is measured is what is in use.
ENVIRONMENT = {**os.environ, 'MALLOC_MMAP_THRESHOLD_': '262144'}


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Return the folders of a native checkpoint and of what becomes of it."""
    folder = tmp_path_factory.mktemp('large')
    words = [b'word %d' % number for number in range(PARAMS['vocab_size'] - 1256)]
    tekken = checkpoints.tekken_dict([bytes([byte]) for byte in range(256)] + words)
    native = checkpoints.write_checkpoint(folder / 'native', PARAMS, {}, tekken)
    noise = as_array((0.02 * torch.randn(1 << 22)).bfloat16())
    specs = {name: Spec('BF16', shape) for name, shape in SHAPES.items()}
    with TensorWriter(native / 'consolidated.safetensors', specs) as writer:
        for name, shape in SHAPES.items():
            numbers = torch.Size(shape).numel()
            writer.write(name, np.resize(noise, numbers).reshape(shape))
    yield native, folder / 'small'
    for path in folder.glob('*/*.safetensors'):
        path.unlink()  # pytest keeps the folders of three runs


@pytest.mark.slow
def test_quantizing_loading_and_exporting(folders):
    native, small = folders
    assert TOTAL > 600e6
    assert measure('quantize', native, small, 'seed', 8, 4, environment=ENVIRONMENT)['peak'] < 80e6
    for folder, dtype in ((native, 'bfloat16'), (small, 'float32'), (small, 'bfloat16')):
        loaded = measure('load', folder, dtype, environment=ENVIRONMENT)
        assert loaded['result'] > 0.4 * TOTAL
        # 70 MB are code that torch imports when it builds the network.
        assert 0.9 * loaded['result'] < loaded['peak'] < loaded['result'] + 130e6
    for source, dtype in ((native, 'bfloat16'), (small, 'float32')):
        exported = measure('export', source, small.with_name(f'{source.name} {dtype}'), dtype,
                           environment=ENVIRONMENT)
        assert exported['result'] == TOTAL * (2 if dtype == 'float32' else 1)
        assert exported['peak'] < 80e6
