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

"""The library of the CPU backend, and microphones."""

import pytest
from support.machine import fake_machine

from voxtral_ros.backends.build import BuildError
from voxtral_ros.backends.cpu import library
from voxtral_ros.doctor import software
from voxtral_ros.doctor.machine import Machine, Output
from voxtral_ros.doctor.software import check_cpu, check_microphone


def test_the_library_here():
    found = check_cpu()
    assert found.name == 'CPU backend'
    assert 'compiled (' in found.text and 'libvoxtral_cpu.so' in found.text


def refuse():
    raise BuildError('no C++ compiler: install one')


@pytest.mark.parametrize(('has_torch', 'state'), [(True, 'look'), (False, 'wrong')])
def test_a_library_that_is_switched_off(monkeypatch, has_torch, state):
    monkeypatch.setenv('VOXTRAL_CPU_KERNELS', 'off')
    monkeypatch.setattr(software, 'has_torch', lambda: has_torch)
    found = check_cpu()
    assert (found.state, 'VOXTRAL_CPU_KERNELS is off' in found.text) == (state, True)


def test_a_library_that_is_not_there_yet(monkeypatch):
    monkeypatch.setattr(library, 'find', lambda: None)
    monkeypatch.setattr(library, 'load', refuse)  # would compile it
    found = check_cpu()
    assert (found.state, found.advice) == ('look', 'voxtral build-kernels')


def test_a_library_that_nothing_can_make(monkeypatch):
    monkeypatch.setattr(library, 'find', lambda: None)
    monkeypatch.setattr(software, 'find_compiler', refuse)
    monkeypatch.setattr(software, 'has_torch', lambda: False)
    found = check_cpu()
    assert (found.state, 'no C++ compiler' in found.text) == ('wrong', True)


def test_a_file_that_is_no_library(tmp_path, monkeypatch):
    path = tmp_path / 'library.so'
    path.write_text('no library')
    monkeypatch.setenv('VOXTRAL_CPU_KERNELS', str(path))
    library.load.cache_clear()
    try:
        found = check_cpu()
    finally:
        library.load.cache_clear()
    assert found.state != 'ok'
    assert f'{path} cannot be used' in found.text


def test_an_old_processor(monkeypatch):
    class Library:

        @staticmethod
        def voxtral_cpu_instructions():
            return b'baseline'

    monkeypatch.setattr(library, 'find', lambda: 'x.so')
    monkeypatch.setattr(library, 'load', Library)
    assert check_cpu().state == 'look'


@pytest.mark.parametrize(('found', 'state', 'text', 'advice'), [
    ({'devices': ['[0] USB (1 ch, 48000 Hz)', '[4] pulse (2 ch, 44100 Hz)']}, 'ok',
     '[0] USB (1 ch, 48000 Hz), and 1 more', ''),
    ({'devices': []}, 'look', 'no input device', 'audio'),
    ({'problem': 'no microphone support: PortAudio library not found; install PortAudio'}, 'look',
     'PortAudio library not found', 'for a microphone: install PortAudio'),
    (Output(None, ''), 'look', 'no answer within', 'audio server'),
    (Output(-6, ''), 'look', 'SIGABRT', 'audio server'),
    (None, 'look', 'cannot be started', 'audio server')])
def test_microphones(tmp_path, found, state, text, advice):
    line = check_microphone(fake_machine(tmp_path, probes={'doctor.audio_probe': found}))
    assert line.state == state
    assert text in line.text
    assert advice in line.advice


def test_the_microphones_here():
    assert 'PortAudio lists no devices' not in check_microphone(Machine()).text


def test_without_portaudio(tmp_path, monkeypatch):
    (tmp_path / 'sounddevice.py').write_text('raise OSError("PortAudio library not found")')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    found = check_microphone(Machine())
    assert (found.state, 'PortAudio library not found' in found.text) == ('look', True)
    assert 'libportaudio2' in found.advice
