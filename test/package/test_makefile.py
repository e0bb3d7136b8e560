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

"""What make would do on a new machine: no more than is asked for."""

import os
from pathlib import Path
import subprocess

import pytest

ROOT = Path(__file__).resolve().parents[2]
# A shell with ROS, and a make around this one, have their say in other variables.
CLEAN = {name: value for name, value in os.environ.items() if name not in (
    'AMENT_PREFIX_PATH', 'MAKEFLAGS', 'MAKELEVEL', 'TORCH', 'TORCH_INDEX', 'ROS', 'GPU')}
TORCH, TESTS, OVERLAYS = 'requirements/torch.txt', 'requirements/test.txt', 'test/overlays/'


@pytest.fixture
def make(tmp_path):
    """Return a function that returns what make would run where nothing was made before."""
    def run(*arguments):
        places = [f'{name}={tmp_path / name}' for name in ('VENV', 'INSTALL', 'OVERLAY_ROOT')]
        return subprocess.run(['make', '--dry-run', *places, *arguments], cwd=ROOT, check=True,
                              env=CLEAN, capture_output=True, text=True).stdout
    return run


def test_the_demo_gets_nothing_that_only_tests_need(make):
    printed = make('demo', 'ROS=wheels', 'GPU=')
    assert 'tools/demo.sh' in printed
    assert 'colcon' in printed
    for other in (TORCH, TESTS, OVERLAYS):
        assert other not in printed


@pytest.mark.parametrize(('arguments', 'has_torch'), [
    ('demo GPU=/dev/nvidiactl', True), ('demo GPU=/dev/nvidiactl TORCH=0', False),
    ('demo GPU= TORCH=1', True), ('setup GPU= TORCH_INDEX=https://x', True),
    ('setup GPU=', False), ('test GPU=', True), ('test GPU= TORCH=0', False)])
@pytest.mark.parametrize('ros', ['wheels', 'none'])
def test_torch_comes_for_a_gpu_for_tests_and_when_asked_for(make, arguments, has_torch, ros):
    assert (TORCH in make(*arguments.split(), f'ROS={ros}')) == has_torch


def test_tests_come_with_all_that_they_need(make):
    printed = make('test', 'ROS=wheels')
    assert printed.index(TORCH) < printed.index(TESTS) < printed.index('python -m pytest')
    for name in ('ros_drivers', 'mgonzs13', 'hri'):
        assert OVERLAYS + name in printed


@pytest.mark.parametrize('target', ['demo', 'test', 'setup'])
def test_without_ros_nothing_of_ros_is_built_and_how_to_get_it_is_said(make, target):
    printed = make(target, 'ROS=none', 'GPU=')
    assert 'requirements/numpy.txt' in printed
    assert 'colcon' not in printed
    assert 'requirements/ros-' not in printed
    if target == 'demo':
        assert 'voxtral transcribe test/data/orders.flac' in printed
    assert ('install ROS 2' in printed) == (target != 'setup')


def test_another_kind_of_ros_makes_the_environment_anew(make, tmp_path):
    environment = tmp_path / 'VENV'
    environment.mkdir()
    for name in ('.for-none', '.runtime', '.torch', '.test', 'ros.bash'):
        (environment / name).touch()
    assert 'install' not in make('setup', 'ROS=none', 'GPU=').replace('apt_install', '')
    printed = make('test', 'ROS=wheels', 'GPU=')
    assert printed.index('-m venv') < printed.index('requirements/runtime.txt')
    for packages in (TORCH, TESTS):
        assert packages in printed


def test_a_distribution_without_wheels_is_named(make):
    printed = make('demo', 'ROS=wheels', 'ROS_DISTRO=lyrical')
    assert 'ROS_DISTRO=lyrical is not sourced' in printed
    assert 'wheels only for: jazzy kilted' in printed
