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
Measure the memory of quantizing, loading or exporting a checkpoint, in a process of its own.

    python measured.py quantize SOURCE TARGET ROUNDING ENCODER_BITS HEAD_BITS
    python measured.py load FOLDER DTYPE
    python measured.py export SOURCE TARGET DTYPE

What counts is anonymous memory, RssAnon, looked at every millisecond: what a process really takes.
All resident memory would also count pages of files, which the kernel drops when it wants to.
"""

import json
import subprocess
import sys
import threading
import time


def measure(*arguments, environment=None):
    """
    Run this module with these arguments and return what it prints.

    :return: bytes of the result in memory, 'peak' bytes above those at the start, and 'seconds'
    """
    run = subprocess.run([sys.executable, __file__, *map(str, arguments)], check=True,
                         stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(run.stdout)


class Peak:
    """Watches the anonymous memory of this process while the context is open."""

    def __enter__(self):
        self._start = self._highest = self._now()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._done.set()
        self._thread.join()

    @property
    def nbytes(self):
        return self._highest - self._start

    def _watch(self):
        while not self._done.wait(0.001):
            self._highest = max(self._highest, self._now())

    @staticmethod
    def _now():
        with open('/proc/self/status', encoding='ascii') as status:
            return next(1024 * int(line.split()[1]) for line in status
                        if line.startswith('RssAnon'))


def main():
    import torch

    from voxtral_ros.model.export import export
    from voxtral_ros.model.loading import load_network
    from voxtral_ros.quantization.quantizer import quantize, Recipe
    torch.set_num_threads(1)
    work, folder, *options = sys.argv[1:]
    result, begin = 0, time.perf_counter()
    with Peak() as peak:
        if work == 'load':
            network = load_network(folder, dtype=getattr(torch, options[0]))
            result = sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))
        elif work == 'export':
            result = export(folder, options[0], getattr(torch, options[1]))
        else:
            quantize(folder, options[0], Recipe(options[1], int(options[2]), int(options[3])))
    print(json.dumps({'result': result, 'peak': peak.nbytes,
                      'seconds': time.perf_counter() - begin}))


if __name__ == '__main__':
    main()
