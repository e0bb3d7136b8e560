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

"""
What board this is, and how fast it may run: NVIDIA's release, power mode, clocks.

Where a Jetson has its clocks is as in jetson_clocks and https://github.com/rbonghi/jetson_stats;
the memory moves 2 * its clock * the width of its bus.
"""

from __future__ import annotations

from dataclasses import dataclass
import re

from voxtral_ros.doctor.finding import Finding, look, ok, wrong
from voxtral_ros.doctor.machine import Machine

_RELEASE = re.compile(r'R(\d+) \(release\), REVISION: ([\d.]+)')
_JETPACK = {35: '5', 36: '6', 38: '7', 39: '7'}  # by major release of Jetson Linux
_OLDEST = 36  # the first with a Python that this package runs on
# Its NvMap refuses large pieces of memory that is free, by the notes of R36.5, where it is mended.
_REFUSES_MEMORY = '36.4.7'
_MODE = re.compile(r'NV Power Mode: *(\S+)')
_MODES = re.compile(r'POWER_MODEL ID=(\d+) NAME=(\S+)')
_EMC = '/sys/kernel/debug/bpmp/debug/clk/emc/'
_EMC_CAP = '/sys/kernel/nvpmodel_emc_cap/emc_iso_cap'


def check_board(machine: Machine) -> Finding:
    """Show which board, system and release this is."""
    name = 'machine'
    model = read_model(machine) or _processor(machine)
    system = re.search('^PRETTY_NAME="?([^"\n]*)', machine.read('/etc/os-release'), re.M)
    text = ', '.join(filter(None, (model, system[1] if system else '')))
    if not machine.is_jetson:
        return ok(name, text)
    release = read_release(machine)
    if release is None:
        return look(name, f'{text}; a Jetson whose release is not in /etc/nv_tegra_release',
                    'in a container, mount that file from the host to have it checked')
    major, version = release
    text += f', Jetson Linux {version} (JetPack {_JETPACK.get(major, "unknown")})'
    if major < _OLDEST:
        return wrong(name, text, 'flash JetPack 6 or 7: this package needs its Python')
    if version == _REFUSES_MEMORY:
        return look(name, text, 'this release refuses large pieces of memory that is free (NvMap '
                    'error 12): upgrade to R36.5, see docs/jetson.md')
    return ok(name, text)


def read_model(machine: Machine) -> str:
    """Return what a board calls itself; '' where it does not."""
    # Docker hides the first, and jetson-containers puts its content into the second.
    return machine.read('/proc/device-tree/model') or machine.read('/tmp/nv_jetson_model')


def read_release(machine: Machine) -> tuple[int, str] | None:
    """Return the release of Jetson Linux, as 36 and '36.4.7'; None where there is none."""
    release = _RELEASE.search(machine.read('/etc/nv_tegra_release'))
    return (int(release[1]), f'{release[1]}.{release[2]}') if release else None


def _processor(machine: Machine) -> str:
    found = re.search(r'^model name\s*: *(.*)', machine.read('/proc/cpuinfo'), re.M)
    return found[1] if found else machine.kind


def check_power(machine: Machine) -> Finding | None:
    """Compare the power mode with the largest that the board has; None if it is no Jetson."""
    if not machine.is_jetson:
        return None
    name = 'power mode'
    output = machine.run('nvpmodel', '-q') or machine.run('/usr/sbin/nvpmodel', '-q')
    if output is None:
        return look(name, 'nvpmodel, which shows it, is not here',
                    'in a container, run `sudo nvpmodel -q` on the host')
    mode = _MODE.search(output.out)
    if mode is None:
        return look(name, f'not known: {output.last_error}', 'try `sudo nvpmodel -q`')
    text = mode[1]
    modes = {found: number
             for number, found in _MODES.findall(machine.read('/etc/nvpmodel.conf'))}
    if not modes:
        return ok(name, text)
    best = max(modes, key=_power)
    if text != best:
        return look(name, f'{text}, and {best} is faster', f'sudo nvpmodel -m {modes[best]}')
    if not best.startswith('MAXN'):
        return look(name, f'{text}, the largest of {", ".join(modes)}',
                    'with JetPack 6.2 or newer and its "Super" configuration there is MAXN_SUPER: '
                    'an Orin Nano then reads 102 GB/s in place of 68')
    return ok(name, text)


def _power(mode: str) -> tuple[bool, bool, int]:
    watts = re.search(r'(\d+)W', mode)
    return mode.startswith('MAXN'), 'SUPER' in mode, int(watts[1]) if watts else 0


@dataclass(frozen=True)
class Clocks:
    """What a board may run at in its power mode, in Hz; None where nobody may know."""

    memory: int | None
    memory_now: int | None
    gpu: int | None
    is_gpu_held: bool  # its least clock is its largest
    bus_bytes: int

    @property
    def bandwidth(self) -> float | None:
        """Return the peak of the memory in bytes per second."""
        return None if self.memory is None else 2.0 * self.memory * self.bus_bytes


def read_clocks(machine: Machine) -> Clocks:
    """Read what the board shows, without a file that needs root if we are not it."""
    most, now = machine.number(_EMC + 'max_rate'), machine.number(_EMC + 'rate')
    cap = machine.number(_EMC_CAP)
    if most is None:
        most = machine.number('/sys/class/devfreq/bwmgr/max_freq')
        now = machine.number('/sys/class/devfreq/bwmgr/cur_freq')
    limits = [limit for limit in (most, cap) if limit]
    gpu = next(iter(machine.glob('/sys/class/devfreq/*gpu*')
                    or machine.glob('/sys/class/devfreq/*ga10b*')), None)
    folder = f'/sys/class/devfreq/{gpu.name}/' if gpu else ''
    fastest = machine.number(folder + 'max_freq') if folder else None
    slowest = machine.number(folder + 'min_freq') if folder else None
    wide = 'AGX' in read_model(machine)
    return Clocks(min(limits) if limits else None, now, fastest,
                  fastest is not None and slowest == fastest, 32 if wide else 16)


def check_clocks(machine: Machine) -> Finding | None:
    """Show what memory and GPU may run at; None if it is no Jetson."""
    if not machine.is_jetson:
        return None
    name = 'clocks'
    clocks = read_clocks(machine)
    gpu = '' if clocks.gpu is None else f'GPU up to {clocks.gpu / 1e6:.0f} MHz'
    if clocks.memory is None or clocks.bandwidth is None:
        why = 'for root alone' if machine.is_forbidden(_EMC + 'rate') else 'no file has it'
        return look(name, '; '.join(filter(None, (gpu, f'memory clock not known, {why}'))),
                    'look at EMC_FREQ in tegrastats while the model runs: 3199 is the largest of '
                    'an Orin')
    memory = f'memory up to {clocks.memory / 1e6:.0f} MHz ({clocks.bandwidth / 1e9:.0f} GB/s)'
    if clocks.memory_now:
        memory += f', now {clocks.memory_now / 1e6:.0f}'
    text = '; '.join(filter(None, (memory, gpu)))
    if clocks.gpu is not None and not clocks.is_gpu_held:
        return look(name, f'{text}, which goes down when there is little to do',
                    'sudo jetson_clocks holds the clocks until the next start')
    return ok(name, text)
