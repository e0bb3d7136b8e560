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

"""What is said of a model: its files, its memory and its speed, here and on a board."""

from dataclasses import replace
import json
import shutil

import pytest
from quantization import packable
from support.machine import fake_machine, gpu_probe, orin

from voxtral_ros.backends.benchmark import PassBytes, TOKEN_S
from voxtral_ros.doctor.machine import Probe
from voxtral_ros.doctor.model import (
    boards_of, check_files, check_memory, check_speed, describe, open_model)
from voxtral_ros.model.checkpoint import WEIGHTS
from voxtral_ros.model.config import ModelConfig
from voxtral_ros.quantization.checksums import write_side_file
from voxtral_ros.quantization.format import Recipe
from voxtral_ros.quantization.inspection import inspect
from voxtral_ros.resources import demo_model, share_folder

NO_GPU = Probe({'gpus': []}, '')
GB = 10 ** 9


@pytest.fixture(scope='module')
def demo():
    return open_model(demo_model(), 0)


def meminfo(available_gb, total_gb):
    return {'proc/meminfo': f'MemTotal: {total_gb * 1e9 / 1024:.0f} kB\n'
                            f'MemAvailable: {available_gb * 1e9 / 1024:.0f} kB\n'}


def test_the_demo_model(demo):
    found = describe(demo)
    assert found.state == 'ok'
    assert f'{demo_model()}: 0.03 GB' in found.text
    assert 'in INT4' in found.text and 'in INT8' in found.text
    assert f'window {demo.config.decoder.sliding_window}' in found.text


def test_the_window_that_is_asked_for():
    assert open_model(demo_model(), 64).config.decoder.sliding_window == 64
    with pytest.raises(ValueError, match='window'):
        open_model(demo_model(), 10 ** 6)


def test_whole_files(demo):
    n_bytes = []
    assert check_files(demo, n_bytes.append).state == 'ok'
    assert sum(n_bytes) == pytest.approx((demo_model() / WEIGHTS).stat().st_size, rel=0.01)


def test_files_without_checksums(tmp_path):
    folder = packable.write(tmp_path / 'model')
    found = check_files(open_model(folder, 0), lambda n: None)
    assert (found.state, f'voxtral verify --write {folder}' in found.advice) == ('look', True)


def test_damaged_files(tmp_path):
    folder = packable.write_damaged(tmp_path / 'model')
    found = check_files(open_model(folder, 0), lambda n: None)
    assert found.state == 'wrong'
    assert WEIGHTS in found.text and 'is damaged' in found.text


@pytest.mark.parametrize(('available', 'total', 'state'), [
    (4, 8, 'ok'), (0.05, 8, 'wrong'), (0.05, 0.1, 'wrong')])
def test_memory_of_a_cpu(tmp_path, demo, available, total, state):
    found = check_memory(fake_machine(tmp_path, meminfo(available, total)), demo, NO_GPU)
    assert found.state == state
    assert 'GB on the CPU: weights 0.04' in found.text
    assert f'{available:.2f} of {total:.2f} GB are free' in found.text
    assert bool(found.advice) == (state != 'ok')


def test_memory_that_cannot_be_read(tmp_path, demo):
    assert check_memory(fake_machine(tmp_path), demo, NO_GPU).state == 'look'


PLAN = {'plan': '6.68 GB: weights 4.57, caches 1.11, CUDA, about 1.00', 'plan_bytes': 6680000000,
        'free': 3 * GB, 'total': 7.6 * GB}


@pytest.mark.parametrize(('available', 'state', 'advice'), [
    (7, 'ok', ''), (5, 'wrong', 'the desktop first')])
def test_memory_of_a_board_is_that_of_its_gpu(tmp_path, demo, available, state, advice):
    """CUDA itself counts what the page cache has as taken."""
    machine = orin(tmp_path, files=meminfo(available, 7.6))
    found = check_memory(machine, demo, gpu_probe(**PLAN))
    assert (found.state, advice in found.advice) == (state, True)
    assert f'{PLAN["plan"]}; {available:.2f} of 7.60 GB are free' in found.text


@pytest.mark.parametrize(('free', 'total', 'state'), [
    (20, 24, 'ok'), (3, 24, 'wrong'), (3, 4, 'wrong')])
def test_memory_of_a_gpu_of_its_own(tmp_path, demo, free, total, state):
    gpus = [{'name': 'NVIDIA', 'architecture': 90, 'integrated': False}]
    found = check_memory(
        fake_machine(tmp_path, meminfo(1, 2)), demo,
        gpu_probe(gpus=gpus, **{**PLAN, 'free': free * GB, 'total': total * GB}))
    assert found.state == state
    assert f'{free:.2f} of {total:.2f} GB are free' in found.text


def test_a_plan_that_was_not_made(tmp_path, demo):
    for changes in ({'plan_error': 'no such dtype'}, {'error': 'no such dtype'}):
        found = check_memory(orin(tmp_path), demo, gpu_probe(**changes))
        assert (found.state, 'no such dtype' in found.text) == ('look', True)


