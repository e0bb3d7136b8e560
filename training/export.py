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

"""A trained network as a checkpoint folder in Mistral's native layout."""

from __future__ import annotations

import json
from pathlib import Path
import shutil
from typing import Any

from safetensors.torch import save_file
import torch

from voxtral_ros.model.loading import checkpoint_parameters
from voxtral_ros.model.network import VoxtralRealtime
from voxtral_ros.quantization.weights import WEIGHTS


def save(network: VoxtralRealtime, params: dict[str, Any], tekken: Path, folder: Path) -> None:
    """Write params.json, tekken.json and the weights in BF16."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'params.json').write_text(json.dumps(params, indent=2), encoding='utf-8')
    shutil.copyfile(tekken, folder / 'tekken.json')
    tensors = {name: parameter.detach().to('cpu', torch.bfloat16).contiguous()
               for name, parameter in checkpoint_parameters(network)}
    # Written to another name first: readers find the old weights until the new ones are complete.
    unfinished = folder / f'{WEIGHTS}.unfinished'
    save_file(tensors, str(unfinished))
    unfinished.replace(folder / WEIGHTS)
