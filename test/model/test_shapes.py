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

"""Shapes that are known from sizes alone are those of the network."""

import pytest
from support import checkpoints
import torch

from voxtral_ros.model.config import ModelConfig
from voxtral_ros.model.network import VoxtralRealtime
from voxtral_ros.model.shapes import weight_shapes

CONFIGS = {
    'tiny': checkpoints.tiny_params(),
    'published': checkpoints.real_params(),
    'no biases': checkpoints.tiny_params(encoder={'use_biases': False}),
    'one layer': checkpoints.tiny_params(n_layers=1, encoder={'n_layers': 1}),
    'all sizes differ': checkpoints.tiny_params(
        dim=50, hidden_dim=37, head_dim=6, n_heads=6, n_kv_heads=3, vocab_size=1101, n_layers=2,
        ada_rms_norm_t_cond_dim=5,
        encoder={'dim': 23, 'hidden_dim': 29, 'head_dim': 10, 'n_heads': 4, 'n_kv_heads': 2,
                 'n_layers': 3},
        audio={'num_mel_bins': 80}),
    'longer tokens': checkpoints.tiny_params(
        audio={'frame_rate': 6.25}, downsample={'downsample_factor': 8}),
}


@pytest.mark.parametrize('name', CONFIGS)
def test_they_are_the_parameters_of_the_network(name):
    config = ModelConfig.from_params(CONFIGS[name])
    with torch.device('meta'):
        network = VoxtralRealtime(config)
    expected = [(name, tuple(parameter.shape)) for name, parameter in network.named_parameters()]
    assert list(weight_shapes(config).items()) == expected
