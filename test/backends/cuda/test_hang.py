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

"""A process whose GPU never comes back can be replaced, and the new one has the GPU."""

import subprocess
import sys

from support.cuda import on_gpu

SCRIPT = """
import os
import threading
import time

import torch

from voxtral_ros.node.process import _start_anew

if 'AGAIN' not in os.environ:
    os.environ['AGAIN'] = 'yes'
    torch.zeros(1, device='cuda')
    torch.cuda._sleep(1 << 62)  # a kernel that never ends
    threading.Thread(target=torch.cuda.synchronize, daemon=True).start()
    time.sleep(2)
    _start_anew()
print(os.getpid(), torch.full((8,), 2.0, device='cuda').sum().item())
"""


@on_gpu
def test_a_process_with_a_kernel_that_never_ends_is_replaced():
    with subprocess.Popen([sys.executable, '-c', SCRIPT], text=True,
                          stdout=subprocess.PIPE) as process:
        try:
            out, _ = process.communicate(timeout=120)
        finally:
            process.kill()
        assert (process.returncode, out.split()) == (0, [str(process.pid), '16.0'])
