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

What boards may be expected to do with that is an estimate: at best a block takes the longer one of
instructions at the higher rate and bytes at the bandwidth of one core, at worst the sum of both
with instructions at the lower rate.
"""

import argparse
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Board:
    """A processor as its makers and others describe it; docs/cpu.md says who."""

    name: str
    core: str
    like: str  # what qemu knows that has the same instructions
    ghz: float
    per_cycle: tuple[float, float]  # instructions, low and high
    gb_per_s: float  # that one core reads

    def ms(self, instructions, n_bytes):
        """Return what a block may take, low and high."""
        slow, fast = (1000 * instructions / (rate * self.ghz * 1e9) for rate in self.per_cycle)
        memory = 1000 * n_bytes / (self.gb_per_s * 1e9)
        return max(fast, memory), slow + memory


BOARDS = [
    Board('Raspberry Pi 4', 'Cortex-A72', 'cortex-a72', 1.8, (0.8, 1.5), 4.8),
    Board('Raspberry Pi 5', 'Cortex-A76', 'cortex-a76', 2.4, (1.5, 2.5), 9),
    Board('Orin Nano', 'Cortex-A78AE', 'cortex-a76', 1.5, (1.5, 2.5), 9),
    Board('AGX Orin', 'Cortex-A78AE', 'cortex-a76', 2.2, (1.5, 2.5), 9),
]


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
    recording, n_bytes = record(arguments.model, arguments.blocks)
    print('| processor | instruction set | instructions of a block of 80 ms |\n|---|---|---|')
    counts = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            machine = arm_machine.CountingArm(Path(folder), arm_machine.build_library())
        except RuntimeError as error:
            sys.exit(f'arm.py: {error}')
        for machine.processor in arguments.processors:
            (name, before), (_, after) = (
                machine.count(recording, n_calls, arguments.instructions)
                for n_calls in (1, recording.n_calls))
            counts[machine.processor] = (after - before) / arguments.blocks
            print(f'| {machine.processor} | {name} | {counts[machine.processor] / 1e6:.1f} M |',
                  flush=True)
    print(f'\nWeights and KV caches: {n_bytes / 1e6:.1f} MB. An estimate of the passes:\n\n'
          '| board | core | of 80 ms | of one core |\n|---|---|---|---|')
    for board in BOARDS:
        if board.like in counts:
            low, high = board.ms(counts[board.like], n_bytes)
            print(f'| {board.name} | {board.core}, {board.ghz} GHz | {low:.0f} to {high:.0f} ms '
                  f'| {100 * low / 80:.0f} to {100 * high / 80:.0f} % |')


def record(model, n_blocks):
    """
    Return the calls for some blocks after the windows are full, and the bytes that a block reads.

    The first call is not of a block.
    """
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
        recorder.start()
        for start in range(len(audio) - n_blocks * BLOCK, len(audio), BLOCK):
            slot.feed(audio[start:start + BLOCK])
            engine.process()
    weights = engine.backend.weight_bytes
    return recorder.recording, (
        weights.encoder + weights.decoder + weights.head + engine.backend.cache_bytes)


if __name__ == '__main__':
    main()