def test_a_gpu_that_cannot_compute_leaves_the_cpu(tmp_path, demo):
    found = check_memory(orin(tmp_path), demo, gpu_probe(computes=False))
    assert 'GB on the CPU' in found.text


@pytest.fixture(scope='module')
def full(demo):
    """Return a model with the sizes and the packing of the compact INT4 checkpoint."""
    path = share_folder() / 'config' / 'voxtral-mini-4b-realtime.json'
    config = ModelConfig.from_params(json.loads(path.read_text(encoding='utf-8')))
    recipe = Recipe(rounding='mse', encoder_bits=8, head_bits=4)
    return replace(demo, config=config, bits=recipe.bits)


SLOW = {'sys/kernel/nvpmodel_emc_cap/emc_iso_cap': '665600000'}
SLOW_GPU = {'sys/class/devfreq/17000000.gpu/max_freq': '306000000'}
UNKNOWN = [f'sys/kernel/debug/bpmp/debug/clk/emc/{name}' for name in ('rate', 'max_rate')]


@pytest.mark.parametrize(('files', 'without', 'state', 'said'), [
    ({}, (), 'ok', 'memory at 102 GB/s, 8 SMs at 1020 MHz'),
    (SLOW, (), 'wrong', 'memory at 21 GB/s'),
    (SLOW_GPU, (), 'wrong', '8 SMs at 306 MHz'),
    ({}, UNKNOWN, 'look', 'memory at 68 GB/s, 8 SMs at 1020 MHz; or '),
    ({'proc/device-tree/model': 'NVIDIA Jetson AGX Orin'}, UNKNOWN, 'ok', 'memory at 205 GB/s')])
def test_speed_of_a_board(tmp_path, full, files, without, state, said):
    found = check_speed(orin(tmp_path, files=files, without=without), full, gpu_probe(packed=True))
    assert said in found.text
    assert found.state == state


def test_the_numbers_are_those_of_the_prediction(tmp_path, full):
    machine, counted = orin(tmp_path), full.pass_bytes()
    board, = boards_of(machine, gpu_probe().found['gpus'][0])
    young, late = (counted.predicted_s(board, 1, context) / TOKEN_S
                   for context in (500, full.config.decoder.sliding_window))
    assert young < late
    assert f'{young:.2f} ({late:.2f}) in chunks of 80 ms' \
        in check_speed(machine, full, gpu_probe(packed=True)).text


def test_what_a_pass_reads_is_counted_by_how_it_is_stored(demo):
    counted = demo.pass_bytes()
    assert isinstance(counted, PassBytes)
    dense = replace(demo, bits=lambda name: 16).pass_bytes()
    assert counted.weights.decoder < 0.5 * dense.weights.decoder
    assert counted.weights.encoder < 0.7 * dense.weights.encoder


@pytest.mark.parametrize('packed', [True, False])
def test_speed_elsewhere_has_to_be_measured(tmp_path, demo, packed):
    machine = fake_machine(tmp_path) if packed else orin(tmp_path)
    found = check_speed(machine, demo, gpu_probe(packed=packed))
    assert (found.state, f'voxtral bench --model {demo_model()}' in found.text) == ('ok', True)


def test_a_folder_in_another_layout(tmp_path):
    """In a shard, as large ones have several, with its checksums beside it."""
    folder = tmp_path / 'model'
    shutil.copytree(demo_model(), folder)
    shard = (folder / WEIGHTS).rename(folder / 'consolidated-00001-of-00001.safetensors')
    write_side_file(shard, inspect(shard).checksums)
    assert describe(open_model(folder, 0)).state == 'ok'
    assert check_files(open_model(folder, 0), lambda n: None).state == 'ok'


@pytest.mark.parametrize(('kv_cache', 'total', 'bits'), [
    ('16', 8, 16), ('8', 8, 8), ('auto', 8, 16), ('auto', 0.04, 8)])
def test_the_caches_are_those_that_the_engine_will_choose(tmp_path, demo, kv_cache, total, bits):
    found = check_memory(fake_machine(tmp_path, meminfo(8, total)), demo, NO_GPU, kv_cache)
    needed = demo.cpu_bytes + demo.cache_bytes(bits) + 0.1e9
    assert demo.cache_bytes(8) < 0.6 * demo.cache_bytes(16)
    assert found.text.startswith(f'one stream needs {needed / 1e9:.2f} GB on the CPU')
    assert f'caches {demo.cache_bytes(bits) / 1e9:.2f}' in found.text


def test_caches_in_8_bits_are_faster(tmp_path, full):
    machine, window = orin(tmp_path), full.config.decoder.sliding_window
    board, = boards_of(machine, gpu_probe().found['gpus'][0])
    late = full.pass_bytes(8).predicted_s(board, 1, window) / TOKEN_S
    assert late < full.pass_bytes(16).predicted_s(board, 1, window) / TOKEN_S
    found = check_speed(machine, full, gpu_probe(packed=True, cache_bits=8))
    assert f'({late:.2f}) in chunks of 80 ms' in found.text
