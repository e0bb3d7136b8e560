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

"""All checks, one after the other; none of them can end the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from voxtral_ros.doctor import board, gpu, memory, model, ros, software
from voxtral_ros.doctor.finding import Finding, look, ok, wrong
from voxtral_ros.doctor.machine import Machine, Probe

Check = Callable[[], 'Finding | Iterator[Finding] | None']


def checkup(machine: Machine, folder: Path, window: int = 0, kv_cache: str = 'auto',
            progress: model.Progress | None = None) -> Iterator[Finding]:
    """
    Yield what all checks find, as they find it; nothing is raised.

    :param folder: of the model
    :param window: tokens that the decoder is to look back; 0 is the window of the checkpoint
    :param kv_cache: see load_backend
    :param progress: called with numbers of bytes of the model's weights that were compared with
        their checksums; None: they are not read
    """
    yield from _safely('machine', partial(board.check_board, machine))
    yield from _safely('power mode', partial(board.check_power, machine))
    yield from _safely('clocks', partial(board.check_clocks, machine))
    probe = _probe(machine, str(folder), str(window), kv_cache)
    yield from _safely('GPU', partial(gpu.check_gpu, machine, probe))
    yield from _safely('nvcc', partial(gpu.check_nvcc, machine, probe))
    yield from _safely('CPU backend', software.check_cpu)
    yield from _check_model(machine, folder, window, kv_cache, probe, progress)
    yield from _safely('swap', partial(memory.check_swap, machine))
    yield from _safely('desktop', partial(memory.check_desktop, machine))
    yield from _safely('microphone', partial(software.check_microphone, machine))
    yield from _safely('ROS', partial(ros.check_ros, machine))


def _check_model(machine: Machine, folder: Path, window: int, kv_cache: str, probe: Probe,
                 progress: model.Progress | None) -> Iterator[Finding]:
    try:
        opened = model.open_model(folder, window)
    except Exception as error:
        text = str(error) or type(error).__name__
        yield wrong('model', text, 'give another --window' if text.startswith('the window is') else
                    'docs/checkpoint-formats.md lists what the folder of a model holds')
        return
    yield from _safely('model', partial(model.describe, opened))
    if progress is None:
        yield ok('checksums', 'not compared')
    else:
        yield from _safely('checksums', partial(model.check_files, opened, progress))
    yield from _safely('memory', partial(model.check_memory, machine, opened, probe, kv_cache))
    yield from _safely('speed', partial(model.check_speed, machine, opened, probe))


def _probe(machine: Machine, *arguments: str) -> Probe:
    try:
        return gpu.probe_gpu(machine, *arguments)
    except Exception as error:
        return Probe({}, f'{type(error).__name__}: {error}')


def _safely(name: str, check: Check) -> Iterator[Finding]:
    """Yield what a check finds; one that fails itself is a finding as well."""
    try:
        found = check()
        if isinstance(found, Finding):
            yield found
        elif found is not None:
            yield from found
    except Exception as error:
        yield look(name, f'not known: the check failed with {type(error).__name__}: {error}',
                   'please report it, with this line')
