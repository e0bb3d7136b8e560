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
Robots in real time on several servers: what a server that dies or is stopped costs them.

    source .venv/ros.bash && PYTHONPATH=.:$PYTHONPATH python bench/fleet.py
    ... python bench/fleet.py --arrangements one haproxy-killed --seconds 60

Needs haproxy and nginx (the Debian packages), which run with the files of config/fleet; for the
machine that vanishes, a network namespace, it must run as root. Servers are `voxtral serve` with
the demo model on this machine, robots the real client (RemoteEngine). Each robot hears an order
once in a while, at times of its own, and the noise of a room (-60 dBFS) all the time. In the
middle, when most of them are being spoken to, something happens to the first server.

A word is right if it stands where it stands in the text that the same robot gets from a server
that has nothing else to do. The delay of a word counts from where it ends in the audio to when the
client has it, so the delay of the model (480 ms) is in it. Robots are "cut off" if they lost their
connection, "the others" if not.

    python bench/fleet.py --sizes       how many robots a GPU, a machine and a rack serve
"""

import argparse
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from difflib import SequenceMatcher
import os
from pathlib import Path
import platform
import re
import signal
import subprocess
import sys
import time
from urllib.request import urlopen

sys.path[0] = str(Path(__file__).resolve().parents[1])  # instead of bench/

from bench.balancers import free_port, haproxy, Machine, nginx, program  # noqa: E402
from bench.fleet_sizes import print_sizes  # noqa: E402
from bench.machine import processor  # noqa: E402
from bench.server import BLOCK_S, ORDERS, Session, split  # noqa: E402
import numpy as np  # noqa: E402
import soundfile  # noqa: E402

from voxtral_ros.client.engine import RemoteEngine  # noqa: E402
from voxtral_ros.evaluation.word_error_rate import normalize  # noqa: E402
from voxtral_ros.recognizer.events import Transcript  # noqa: E402

REFERENCE_SPEED = 6  # times real time, one robot at a time
POLL_S = 0.02
END_S = 60.0  # for the last texts
LEVEL = 10 ** (-40 / 20)  # RMS of a block in which somebody speaks
OPTIONS = '--threads', '1', '--max-streams', '12', '--max-sessions', '24', '--idle-slot-s', '1'

# ---- servers and what stands before them ----


class Server:
    """One `voxtral serve`, which may be started again where it was."""

    def __init__(self, machine=None):
        self.machine, self.port = machine, free_port()
        self.host = machine.ADDRESS if machine else '127.0.0.1'
        self.start()

    @property
    def address(self):
        return f'{self.host}:{self.port}'

    @property
    def url(self):
        return f'ws://{self.address}/v1/realtime'

    def start(self):
        self.process = subprocess.Popen(
            [*(self.machine.prefix if self.machine else ()), sys.executable, '-m', 'voxtral_ros',
             'serve', '--host', self.host, '--port', str(self.port), *OPTIONS],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = self.process.stdout.readline()
        if 'ws://' not in line:
            raise RuntimeError(f'the server did not start: {line!r}')

    def send(self, name):
        self.process.send_signal(name)

    def end(self):
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def audio_s(self):
        """Return the seconds of audio that came and those that were given to the model."""
        with urlopen(f'http://{self.address}/metrics') as answer:
            text = answer.read().decode()
        came, skipped = (float(re.search(rf'^voxtral_{name}_total (\S+)', text, re.M)[1])
                         for name in ('audio_seconds', 'skipped_audio_seconds'))
        return came, came - skipped


# ---- robots ----

@dataclass(eq=False)
class Robot:
    """What a robot hears and what it got."""

    blocks: np.ndarray  # [n, 1280]
    phase_s: float
    expected: list = field(default_factory=list)  # words
    stream: object = None
    finals: list = field(default_factory=list)
    words: dict = field(default_factory=dict)  # utterance: words that have come
    delays: list = field(default_factory=list)  # when a word came, s after its end
    waited_s: float = 0.0  # of speech without its whole text when something happened

    def speaks(self, n):
        """Return whether somebody speaks to it in block n and in the half second before."""
        part = self.blocks[max(0, n - 6):n + 1]
        return bool((np.sqrt((part ** 2).mean(-1)) > LEVEL).all())

    def take(self, events, begin=None):
        """Note what has come; with a begin, how late it is."""
        now = time.monotonic()
        for event in events:
            if not isinstance(event, Transcript):
                continue
            if event.is_final:
                self.finals.append(event.text)
            n_before = self.words.get(event.utterance_id, 0)
            self.words[event.utterance_id] = len(event.words)
            if begin is not None:
                self.delays += [(now - begin, now - begin - self.phase_s - word.end_s)
                                for word in event.words[n_before:]]

    @property
    def text(self):
        return normalize(' '.join(self.finals))


def robots(n, seconds, share):
    parts, _ = split(soundfile.read(ORDERS, dtype='float32')[0])
    made = []
    for k in range(n):
        session = Session(k, seconds)
        session.hear(parts, share, k)
        made.append(Robot(session.blocks, session.phase_s))
    return made


def find_expected(fleet):
    """Let a server with nothing else to do say what each robot should get."""
    server = Server()
    try:
        for robot in fleet:
            alone = Robot(robot.blocks, 0.0, stream=RemoteEngine(server.url).open())
            begin = time.monotonic()
            for n, block in enumerate(robot.blocks):
                time.sleep(max(0.0, begin + n * BLOCK_S / REFERENCE_SPEED - time.monotonic()))
                alone.stream.feed(block)
                alone.take(alone.stream.poll())
            alone.take(alone.stream.close(END_S))
            robot.expected = alone.text
    finally:
        server.end()


def listen(fleet, urls, at_block, happens):
    """Run all robots; return when, after the begin, something happened."""
    for robot, url in zip(fleet, urls, strict=True):
        robot.stream = RemoteEngine(url).open()
    while not all(robot.stream.link.state == 'connected' for robot in fleet):
        time.sleep(POLL_S)
    begin, happened = time.monotonic(), None
    plan = sorted((robot.phase_s + (n + 1) * BLOCK_S, n, k) for k, robot in enumerate(fleet)
                  for n in range(len(robot.blocks)))
    for due_s, n, k in plan:
        while (left_s := begin + due_s - time.monotonic()) > 0:
            for robot in fleet:
                robot.take(robot.stream.poll(), begin)
            time.sleep(min(POLL_S, max(0.0, left_s)))
        if n == at_block and happened is None:
            happened = time.monotonic() - begin
            for robot in fleet:
                robot.waited_s = robot.stream.link.waiting_s
            happens()
        fleet[k].stream.feed(fleet[k].blocks[n])
    for robot in fleet:
        robot.take(robot.stream.poll(), begin)
        robot.stream.flush()
    end = time.monotonic() + END_S
    while any(robot.stream.link.waiting_s for robot in fleet) and time.monotonic() < end:
        for robot in fleet:
            robot.take(robot.stream.poll(), begin)
        time.sleep(POLL_S)
    for robot in fleet:
        robot.take(robot.stream.close(1.0), begin)
    return happened


# ---- arrangements ----

def nothing(_):
    pass


def killed(servers):
    servers[0].send(signal.SIGKILL)


def hung(servers):
    servers[0].send(signal.SIGSTOP)


def gone(servers):
    servers[0].machine.vanish()


def drained(servers):
    servers[0].send(signal.SIGTERM)


# name: (what it is, servers, what stands before them, what happens to the first server)
ARRANGEMENTS = {
    'one': ('one server', 1, None, nothing),
    'haproxy': ('two behind HAProxy', 2, haproxy, nothing),
    'haproxy-killed': ('two behind HAProxy, one killed (SIGKILL)', 2, haproxy, killed),
    'haproxy-drained': ('two behind HAProxy, one stopped (SIGTERM)', 2, haproxy, drained),
    'haproxy-hung': ('two behind HAProxy, one hangs (SIGSTOP)', 2, haproxy, hung),
    'haproxy-gone': ('two behind HAProxy, the machine of one vanishes', 2, haproxy, gone),
    'list': ('two, robots have a list of both', 2, None, nothing),
    'list-killed': ('two, robots have a list of both, one killed (SIGKILL)', 2, None, killed),
    'nginx': ('two behind nginx', 2, nginx, nothing),
    'nginx-killed': ('two behind nginx, one killed (SIGKILL)', 2, nginx, killed),
}


def measure(name, fleet, at_block):
    """Print the row of one arrangement."""
    title, n_servers, balancer, happens = ARRANGEMENTS[name]
    load = os.getloadavg()[0]
    fleet = [Robot(robot.blocks, robot.phase_s, robot.expected) for robot in fleet]
    with ExitStack() as stack:
        servers = []
        machine = None
        if happens is gone:
            machine = Machine()
            stack.callback(machine.close)
        for _ in range(n_servers):
            servers.append(Server(machine if not servers else None))
            stack.callback(servers[-1].end)
        if balancer:
            bind = stack.enter_context(balancer([server.address for server in servers]))
            urls = [[f'ws://{bind}/v1/realtime']] * len(fleet)
        else:  # all of them, half of the robots in the other order
            urls = [[server.url for server in servers[::1 - 2 * (k % 2)]]
                    for k in range(len(fleet))]
        happened = listen(fleet, urls, at_block, lambda: happens(servers))
        given = '' if happens is not nothing else f'{_given(servers, fleet):.0%}'
    row(title, fleet, happened, given, (load, os.getloadavg()[0]))


def _given(servers, fleet):
    """Return the share of the robots' audio that the models were given."""
    heard_s = sum(len(robot.blocks) * BLOCK_S for robot in fleet)
    return sum(server.audio_s()[1] for server in servers) / heard_s


