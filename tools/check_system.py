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
Check this machine before anything is downloaded: one message names all that is missing.

Exit code 0: all there. 1: something is missing or the Python is not supported.
Runs on any Python 3, so that an old one gets a sentence instead of a syntax error.
"""

import argparse
import ctypes.util
import importlib.util
import os
import platform
import shutil
import sys
import sysconfig

OLDEST, NEWEST = (3, 10), (3, 13)
WHEELS_FOR = ('x86_64',)


def missing_packages(use_sourced_ros):
    """Return the Debian or Ubuntu packages to install, each with what it is for."""
    missing = []

    def need(there, package, reason):
        if not there:
            missing.append((package, reason))

    need(shutil.which('c++') or shutil.which('g++'), 'g++', 'C++ compiler for the ROS messages')
    need(shutil.which('cmake'), 'cmake', 'builds the ROS package')
    header = os.path.join(sysconfig.get_paths()['include'], 'Python.h')
    need(os.path.exists(header), 'python3-dev', 'Python.h for the ROS messages')
    need(importlib.util.find_spec('ensurepip'), 'python3-venv', 'virtual environments')
    need(ctypes.util.find_library('portaudio'), 'libportaudio2', 'microphones')
    if use_sourced_ros:
        need(shutil.which('colcon'), 'python3-colcon-common-extensions', 'builds the ROS package')
    return missing


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--sourced-ros', action='store_true', help='ROS comes from apt')
    arguments = parser.parse_args()
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        print('voxtral_ros needs Python {}.{} to {}.{}, but {} is {}.{}: '
              'choose another one with  make PYTHON=python3.12 ...'.format(
                  *OLDEST, *NEWEST, sys.executable, *sys.version_info[:2]), file=sys.stderr)
        return 1
    if not arguments.sourced_ros and platform.machine() not in WHEELS_FOR:
        print('ROS is not sourced, and there are wheels of it for {} only, not for {}: install '
              'ROS 2 from apt and source it'.format(' and '.join(WHEELS_FOR), platform.machine()),
              file=sys.stderr)
        return 1
    missing = missing_packages(arguments.sourced_ros)
    if missing:
        needs = ', '.join('{} ({})'.format(*item) for item in missing)
        packages = ' '.join(package for package, _ in missing)
        print('Missing on this machine: {}. Install with: sudo apt-get install {}'.format(
            needs, packages), file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
