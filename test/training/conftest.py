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

"""The recipe is not installed: it is found beside the tests."""

import json
from pathlib import Path
import sys

import pytest

from voxtral_ros.model.config import ModelConfig

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))


@pytest.fixture
def config():
    """Return the sizes of the shipped model, made tiny."""
    params = json.loads((ROOT / 'training' / 'params.json').read_text(encoding='utf-8'))
    params |= {'dim': 128, 'n_layers': 1, 'hidden_dim': 256, 'n_heads': 2, 'n_kv_heads': 1,
               'vocab_size': 1300}
    params['multimodal']['whisper_model_args']['encoder_args'] |= {
        'dim': 128, 'n_layers': 1, 'hidden_dim': 256, 'n_heads': 2, 'n_kv_heads': 2,
        'vocab_size': 1300}
    return ModelConfig.from_params(params)
