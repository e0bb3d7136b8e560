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

"""An example as a process of its own, started as its first lines say."""

from contextlib import contextmanager
from pathlib import Path
import subprocess
import sys

from support.processes import ends_with_us

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / 'examples'
ORDERS = ROOT / 'test' / 'data' / 'orders.flac'
FIRST_ORDER = 'robot go to the kitchen and bring me the red cup'


def command(name, *arguments):
    return [*ends_with_us(), sys.executable, str(EXAMPLES / name), *map(str, arguments)]


def run(name, *arguments):
    """Run an example to its end; return exit code, standard output and standard error."""
    done = subprocess.run(command(name, *arguments), capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout, done.stderr


@contextmanager
def running(name, *arguments):
    """Run an example beside the test; yield its process."""
    process = subprocess.Popen(command(name, *arguments), stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
