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

"""What the weights of a model will take of the memory of a CPU, known before one is read."""

from __future__ import annotations

import math

from voxtral_ros.quantization.weights import WeightFile

_SCALE = 4 / 128  # bytes per weight: a scale of 32 bits per group
_PACKED = {'int8': 1 + _SCALE, 'int4': 0.5 + _SCALE}
_ONCE = '.ada_rms_norm_t_cond.'  # what is multiplied by when a stream is opened


def weight_bytes(weights: WeightFile) -> int:
    """Add up what the compiled backend will hold of the weights of a file."""
    total = 0.0
    for name, stored in weights.stored.items():
        n = math.prod(stored.shape)
        if stored.kind == 'dense':
            # Only matrices in bfloat16 that a pass multiplies by stay as they are.
            stays = len(stored.shape) > 1 and weights.dtype(name) == 'BF16' \
                and _ONCE not in name
            total += n * (2 if stays else 4)
        else:
            total += n * _PACKED[stored.kind]
    return round(total)
