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

"""The plan of a model's memory against what its parts really take."""

import logging

import pytest
from support import checkpoints
import torch

from voxtral_ros.backends.base import kv_cache_tokens
from voxtral_ros.backends.cuda.memory import check_memory, MemoryPlan, plan_memory
from voxtral_ros.model.checkpoint import open_weights
from voxtral_ros.model.loading import load_network
from voxtral_ros.resources import demo_model

GB = 10 ** 9


def plan(folder, *sizes, **options):
    with open_weights(folder) as (config, weights):
        return plan_memory(config, weights, *sizes, **options)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('int8_cache', [False, True])
def test_what_is_planned_is_what_is_taken(tmp_path, dtype, int8_cache):
    params = checkpoints.tiny_params()
    tensors = checkpoints.random_tensors(params, 0)
    checkpoints.write_checkpoint(tmp_path, params, tensors, checkpoints.tiny_tekken())
    planned = plan(tmp_path, dtype, 3, 4, packed=False, int8_cache=int8_cache)
    network = load_network(tmp_path, 'cpu', dtype)
    assert planned.weights == sum(parameter.nbytes for parameter in network.parameters())
    assert planned.caches == network.new_state(3, kv_cache_tokens(4), int8_cache).nbytes


def test_packed_weights_take_what_they_take_in_the_file():
    size = (demo_model() / 'consolidated.safetensors').stat().st_size
    packed = plan(demo_model(), torch.bfloat16, 1, 8, packed=True).weights
    whole = plan(demo_model(), torch.bfloat16, 1, 8, packed=False).weights
    assert 0.9 * size < packed < 1.3 * size < whole


@pytest.mark.parametrize(('encoder_bits', 'expected'), [(8, 3.63e9 - 0.805e9), (4, 2.338e9)])
def test_the_real_model_needs_what_was_measured(encoder_bits, expected):
    """In 8 bits as measured in bench/results/step.md, less the table of then: 0.81 GB."""
    from voxtral_ros.backends.cuda import memory
    from voxtral_ros.model.config import ModelConfig
    from voxtral_ros.quantization.format import Recipe
    from voxtral_ros.quantization.weights import Stored
    config = ModelConfig.from_params(checkpoints.real_params())
    recipe = Recipe('mse', encoder_bits, head_bits=4)
    kinds = {16: 'dense', 8: 'int8', 4: 'int4'}
    shapes = checkpoints.tensor_shapes(checkpoints.real_params())
    weights = sum(
        memory._weight(native, Stored(kinds[recipe.bits(native)], (), tuple(shape)), 2, True)
        for native, shape in shapes.items())
    assert weights == pytest.approx(expected, rel=0.01)
    assert config.kv_cache_bytes(6, 16) == pytest.approx(1.10e9, rel=0.03)
    assert config.kv_cache_bytes(32, 8) < 0.6e9


def test_a_device_that_is_too_small_is_refused_with_the_numbers():
    plan = MemoryPlan(4 * GB, 3 * GB, 1 * GB)
    with pytest.raises(ValueError, match=r'8\.00 GB.*7\.60 GB.*--encoder-bits 8'):
        check_memory(plan, 6 * GB, int(7.6 * GB))


def test_too_little_free_memory_is_a_warning(caplog):
    plan = MemoryPlan(4 * GB, 1 * GB, 1 * GB)
    with caplog.at_level(logging.INFO):
        check_memory(plan, 5 * GB, 8 * GB)
        assert 'only 5.00 GB are free' in caplog.text
        caplog.clear()
        check_memory(plan, 7 * GB, 8 * GB)
    assert [record.levelname for record in caplog.records] == ['INFO']
