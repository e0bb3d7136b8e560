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
Instructions that the demo model takes on ARM processors for a block of 80 ms, counted by qemu.

    python bench/arm.py [--processors cortex-a72 cortex-a76] [--blocks 4]

What the library for the CPU is called with is recorded here, after so much speech that all windows
are full, and repeated by a program for ARM under emulation. The difference between a run with and
one without the blocks is what they take. Needs g++-aarch64-linux-gnu and qemu-user.
"""

import argparse
from pathlib import Path
import sys
import tempfile

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # instead of bench/, where others would find kernels.py by its name

from bench import arm_machine  # noqa: E402
from bench.replay import Recorder  # noqa: E402
import numpy as np  # noqa: E402
import soundfile  # noqa: E402

from voxtral_ros.recognizer.engine import Engine  # noqa: E402

DEMO = ROOT / 'models' / 'voxtral-tiny-en'
BLOCK = 1280  # samples in 80 ms
DELAY = 6  # tokens, 480 ms


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().split('\n')[0])
    parser.add_argument('--model', type=Path, default=DEMO, help='[the demo model]')
    parser.add_argument('--processors', nargs='+', default=['cortex-a72', 'cortex-a76'],
                        metavar='NAME', help='of `qemu-aarch64 -cpu help` [cortex-a72 cortex-a76]')
    parser.add_argument('--instructions', metavar='NAME',
                        help='an instruction set [what the library chooses on each processor]')
    parser.add_argument('--blocks', type=int, default=4, help='to count [4]')
    arguments = parser.parse_args()
    missing = arm_machine.missing()
    if missing:
        sys.exit(f'arm.py: {missing}')
    recording = record(arguments.model, arguments.blocks)
    print('| processor | instructions | of a block of 80 ms |\n|---|---|---|')
    with tempfile.TemporaryDirectory() as folder:
        machine = arm_machine.CountingArm(Path(folder), arm_machine.build_library())
        for machine.processor in arguments.processors:
            (name, before), (_, after) = (
                machine.count(recording, n_calls, arguments.instructions)
                for n_calls in (1, recording.n_calls))
            per_block = (after - before) / arguments.blocks
            print(f'| {machine.processor} | {name} | {per_block / 1e6:.1f} M |', flush=True)


def record(model, n_blocks):
    """Return the calls for some blocks after the windows are full; the first is none of them."""
    samples, _ = soundfile.read(ROOT / 'test' / 'data' / 'orders.flac', dtype='float32')
    with Recorder() as recorder:
        engine = Engine.load(model, 'cpu', threads=1)
        config = engine.backend.config
        window = max(config.decoder.sliding_window,
                     config.encoder.sliding_window // config.downsample_factor)
        audio = np.resize(samples, (window + 2 * DELAY + n_blocks) * BLOCK)  # again and again
        slot = engine.take_slot(DELAY)
        slot.feed(audio[:-n_blocks * BLOCK])
        engine.process()
        recorder.start(engine.backend)
        for start in range(len(audio) - n_blocks * BLOCK, len(audio), BLOCK):
            slot.feed(audio[start:start + BLOCK])
            engine.process()
    return recorder.recording


if __name__ == '__main__':
    main()
