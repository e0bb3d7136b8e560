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

from __future__ import annotations

from voxtral_ros.backends.build import BuildError
from voxtral_ros.backends.cpu import library
from voxtral_ros.backends.cpu.build import find_compiler
from voxtral_ros.backends.gpu import has_torch
from voxtral_ros.doctor.finding import Finding, look, ok, wrong
from voxtral_ros.doctor.machine import Machine

_PATIENCE_S = 20.0
_BUILD = 'voxtral build-kernels'
_SLOW = 'baseline'  # the instructions that every processor has


def check_cpu() -> Finding:
    """Show whether the network is compiled for this processor, and with which instructions."""
    name = 'CPU backend'
    try:
        path = library.find()
        if path is None:
            find_compiler()
            return look(name, 'not compiled yet: the first start takes a minute for it', _BUILD)
        instructions = library.load().voxtral_cpu_instructions().decode()
    except BuildError as error:
        if has_torch():
            return look(name, f'{error}: PyTorch runs the network, several times slower', _BUILD)
        return wrong(name, f'{error}', f'{_BUILD}, with a C++ compiler (apt install g++)')
    text = f'compiled ({instructions}), {path}'
    if instructions == _SLOW:
        return look(name, f'{text}; this processor has none of the instructions that make it fast',
                    'docs/cpu.md says how slow that is')
    return ok(name, text)


def check_microphone(machine: Machine) -> Finding:
    """Show which input devices PortAudio sees."""
    name = 'microphone'
    probe = machine.probe('doctor.audio_probe', timeout_s=_PATIENCE_S)
    if problem := probe.found.get('problem', ''):
        what, _, advice = problem.partition('; ')
        return look(name, what, f'for a microphone: {advice}')
    if 'devices' not in probe.found:
        return look(name, f'PortAudio lists no devices: {probe.error}',
                    'start the audio server (PipeWire, PulseAudio) again')
    devices = probe.found['devices']
    if not devices:
        return look(name, 'PortAudio sees no input device', 'plug one in, and see that you may '
                    'use it (`groups` must list audio); audio from a topic needs none')
    more = f', and {len(devices) - 1} more' if devices[1:] else ''
    return ok(name, f'{devices[0]}{more}')
