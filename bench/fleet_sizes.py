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
How many robots a GPU, a machine and a rack serve, computed from the tables in bench/results.

    python bench/fleet.py --sizes

A server computes 80 ms of audio of all streams in one pass, and takes clients up to 64 ms. A pass
over n streams takes what step.md has for n (an H200, all windows full), and the host, in the same
thread, its part for each of them (stream_cpu.md: voice activity and rest). Robots that are not
spoken to need no stream. So many may be connected that at most one turn in a hundred finds no
stream free, if their turns are independent of each other: a binomial distribution.
"""

from itertools import pairwise
from math import exp, lgamma, log
from pathlib import Path
import re

RESULTS = Path(__file__).resolve().parent / 'results'
BLOCK_MS, TAKEN = 80.0, 0.8  # of it a server takes clients up to so much: recognizer/admission.py
WEIGHTS_GB, STREAM_GB = 2.87, 1.11  # compact; a KV cache with the window of the model
WAITS = 0.01
N_GPUS, N_MACHINES = 8, 4  # in a machine; in a rack
AROUND_S = 1.8 + 1.0  # the client's pre-roll and pause; --idle-slot-s 1
# What is said to a robot: turns of 5 s, so many an hour.
TURN_S, TURNS = 5.0, {'a turn a minute': 60, 'four turns a minute': 240}


def pass_ms():
    """Return what passes take, KV caches in 16 bits: {streams: (p50, p99)}."""
    page = (RESULTS / 'step.md').read_text(encoding='utf-8')
    table = page.split('## Many streams, compact')[1].split('\n## ')[0]
    rows = re.findall(r'^\| (\d+) \| ([\d.]+) ms \(([\d.]+)\)', table, re.M)
    return {int(n): (float(p50), float(p99)) for n, p50, p99 in rows}


def host_ms():
    """Return what the host does for 80 ms of one stream, voice activity alone and all of it."""
    page = (RESULTS / 'stream_cpu.md').read_text(encoding='utf-8')
    found = re.search(r'voice activity ([\d.]+), mel [\d.]+, .* rest ([\d.]+)\.', page)
    voice, rest = map(float, found.groups())
    return voice, voice + rest


def streams_within(limit_ms, stream_ms=0.0):
    """Return for how many streams a pass, and so much more for each of them, is within a limit."""
    known = sorted((n, p50) for n, (p50, _) in pass_ms().items())

    def pass_of(n):
        (n0, t0), (n1, t1) = next(
            ((a, b) for a, b in pairwise(known) if n <= b[0]), known[-2:])
        # Below the least that was measured: in proportion, which a pass over few does not reach.
        return t0 * n / n0 if n < n0 else t0 + (t1 - t0) * (n - n0) / (n1 - n0)
    n = 0
    while pass_of(n + 1) + (n + 1) * stream_ms <= limit_ms:
        n += 1
    return n


def connected(n_streams, share):
    """Return how many robots, each busy for a share of the time, find a stream free."""
    if share >= 1.0:
        return n_streams
    n = n_streams
    while _more_than(n_streams, n, share) <= WAITS:
        n += 1
    return n  # for the last one there are n - 1 others


def _more_than(n_streams, n, share):
    """Return how probable it is that all streams are taken by n others."""
    return sum(exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
                   + k * log(share) + (n - k) * log(1 - share)) for k in range(n_streams, n + 1))


def print_sizes():
    """Print the tables of docs/fleet.md."""
    voice_ms, stream_ms = host_ms()
    limit_ms = TAKEN * BLOCK_MS
    n_streams = streams_within(limit_ms, stream_ms)
    most = max(n for n, (_, p99) in pass_ms().items() if p99 <= BLOCK_MS)
    print('| one H200 | streams |\n|---|---|\n'
          f'| passes alone within 80 ms, 99 of 100 | {most} |\n'
          f'| passes alone within {limit_ms:.0f} ms, up to which a server takes clients | '
          f'{streams_within(limit_ms)} |\n'
          f'| and {stream_ms:.2f} ms of the host for each stream, in one thread | {n_streams} |\n'
          f'\n{WEIGHTS_GB:g} GB of weights and {n_streams} KV caches of {STREAM_GB:g} GB: '
          f'{WEIGHTS_GB + n_streams * STREAM_GB:.0f} GB.\nClients that send silence, too: '
          f'{int(limit_ms / voice_ms)}, if nobody speaks to any ({voice_ms:.2f} ms each).\n')
    shares = {name: n * (TURN_S + AROUND_S) / 3600 for name, n in TURNS.items()}
    heads = [f'robots, {name} ({share:.0%})' for name, share in shares.items()]
    print(f'| servers | streams | {" | ".join(heads)} | all the time |\n|---|---|'
          f'{"---|" * len(heads)}---|')
    rack = N_GPUS * N_MACHINES
    for name, n in (('one GPU', 1), (f'a machine with {N_GPUS}', N_GPUS),
                    (f'a rack of {N_MACHINES} machines', rack),
                    ('the rack, while one machine is away', rack - N_GPUS)):
        counts = [n * connected(n_streams, share) for share in (*shares.values(), 1.0)]
        print(f'| {name} | {n * n_streams:,} | {" | ".join(f"{count:,}" for count in counts)} |')
