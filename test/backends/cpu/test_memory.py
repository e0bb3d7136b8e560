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

"""The plan of a model's memory on a CPU is what the backend then holds."""

from itertools import chain

import pytest
from quantization import packable
import torch

from voxtral_ros.backends.cpu.backend import CpuBackend
from voxtral_ros.backends.cpu.memory import weight_bytes
from voxtral_ros.model.checkpoint import open_weights
from voxtral_ros.resources import demo_model


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Return the folders of models, by what their weights are."""
    root = tmp_path_factory.mktemp('models')
    return {'packed': demo_model(), **{
        str(dtype): packable.write(root / str(dtype), packable.tensors(dtype))
        for dtype in (torch.bfloat16, torch.float16, torch.float32)}}


@pytest.mark.parametrize('kind', ['packed', 'torch.bfloat16', 'torch.float16', 'torch.float32'])
def test_what_is_planned_is_held(folders, kind):
    with open_weights(folders[kind]) as (config, weights):
        planned = weight_bytes(weights)
        backend = CpuBackend(config, weights, 11, threads=1)
    state = backend.state
    of_streams = {id(array) for owner in (state, state.encoder, state.decoder)
                  for array in vars(owner).values()} | {id(array) for array in state.conv_state}
    held = [array for array in (*backend._arrays, *chain(*backend._delay_weights))
            if hasattr(array, 'nbytes') and id(array) not in of_streams]
    assert planned == pytest.approx(sum(array.nbytes for array in held), rel=0.001)
