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

"""Tests with ROS run in a domain of their own, on this machine alone: importing this takes one."""

import fcntl
import os
from pathlib import Path
import tempfile


def _take_domain():
    """Return a ROS domain that no other run of the tests has; its lock ends with the process."""
    for domain in range(20, 100):  # higher ones get into the way of ephemeral ports
        path = Path(tempfile.gettempdir(), f'ros_domain_{domain}.lock')
        lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
        else:
            return domain
    raise RuntimeError('all ROS domains from 20 to 99 are taken by other runs of the tests')


os.environ['ROS_DOMAIN_ID'] = str(_take_domain())
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
