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
Check this machine before anything is downloaded, and install what it lacks if that asks nothing.

Exit code 0: all there. 1: one line on stderr says what is missing or not supported.
Runs on any Python 3, so that an old one gets a sentence instead of a syntax error.
"""

import argparse
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig

OLDEST, NEWEST = (3, 10), (3, 14)
MACHINES = ('x86_64', 'aarch64', 'arm64')
WHEELS_FOR = 'x86_64'
APT_INSTALL = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'apt_install.sh')


def refusal(ros):
    """Return why nothing can work here and what to do, or ''."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        return ('voxtral_ros needs Python {}.{} to {}.{}, but {} is {}.{}: '
                'choose another one with  make PYTHON=python3.12 ...'.format(
                    *OLDEST, *NEWEST, sys.executable, *sys.version_info[:2]))
    if platform.machine() not in MACHINES:
        return 'voxtral_ros runs on {}, and this is {}'.format(
            ', '.join(MACHINES), platform.machine())
    if sys.maxsize < 2 ** 32:
        return ('{} is a 32-bit program: install a 64-bit system, or choose another one with  '
                'make PYTHON=...'.format(sys.executable))
    if ros == 'wheels' and (sys.platform != 'linux' or platform.machine() != WHEELS_FOR
                            or platform.libc_ver()[0] != 'glibc'):
        return ('there are wheels of ROS for Linux with glibc on {} only: install ROS 2 from apt '
                'and source it, or do without it:  make ROS=none ...'.format(WHEELS_FOR))
    return ''


def of_python(suffix):
    """Return the package of Debian that adds to this Python: python3-dev or python3.12-dev."""
    default = os.path.realpath(sys.executable) == os.path.realpath('/usr/bin/python3')
    return 'python{}-{}'.format(3 if default else '{}.{}'.format(*sys.version_info), suffix)


def missing_packages(ros):
    """Return the packages of Debian or Ubuntu that are needed and are not here."""
    missing = []

    def need(there, package):
        if not there:
            missing.append(package)

    need(shutil.which('c++') or shutil.which('g++'), 'g++')  # the network for the CPU, messages
    need(importlib.util.find_spec('ensurepip'), of_python('venv'))
    if ros != 'none':
        header = os.path.join(sysconfig.get_paths()['include'], 'Python.h')
        need(os.path.exists(header), of_python('dev'))
        need(shutil.which('cmake'), 'cmake')
    if ros == 'sourced':
        need(shutil.which('colcon'), 'python3-colcon-common-extensions')
    return missing


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--ros', choices=['sourced', 'wheels', 'none'], default='wheels',
                        help='where ROS comes from')
    ros = parser.parse_args().ros
    reason = refusal(ros)
    if reason:
        sys.stderr.write(reason + '\n')
        return 1
    missing = missing_packages(ros)
    return subprocess.call([APT_INSTALL] + missing) if missing else 0


if __name__ == '__main__':
    sys.exit(main())
