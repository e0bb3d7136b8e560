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

"""A machine that is not here, for voxtral_ros.doctor: files below a folder, and commands."""

import json

from voxtral_ros.doctor.machine import Machine, Output, Probe

# An Orin Nano Super as NVIDIA ships it: JetPack 6.2 with its desktop, in the mode of 25 W.
ORIN_NANO = {
    'proc/device-tree/model': 'NVIDIA Jetson Orin Nano Engineering Reference Developer Kit '
                              'Super\0',
    'proc/device-tree/compatible': 'nvidia,p3768-0000+p3767-0005-super\0nvidia,tegra234\0',
    'etc/nv_tegra_release': '# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, '
                            'EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n'
                            '# KERNEL_VARIANT: oot\n',
    'etc/os-release': 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
    'etc/nvpmodel.conf': '< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=25W >\n'
                         '< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n< POWER_MODEL ID=3 NAME=7W >\n'
                         '< PM_CONFIG DEFAULT=1 >\n',
    'sys/kernel/debug/bpmp/debug/clk/emc/rate': '665600000\n',
    'sys/kernel/debug/bpmp/debug/clk/emc/max_rate': '3199000000\n',
    'sys/kernel/nvpmodel_emc_cap/emc_iso_cap': '0\n',
    'sys/class/devfreq/17000000.gpu/min_freq': '306000000\n',
    'sys/class/devfreq/17000000.gpu/max_freq': '1020000000\n',
    'proc/meminfo': 'MemTotal:        7802000 kB\nMemFree:          400000 kB\n'
                    'MemAvailable:    7000000 kB\n',
    'proc/swaps': 'Filename Type Size Used Priority\n'
                  + ''.join(f'/dev/zram{n} partition 650000 0 5\n' for n in range(6)),
}
# What the probe of the GPU says where all is well.
ORIN_GPU = {
    'gpus': [{'name': 'Orin', 'architecture': 87, 'integrated': True, 'n_sms': 8,
              'clock': 1020000000}],
    'driver_cuda': '12.6', 'has_torch': True, 'torch': '2.8.0', 'torch_cuda': '12.6',
    'torch_architectures': ['sm_87'], 'visible': True, 'computes': True,
    'library': '/opt/libvoxtral_kernels.so', 'library_architectures': [87], 'kernels': True,
    'cache_bits': 16,
}


def fake_machine(folder, files=(), commands=(), environ=(), probes=()):
    """
    Return a machine with these files below a folder, and nothing else.

    :param files: path -> content
    :param commands: command line -> Output, or what it prints
    :param probes: name of a module of ours -> what it finds out, or an Output
    """
    for path, content in dict(files).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    commands, probes = dict(commands), dict(probes)

    def execute(command, timeout_s):
        if '-m' in command:
            found = probes.get(command[command.index('-m') + 1].removeprefix('voxtral_ros.'), {})
        else:
            found = commands.get(' '.join(command))
        if isinstance(found, dict):
            return Output(0, json.dumps(found))
        return Output(0, found) if isinstance(found, str) else found

    return Machine(folder, execute, environ=dict(environ), kind='aarch64')


def orin(folder, without=(), **changes):
    """Return an Orin Nano in which files are changed, or lacking."""
    files = {**ORIN_NANO, **changes.pop('files', {})}
    return fake_machine(folder, {path: text for path, text in files.items()
                                 if path not in without}, **changes)


def gpu_probe(**changes):
    """Return what is found out of an Orin's GPU, but for what is changed; None: not found out."""
    found = {**ORIN_GPU, **changes}
    error = found.pop('error', '')
    return Probe({key: value for key, value in found.items() if value is not None}, error)