HEADS = ('arrangement', 'words right', 'missing', 'too many', 'lost audio', 'delay of a word: p50',
         'p95', 'max', 'cut off (while spoken to)', 'of the others: p95 afterwards',
         'audio given to the models', 'load average')


def row(title, fleet, happened, given, load):
    n_expected = sum(len(robot.expected) for robot in fleet)
    n_got = sum(len(robot.text) for robot in fleet)
    n_right = sum(block.size for robot in fleet for block in SequenceMatcher(
        None, robot.expected, robot.text, autojunk=False).get_matching_blocks())
    cut = [robot for robot in fleet if robot.stream.link.connects > 1]
    others = [delay for robot in fleet if robot not in cut
              for when, delay in robot.delays if happened <= when < happened + 20]
    delays = np.array([delay for robot in fleet for _, delay in robot.delays])
    lost_s = sum(robot.stream.link.dropped_s for robot in fleet)
    p50, p95 = np.percentile(delays, (50, 95))
    print('|', ' | '.join((
        title, f'{n_right} of {n_expected}', str(n_expected - n_right), str(n_got - n_right),
        f'{lost_s:.1f} s', f'{p50:.2f} s', f'{p95:.2f} s', f'{delays.max():.2f} s',
        f'{len(cut)} of {len(fleet)} ({sum(robot.waited_s > 0 for robot in cut)})',
        f'{np.percentile(others, 95):.2f} s' if others else '', given,
        f'{load[0]:.1f} - {load[1]:.1f}')), '|', flush=True)
    for robot in fleet:
        if robot.text != robot.expected:
            print(f'<!-- {" ".join(robot.text)} / {" ".join(robot.expected)} -->', flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--arrangements', nargs='+', default=list(ARRANGEMENTS),
                        choices=ARRANGEMENTS, metavar='NAME', help=' '.join(ARRANGEMENTS))
    parser.add_argument('--robots', type=int, default=12, help='[12]')
    parser.add_argument('--seconds', type=float, default=40, help='of audio per robot [40]')
    parser.add_argument('--speech', type=float, default=0.2, help='share of their audio [0.2]')
    parser.add_argument('--sizes', action='store_true', help='print the table of sizes, and exit')
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and end all that was started
    if arguments.sizes:
        print_sizes()
        return
    print(f'{processor()}, {os.cpu_count()} cores for servers, balancer and robots; one thread a '
          f'server; Python {platform.python_version()}; {arguments.robots} robots, '
          f'{arguments.seconds:g} s of audio each, {arguments.speech:.0%} speech\n', flush=True)
    if 'haproxy-gone' in arguments.arrangements and os.geteuid():
        raise SystemExit('only root can let a machine vanish: choose other --arrangements')
    for name in {balancer.__name__ for balancer in (
            ARRANGEMENTS[name][2] for name in arguments.arrangements) if balancer}:
        if not program(name):
            raise SystemExit(f'{name} is missing: sudo apt-get install {name}')
    fleet = robots(arguments.robots, arguments.seconds, arguments.speech)
    find_expected(fleet)
    n_blocks = len(fleet[0].blocks)
    at_block = max(range(round(0.4 * n_blocks), round(0.6 * n_blocks)),
                   key=lambda n: sum(robot.speaks(n) for robot in fleet))
    print(f'| {" | ".join(HEADS)} |\n{"|---" * len(HEADS)}|', flush=True)
    for name in arguments.arrangements:
        measure(name, fleet, at_block)


if __name__ == '__main__':
    main()
