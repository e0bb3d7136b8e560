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

"""Swap and desktops, on boards that are not here."""

import pytest
from support.machine import fake_machine, orin, ORIN_NANO

from voxtral_ros.doctor.memory import check_desktop, check_swap

HEAD = 'Filename\tType\tSize\tUsed\tPriority\n'
ZRAM = ORIN_NANO['proc/swaps']
LARGE = {'proc/meminfo': 'MemTotal: 64000000 kB\n'}


@pytest.mark.parametrize(('swaps', 'state', 'text'), [
    (ZRAM, 'look', '4.0 GB zram'),
    (HEAD, 'look', 'none'),
    ('', 'look', 'none'),
    (f'{ZRAM}/mnt/16GB.swap file 16777212 0 -2\n', 'ok', '4.0 GB zram, 17.2 GB on disk'),
    (f'{HEAD}/dev/nvme0n1p3 partition 8388604 0 -2\n', 'ok', '8.6 GB on disk')])
def test_swap_of_a_small_board(tmp_path, swaps, state, text):
    found = check_swap(orin(tmp_path, files={'proc/swaps': swaps}))
    assert (found.state, found.text) == (state, text)
    assert ('swap file' in found.advice) == (state == 'look')


@pytest.mark.parametrize('files', [{**ORIN_NANO, **LARGE}, {'proc/swaps': HEAD, **LARGE}],
                         ids=['a large board', 'a PC'])
def test_swap_is_not_missed_where_there_is_memory(tmp_path, files):
    assert check_swap(fake_machine(tmp_path, files)).state == 'ok'


def processes(*names):
    files = {}
    for number, name in enumerate(names, 100):
        files[f'proc/{number}/comm'] = f'{name}\n'
        files[f'proc/{number}/status'] = f'Name:\t{name}\nVmRSS:\t  250000 kB\n'
    return files


def test_a_desktop_takes_the_memory_of_a_small_board(tmp_path):
    found = check_desktop(orin(tmp_path, files=processes('systemd', 'Xorg', 'gnome-shell')))
    assert (found.state, found.text) == ('look', 'Xorg, gnome-shell: 0.51 GB')
    assert 'multi-user.target' in found.advice


def test_without_a_desktop(tmp_path):
    assert check_desktop(orin(tmp_path, files=processes('systemd', 'bash'))).text == 'none runs'


def test_a_desktop_elsewhere_is_fine(tmp_path):
    assert check_desktop(fake_machine(tmp_path, processes('plasmashell'))).state == 'ok'


def test_a_process_that_ends_meanwhile(tmp_path):
    files = processes('Xorg') | {'proc/101/comm': 'Xwayland', 'proc/102/other': ''}
    assert check_desktop(orin(tmp_path, files=files)).text == 'Xorg, Xwayland: 0.26 GB'
