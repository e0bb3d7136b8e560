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

"""The board: its release, its power mode and its clocks, on boards that are not here."""

import pytest
from support.machine import fake_machine, orin, ORIN_NANO

from voxtral_ros.doctor.board import check_board, check_clocks, check_power, read_clocks
from voxtral_ros.doctor.machine import Output

PC = {'proc/cpuinfo': 'processor : 0\nmodel name\t: Some Processor\n',
      'etc/os-release': 'PRETTY_NAME="Debian GNU/Linux 12"\n'}
EMC = 'sys/kernel/debug/bpmp/debug/clk/emc/'
RELEASE = 'etc/nv_tegra_release'


def release(major, revision):
    return {RELEASE: f'# R{major} (release), REVISION: {revision}, GCID: 1, BOARD: generic\n'}


def test_a_pc(tmp_path):
    machine = fake_machine(tmp_path, PC)
    assert check_board(machine).text == 'Some Processor, Debian GNU/Linux 12'
    assert check_board(machine).state == 'ok'
    assert check_power(machine) is None
    assert check_clocks(machine) is None


def test_a_machine_that_tells_nothing(tmp_path):
    assert check_board(fake_machine(tmp_path)).text == 'aarch64'


@pytest.mark.parametrize(('major', 'revision', 'state', 'said'), [
    (36, '4.3', 'ok', 'Jetson Linux 36.4.3 (JetPack 6)'),
    (36, '5.0', 'ok', 'Jetson Linux 36.5.0 (JetPack 6)'),
    (39, '2.1', 'ok', 'Jetson Linux 39.2.1 (JetPack 7)'),
    (41, '1.0', 'ok', 'Jetson Linux 41.1.0 (JetPack unknown)'),
    (36, '4.7', 'look', 'Jetson Linux 36.4.7'),
    (35, '6.0', 'wrong', 'Jetson Linux 35.6.0 (JetPack 5)'),
    (32, '7.1', 'wrong', 'JetPack unknown')])
def test_releases(tmp_path, major, revision, state, said):
    found = check_board(orin(tmp_path, files=release(major, revision)))
    assert found.state == state
    assert said in found.text
    assert found.text.startswith('NVIDIA Jetson Orin Nano')
    assert bool(found.advice) == (state != 'ok')


def test_the_release_that_refuses_memory_says_where_it_is_mended(tmp_path):
    assert 'R36.5' in check_board(orin(tmp_path, files=release(36, '4.7'))).advice


def test_a_container_without_the_release(tmp_path):
    found = check_board(orin(tmp_path, without=[RELEASE]))
    assert found.state == 'look'
    assert RELEASE in found.text


def test_a_container_of_jetson_containers(tmp_path):
    machine = orin(tmp_path, without=['proc/device-tree/model', 'proc/device-tree/compatible'],
                   files={'tmp/nv_jetson_model': 'NVIDIA Jetson AGX Orin Developer Kit\0'})
    assert check_board(machine).text.startswith('NVIDIA Jetson AGX Orin Developer Kit, Ubuntu')
    assert read_clocks(machine).bandwidth == pytest.approx(204.7e9, rel=1e-3)


def power(tmp_path, mode, conf=ORIN_NANO['etc/nvpmodel.conf'], **options):
    return check_power(orin(tmp_path, files={'etc/nvpmodel.conf': conf}, commands={
        'nvpmodel -q': f'NVPM WARN: fan mode is not set!\nNV Power Mode: {mode}\n2\n'}, **options))


AGX = ''.join(f'< POWER_MODEL ID={n} NAME={name} >\n' for n, name in enumerate(
    ('MAXN', 'MODE_15W', 'MODE_30W', 'MODE_50W')))
NOT_SUPER = '< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=7W >\n'


@pytest.mark.parametrize(('mode', 'conf', 'state', 'advice'), [
    ('25W', ORIN_NANO['etc/nvpmodel.conf'], 'look', 'sudo nvpmodel -m 2'),
    ('15W', ORIN_NANO['etc/nvpmodel.conf'], 'look', 'sudo nvpmodel -m 2'),
    ('MAXN_SUPER', ORIN_NANO['etc/nvpmodel.conf'], 'ok', ''),
    ('MODE_30W', AGX, 'look', 'sudo nvpmodel -m 0'),
    ('MAXN', AGX, 'ok', ''),
    ('7W', NOT_SUPER, 'look', 'sudo nvpmodel -m 0'),
    ('15W', NOT_SUPER, 'look', 'MAXN_SUPER'),
    ('15W', '', 'ok', '')])
def test_power_modes(tmp_path, mode, conf, state, advice):
    found = power(tmp_path, mode, conf)
    assert (found.state, found.text.partition(',')[0]) == (state, mode)
    assert advice in found.advice


@pytest.mark.parametrize('output', [
    None, Output(1, '', 'NVPM ERROR: Error opening /etc/nvpmodel.conf\n'), Output(None, '')])
def test_a_power_mode_that_is_not_told(tmp_path, output):
    found = check_power(orin(tmp_path, commands={'nvpmodel -q': output}))
    assert found.state == 'look'
    assert 'sudo nvpmodel -q' in found.advice


def test_clocks(tmp_path):
    found = check_clocks(orin(tmp_path))
    assert 'memory up to 3199 MHz (102 GB/s), now 666' in found.text
    assert 'GPU up to 1020 MHz' in found.text
    assert (found.state, 'jetson_clocks' in found.advice) == ('look', True)


def test_clocks_that_are_held(tmp_path):
    held = {'sys/class/devfreq/17000000.gpu/min_freq': '1020000000'}
    assert check_clocks(orin(tmp_path, files=held)).state == 'ok'


@pytest.mark.parametrize(('files', 'rate'), [
    ({}, 102.4e9),
    ({EMC + 'max_rate': '2133000000'}, 68.3e9),
    ({'sys/kernel/nvpmodel_emc_cap/emc_iso_cap': '2133000000'}, 68.3e9),
    ({'proc/device-tree/model': 'NVIDIA Jetson AGX Orin Developer Kit\0'}, 204.8e9)])
def test_what_the_memory_moves(tmp_path, files, rate):
    assert read_clocks(orin(tmp_path, files=files)).bandwidth == pytest.approx(rate, rel=1e-3)


def test_a_clock_of_memory_for_root_alone(tmp_path):
    found = check_clocks(orin(tmp_path, without=[EMC + 'rate', EMC + 'max_rate']))
    assert found.state == 'look'
    assert 'memory clock not known' in found.text
    assert 'tegrastats' in found.advice


def test_newer_boards_tell_their_clock_elsewhere(tmp_path):
    files = {'sys/class/devfreq/bwmgr/max_freq': '3199000000',
             'sys/class/devfreq/bwmgr/cur_freq': '2133000000'}
    clocks = read_clocks(orin(tmp_path, files=files, without=[EMC + 'rate', EMC + 'max_rate']))
    assert (clocks.memory, clocks.memory_now) == (3199000000, 2133000000)


def test_a_cap_is_known_where_the_clock_is_not(tmp_path):
    clocks = read_clocks(orin(
        tmp_path, files={'sys/kernel/nvpmodel_emc_cap/emc_iso_cap': '2133000000'},
        without=[EMC + 'rate', EMC + 'max_rate']))
    assert clocks.memory == 2133000000
