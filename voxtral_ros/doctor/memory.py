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

"""Swap and the desktop: what else takes the memory of a small board, and what helps."""

from __future__ import annotations

from voxtral_ros.doctor.finding import Finding, look, ok
from voxtral_ros.doctor.machine import Machine

_SMALL = 17e9  # bytes: a board of 16 GB or less
# As /proc writes them, 15 letters at most.
_DESKTOPS = {'gnome-shell', 'gdm-x-session', 'gdm-wayland-ses', 'Xorg', 'Xwayland', 'lxsession',
             'lxqt-session', 'xfce4-session', 'plasmashell', 'kwin_x11', 'kwin_wayland',
             'mate-session', 'cinnamon', 'weston'}


def check_swap(machine: Machine) -> Finding:
    """Show what swap there is, in memory (zram) and on a disk."""
    name = 'swap'
    sizes = {'zram': 0, 'disk': 0}
    for line in machine.read('/proc/swaps').splitlines()[1:]:
        words = line.split()
        if len(words) >= 3 and words[2].isdecimal():
            sizes['zram' if 'zram' in words[0] else 'disk'] += int(words[2]) * 1024
    text = ', '.join(f'{size / 1e9:.1f} GB {"on disk" if where == "disk" else "zram"}'
                     for where, size in sizes.items() if size) or 'none'
    if not _is_small_jetson(machine) or sizes['disk']:
        return ok(name, text)
    why = 'zram, which takes the memory that it saves: ' if sizes['zram'] else ''
    return look(name, text, f'{why}a swap file lets other programs make room while the model is '
                'loaded, see docs/jetson.md')


def check_desktop(machine: Machine) -> Finding:
    """Show whether a desktop runs, and what it takes."""
    name = 'desktop'
    found: dict[str, int] = {}
    for folder in machine.glob('/proc/[0-9]*'):
        process = f'/proc/{folder.name}/'
        program = machine.read(process + 'comm')
        if program in _DESKTOPS:
            found[program] = found.get(program, 0) + _resident(machine.read(process + 'status'))
    if not found:
        return ok(name, 'none runs')
    text = f'{", ".join(sorted(found))}: {sum(found.values()) / 1e9:.2f} GB'
    if not _is_small_jetson(machine):
        return ok(name, text)
    return look(name, text, 'sudo systemctl set-default multi-user.target, and start again: the '
                'model needs that memory')


def _resident(status: str) -> int:
    """Return the bytes of a process that are in memory, by its status in /proc."""
    for line in status.splitlines():
        if line.startswith('VmRSS:'):
            return int(line.split()[1]) * 1024
    return 0


def _is_small_jetson(machine: Machine) -> bool:
    return machine.is_jetson and machine.memory.get('MemTotal', 0) < _SMALL
