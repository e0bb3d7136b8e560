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

"""All checks in a row: on this machine, on boards, and where checks fail themselves."""

import pytest
from quantization import packable
from support.machine import fake_machine, orin, ORIN_GPU

from voxtral_ros.doctor import board, checkup as module, software
from voxtral_ros.doctor.checkup import checkup
from voxtral_ros.doctor.finding import Finding
from voxtral_ros.doctor.machine import Machine, Output
from voxtral_ros.resources import demo_model

PLAN = {'plan': '1.00 GB', 'plan_bytes': 10 ** 9, 'packed': True, 'free': 1, 'total': 2}
ALL = ['machine', 'power mode', 'clocks', 'GPU', 'torch', 'kernels', 'nvcc', 'CPU backend',
       'model', 'checksums', 'memory', 'speed', 'swap', 'desktop', 'microphone', 'ROS']


def run(machine, folder=None, **options):
    return {found.name: found for found in checkup(machine, folder or demo_model(), **options)}


def test_this_machine():
    found = run(Machine(), progress=lambda n_bytes: None)
    assert set(ALL) - {'power mode', 'clocks', 'torch', 'kernels'} <= set(found)
    assert all('the check failed' not in line.text for line in found.values())
    assert found['checksums'].text == 'all weights are as they say'
    assert [line.name for line in found.values() if line.state != 'ok' and not line.advice] == []


def test_a_board_with_all_lines(tmp_path):
    probes = {'backends.cuda.probe': {**ORIN_GPU, **PLAN}, 'doctor.audio_probe': {'devices': [
        '[3] USB Audio (1 ch, 48000 Hz)']}, 'doctor.ros_probe': {'rclpy': 'not found'}}
    found = run(orin(tmp_path, probes=probes))
    assert list(found) == ALL
    assert found['speed'].text.startswith('predicted real-time factor')
    assert found['checksums'].text == 'not compared'
    assert found['microphone'].text == '[3] USB Audio (1 ch, 48000 Hz)'


def test_a_machine_on_which_nothing_answers(tmp_path):
    machine = Machine(tmp_path, lambda command, timeout_s: Output(None, ''), kind='riscv64')
    found = run(machine)
    assert found['GPU'].state == found['microphone'].state == found['ROS'].state == 'look'
    assert 'no answer within' in found['microphone'].text


def test_a_machine_on_which_nothing_can_be_started(tmp_path):
    assert set(run(Machine(tmp_path, lambda command, timeout_s: None))) >= {'GPU', 'model', 'ROS'}


@pytest.mark.parametrize('error', [RuntimeError('reason'), KeyError('field'), OSError(5, 'disk')])
def test_a_check_that_fails_is_a_line(tmp_path, monkeypatch, error):
    def fail(*arguments):
        raise error

    before = run(fake_machine(tmp_path))
    monkeypatch.setattr(board, 'check_board', fail)
    monkeypatch.setattr(software, 'check_cpu', fail)
    monkeypatch.setattr(module.model, 'check_memory', fail)
    found = run(fake_machine(tmp_path))
    assert list(found) == list(before)
    for name in ('machine', 'CPU backend', 'memory'):
        assert found[name].state == 'look'
        assert type(error).__name__ in found[name].text


def test_a_check_that_fails_after_its_first_line(tmp_path, monkeypatch):
    def two(machine):
        yield Finding('ROS', 'ok', 'first')
        raise RuntimeError('second')

    monkeypatch.setattr(module.ros, 'check_ros', two)
    texts = [line.text for line in checkup(fake_machine(tmp_path), demo_model())]
    assert texts[-2] == 'first'
    assert 'RuntimeError: second' in texts[-1]


def test_a_probe_that_raises_is_known_by_its_line(tmp_path, monkeypatch):
    def fail(*arguments):
        raise MemoryError

    monkeypatch.setattr(module.gpu, 'probe_gpu', fail)
    assert 'MemoryError' in run(fake_machine(tmp_path))['GPU'].text


@pytest.mark.parametrize('damage', ['gone', 'no weights', 'not json', 'cut off'])
def test_a_folder_that_is_no_model(tmp_path, damage):
    folder = packable.write(tmp_path / 'model')
    weights = folder / 'consolidated.safetensors'
    if damage == 'gone':
        folder = tmp_path / 'other'
    elif damage == 'no weights':
        weights.unlink()
    elif damage == 'not json':
        (folder / 'params.json').write_text('{')
    else:
        weights.write_bytes(weights.read_bytes()[:-100])
    found = run(fake_machine(tmp_path), folder)
    assert found['model'].state == 'wrong'
    assert str(folder) in found['model'].text
    assert not {'checksums', 'memory', 'speed'} & set(found)
    assert 'ROS' in found


def test_a_window_that_the_model_cannot_have(tmp_path):
    found = run(fake_machine(tmp_path), window=10 ** 6)['model']
    assert (found.state, 'window is 1000000' in found.text) == ('wrong', True)
