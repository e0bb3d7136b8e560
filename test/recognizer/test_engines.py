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

"""Engines on several devices: all of them, or one sentence about the one that is missing."""

from types import SimpleNamespace

import pytest

from voxtral_ros.model.checkpoint import CheckpointError
from voxtral_ros.recognizer import engines
from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.recognizer.engines import engine_names, load_engines
from voxtral_ros.recognizer.interface import NotFinite
from voxtral_ros.resources import demo_model


@pytest.fixture
def loaded(monkeypatch):
    """Return what is done, in its order, and what goes wrong when an engine begins on a device."""
    log, faults = [], {}

    def load(folder, device, **options):
        log.append(('load', device, options))
        if device in faults:
            raise faults[device]
        return SimpleNamespace(warm_up=lambda: warm_up(device),
                               close=lambda: log.append(('close', device)))

    def warm_up(device):
        log.append(('warm up', device))
        if fault := faults.get(f'warm {device}'):
            raise fault
    monkeypatch.setattr(Engine, 'load', load)
    return SimpleNamespace(log=log, faults=faults)


@pytest.mark.parametrize(('devices', 'names'), [
    (['cpu'], ['cpu']), (['cuda:0', 'cuda:1'], ['cuda:0', 'cuda:1']),
    (['cpu', 'cuda:3', 'cpu'], ['cpu/0', 'cuda:3', 'cpu/1'])])
def test_engines_have_the_names_of_their_devices(devices, names):
    assert engine_names(devices) == names


def test_one_after_the_other_is_loaded_and_warmed_up(loaded):
    made = load_engines('folder', ['cuda:1', 'cpu'], 3, max_streams=2)
    assert [*made] == ['cuda:1', 'cpu']
    assert loaded.log == [('load', 'cuda:1', {'threads': 3, 'max_streams': 2}),
                          ('warm up', 'cuda:1'),
                          ('load', 'cpu', {'threads': 3, 'max_streams': 2}), ('warm up', 'cpu')]


@pytest.mark.parametrize(('n_engines', 'threads', 'each'), [
    (1, 0, 0), (1, 7, 7), (2, 8, 4), (3, 8, 2), (4, 2, 1), (2, 0, 5)])
def test_engines_on_the_cpu_share_the_threads(loaded, monkeypatch, n_engines, threads, each):
    monkeypatch.setattr(engines, 'default_threads', lambda: 10)
    load_engines('folder', ['cuda:0', *['cpu'] * n_engines], threads)
    assert {options['threads'] for kind, _, *rest in loaded.log if kind == 'load'
            for options in rest} == {each}


OUT = RuntimeError('CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 1 has a total of ...')


@pytest.mark.parametrize(('place', 'fault', 'said'), [
    ('cuda:1', OUT, 'no engine on cuda:1: CUDA out of memory. Tried to allocate 20.00 MiB.'),
    ('warm cuda:1', OUT, 'no engine on cuda:1: CUDA out of memory. Tried to allocate 20.00 MiB.'),
    ('cuda:1', MemoryError(), 'no engine on cuda:1: too little memory'),
    ('cuda:1', ValueError('the device has 1 GB'), 'no engine on cuda:1: the device has 1 GB')])
def test_a_device_that_cannot_be_had_is_named_in_one_line(loaded, place, fault, said):
    loaded.faults[place] = fault
    with pytest.raises(ValueError) as raised:
        load_engines('folder', ['cuda:0', 'cuda:1'])
    assert str(raised.value) == said
    assert ('close', 'cuda:0') in loaded.log


def test_one_device_alone_says_what_it_said(loaded):
    loaded.faults['cpu'] = ValueError('too many streams')
    with pytest.raises(ValueError, match='^too many streams$'):
        load_engines('folder', ['cpu'])
    loaded.faults['cuda:0'] = OUT
    with pytest.raises(ValueError, match='^no engine on cuda:0: CUDA out of memory.*MiB.$'):
        load_engines('folder', ['cuda:0'])


@pytest.mark.parametrize('fault', [CheckpointError('no weights'), NotFinite()])
def test_what_is_wrong_with_the_model_is_no_fault_of_a_device(loaded, fault):
    loaded.faults['cuda:0'] = fault
    with pytest.raises(type(fault)) as raised:
        load_engines('folder', ['cuda:0', 'cuda:1'])
    assert raised.value is fault


def test_two_engines_on_the_cpu_are_two():
    made = load_engines(demo_model(), ['cpu', 'cpu'], 2, max_streams=1)
    assert [*made] == ['cpu/0', 'cpu/1']
    streams = [engine.open() for engine in made.values()]  # the only one of each
    for stream in streams:
        stream.abandon()
    for engine in made.values():
        engine.close()
