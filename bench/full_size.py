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
A model of full size, end to end: written, quantized, run by the node and by the server.

    source .venv/ros.bash && source $VOXTRAL_OVERLAYS/ros_drivers/install/local_setup.bash
    PYTHONPATH=.:$PYTHONPATH python bench/full_size.py --folder DIR [--out DIR] [--tiny]

demo       the demo model, by the node and by the server, against its words on the CPU
write      a random checkpoint in BF16 with the sizes of Voxtral Mini 4B Realtime, 8.9 GB
quantize   `voxtral quantize` to both layouts, at the same time, while the demo model runs
complete   what was not quantized in time is written in its packed form
node       the node, each layout: configured, activated, fed by a topic, deactivated, cleaned up,
           again and again; seconds, and memory of the host and of the GPU
windows    the node, configured once with other windows: memory
serve      `voxtral serve` with many sessions, each in real time

Takes 16 GB on the disk, and minutes. The model is random, and so are its words. What fails does
not keep the other parts from running; a part that lacks what one before should have made fails.
"""

import argparse
from contextlib import contextmanager
from difflib import SequenceMatcher
from functools import partial
import json
import os
from pathlib import Path
import platform
import shutil
import signal
import subprocess
import sys
import time
import traceback

sys.path[0] = str(Path(__file__).resolve().parents[1])  # instead of bench/

from bench import server  # noqa: E402
from bench.machine import processor  # noqa: E402
from bench.memory_use import of_gpu, of_process, Samples  # noqa: E402
from bench.random_checkpoints import real_params, tiny_params, write_large_checkpoint  # noqa: E402
import numpy as np  # noqa: E402
import soundfile  # noqa: E402
import torch  # noqa: E402

from voxtral_ros.backends.cuda.memory import plan_memory  # noqa: E402
from voxtral_ros.model.checkpoint import open_weights  # noqa: E402
from voxtral_ros.quantization.format import Recipe  # noqa: E402
from voxtral_ros.quantization.tensors import TORCH_DTYPES  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / 'test' / 'data'
LAYOUTS = {'compact': ('--encoder-bits', '8', '--head-bits', '4'), 'original': ()}
RECIPES = {'compact': Recipe(encoder_bits=8, head_bits=4), 'original': Recipe()}
WEIGHTS = 'consolidated.safetensors'
RATE = 16000  # Hz
CHUNK = 6  # tokens that one pass of the node may take
TINY = {'dim': 256, 'n_layers': 2, 'head_dim': 128, 'hidden_dim': 512, 'n_heads': 4,
        'n_kv_heads': 2, 'vocab_size': 32768, 'sliding_window': 100,
        'encoder': {'dim': 256, 'n_layers': 2, 'head_dim': 64, 'hidden_dim': 512, 'n_heads': 4,
                    'n_kv_heads': 4, 'vocab_size': 32768, 'sliding_window': 64}}


class Bench:
    """Folders, results and the clock of one run."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.folder, self.out = arguments.folder, arguments.out
        self.device = 'cuda' if torch.cuda.is_available() else 'cpu'
        self.params = tiny_params(**TINY) if arguments.tiny else real_params()
        self.results = {}
        self.begin_s = time.monotonic()

    def log(self, text):
        print(f'[{time.monotonic() - self.begin_s:6.1f} s] {text}', flush=True)

    def run(self, name, part, limit_s):
        """Run a part, with a limit of time; an error is written down, and that is all."""
        left_s = self.arguments.limit_s - (time.monotonic() - self.begin_s)
        if left_s < 5:
            self.results[name] = {'error': 'no time was left'}
            self.log(f'{name}: no time is left')
            return
        self.log(f'---- {name}')
        result = self.results[name] = {}  # a part that fails leaves what it has by then
        try:
            with at_most(min(limit_s, left_s)):
                part(result)
        except BaseException as error:
            result['error'] = f'{type(error).__name__}: {error}'
            self.log(f'{name} FAILED\n{traceback.format_exc()}')
        self.save()

    def save(self):
        (self.out / 'full_size.json').write_text(json.dumps(self.results, indent=1))

    def memory(self, pid):
        """Return the memory of a process, and of the GPU if there is one."""
        return of_process(pid) | (of_gpu() if self.device == 'cuda' else {})

    # ---- parts ----

    def machine(self, result):
        result.update(processor=processor(), cores=os.cpu_count(), torch=torch.__version__,
                      python=platform.python_version(), device=self.device,
                      disk_gb=shutil.disk_usage(self.folder).free / 1e9,
                      gpu=torch.cuda.get_device_name() if self.device == 'cuda' else '')
        self.log(json.dumps(result))

    def ros(self, result):
        # Here, so that the parts without a node run where there is no ROS.
        from bench.asr_process import local_ros
        local_ros()

    def demo(self, result):
        session = server.Session(0, 15)
        audio = np.append(session.blocks, np.zeros(RATE, np.float32))
        path = self.out / 'orders.wav'
        soundfile.write(path, audio, RATE)
        for device in dict.fromkeys(('cpu', self.device)):
            printed = subprocess.run(
                [sys.executable, '-m', 'voxtral_ros', 'transcribe', '--device', device, path],
                check=True, stdout=subprocess.PIPE, text=True).stdout
            self.compare(result, f'file on {device}', ' '.join(printed.split()))
        with self.asr(audio_queue_s=120.0) as node:
            row = {'configure_s': node.change('configure')}
            node.change('activate')
            since_s = node.play(audio, speed=4.0)
            row['first_word_s'] = node.first_word_s(since_s, 20)
            node.change('deactivate')
            node.change('cleanup')
        self.note(result.setdefault('node', {}), **row)
        self.compare(result, f'node on {self.device}', ' '.join(node.finals))
        server.through_socket([session], '--device', self.device)
        self.compare(result, f'server on {self.device}', session.text)

    def compare(self, result, way, text):
        """Note a text, and how many words it has otherwise than the file on the CPU."""
        expected = result['file on cpu']['text'] if result else text
        self.note(result.setdefault(way, {}), text=text,
                  words_that_differ=difference(expected.split(), text.split()))

    def write(self, result):
        begin_s = time.monotonic()
        with self.sampled(os.getpid()) as samples, samples.peak() as peak:
            before = samples.now()['anon']
            write_large_checkpoint(self.folder / 'bf16', self.params, device=self.device)
        self.note(result, seconds=time.monotonic() - begin_s,
                  gigabytes=weight_bytes(self.folder / 'bf16') / 1e9,
                  peak_anon_gb=(peak['anon'] - before) / 1e9)

    def begin_quantizing(self):
        """Begin both, each in a process of its own."""
        self.quantizing = {layout: self.begin(
            layout, 'quantize', '--model-dir', self.folder / 'bf16', '--output-dir',
            self.folder / layout, *options) for layout, options in LAYOUTS.items()}

    def quantize(self, result):
        for layout, (process, samples) in self.quantizing.items():
            try:
                code = process.wait()
            finally:
                process.kill()
                samples.close()
                self.note(result.setdefault(layout, {}), seconds=samples.rows[-1][0],
                          peak_anon_gb=max(row['anon'] for _, row in samples.rows) / 1e9)
            self.note(result[layout], code=code,
                      gigabytes=weight_bytes(self.folder / layout) / 1e9)

    def complete(self, result):
        """Write what was not quantized in time, so that the other parts can go on."""
        for process, _ in self.quantizing.values():
            process.kill()
            process.wait()
        for layout, recipe in RECIPES.items():
            if not (self.folder / layout / WEIGHTS).exists():
                begin_s = time.monotonic()
                write_large_checkpoint(self.folder / layout, self.params, recipe,
                                       device=self.device)
                self.note(result.setdefault(layout, {}), written_s=time.monotonic() - begin_s)

    def node(self, layout, rounds, result):
        folder = self.folder / layout
        with self.asr(model=folder, audio_queue_s=120.0) as node, \
                self.sampled(node.process.pid) as samples:
            before = samples.now()
            self.note(result, file_gb=weight_bytes(folder) / 1e9, unconfigured=in_gb(before))
            for n in range(rounds):
                row = self.round(node, samples, before, weight_bytes(folder), first=n == 0)
                self.note(row)
                result.setdefault('rounds', []).append(row)
        result['samples'] = [(round(at_s, 2), in_gb(values)) for at_s, values in samples.rows[::4]]
        result['marks'] = samples.marks

    def round(self, node, samples, before, file_bytes, first):  # noqa: A003
        """Take the node through its states once; return seconds and memory."""
        node.finals.clear()
        row = {}
        with samples.peak() as loading:
            samples.mark('configure')
            row['configure_s'] = node.change('configure')
        row['configured'] = in_gb(samples.now())
        with samples.peak() as working:
            row['activate_s'] = node.change('activate')
            samples.mark('audio')
            audio = speech(6.0)
            since_s = node.play(audio, speed=1.0 if first else 4.0)
            try:
                row['first_word_s'] = node.first_word_s(since_s, 15)
            except TimeoutError as error:  # random words: perhaps none
                self.log(f'{error}')
            row['deactivate_s'] = node.change('deactivate')
        samples.mark('cleanup')
        row['cleanup_s'] = node.change('cleanup')
        row['loading'], row['working'] = in_gb(loading), in_gb(working)
        taken = loading['anon + device'] - both(before)
        row['loading_over_file_gb'] = (taken - file_bytes) / 1e9
        row['after'] = in_gb(samples.now())
        row['finals'], row['words'] = len(node.finals), sum(len(t.split()) for t in node.finals)
        row['text'] = ' '.join(node.finals)[:60]
        return row

    def windows(self, layout, result):
        folder = self.folder / layout
        for window in (100, 64) if self.arguments.tiny else (8192, 4096, 2048):
            with self.asr(model=folder, engine__window=window) as node, \
                    self.sampled(node.process.pid) as samples:
                before = samples.now()
                with samples.peak() as peak:
                    seconds = node.change('configure')
                before['anon + device'] = both(before)
                after = samples.now()
                after['anon + device'] = both(after)
                self.note(result.setdefault(str(window), {}), configure_s=seconds,
                          more_at_peak=in_gb(less(peak, before)),
                          more_afterwards=in_gb(less(after, before)))
        for window, row in result.items():
            self.note(row, plan_gb=planned(folder, int(window)) / 1e9)

    def serve(self, result):
        n_sessions, seconds = self.arguments.sessions, self.arguments.seconds
        sessions = [server.Session(n, seconds) for n in range(n_sessions)]
        metrics = server.through_socket(
            sessions, '--model', self.folder / 'compact', '--device', self.device,
            '--max-streams', n_sessions)
        delays_ms = 1000 * np.concatenate([session.delays_s() for session in sessions])
        self.note(result, sessions=n_sessions, audio_s=seconds,
                  words=sum(len(session.text.split()) for session in sessions),
                  sessions_with_words=sum(bool(session.text) for session in sessions),
                  tail_s=max(session.tail_s for session in sessions),
                  engine_busy=metrics['voxtral_compute_seconds_total'] / seconds)
        if len(delays_ms):
            p50, p95, p99 = np.percentile(delays_ms, (50, 95, 99))
            self.note(result, delay_p50_ms=p50, delay_p95_ms=p95, delay_p99_ms=p99,
                      delay_max_ms=delays_ms.max())
        result['metrics'] = metrics

    # ---- what parts share ----

    def note(self, result, **values):
        """Take values over into a result and log it."""
        result.update(values)
        self.log(json.dumps({name: value for name, value in result.items()
                             if name not in ('rounds', 'samples')},
                            default=float, indent=None))

    def begin(self, name, *arguments):
        """Begin `voxtral ...`; its output goes to a file."""
        with (self.out / f'{name}.log').open('w') as log:
            process = subprocess.Popen([sys.executable, '-m', 'voxtral_ros', *map(str, arguments)],
                                       stdout=log, stderr=log)
        return process, Samples(partial(of_process, process.pid))

    def asr(self, **parameters):
        """Return the node in a process of its own, on the device."""
        from bench.asr_process import AsrProcess
        return AsrProcess(device=self.device, **parameters)

    @contextmanager
    def sampled(self, pid):
        samples = Samples(partial(self.memory, pid))
        try:
            yield samples
        finally:
            samples.close()


@contextmanager
def at_most(seconds):
    """Raise TimeoutError in what is inside when it takes longer."""
    def end(number, frame):
        raise TimeoutError(f'it took more than {seconds:.0f} s')
    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def speech(seconds):
    """Return spoken orders [n] and a second of silence."""
    audio = soundfile.read(DATA / 'orders.flac', dtype='float32')[0]
    return np.concatenate((audio[:round(seconds * RATE)], np.zeros(RATE, np.float32)))


def difference(expected, found):
    """Return how many words of two texts have no equal in the other, of how many."""
    equal = sum(block.size for block in
                SequenceMatcher(None, expected, found, autojunk=False).get_matching_blocks())
    return f'{max(len(expected), len(found)) - equal} of {len(expected)}'


def weight_bytes(folder):
    """Return the size of the weights in a folder."""
    return (folder / WEIGHTS).stat().st_size


def both(values):
    """Return the bytes of host and GPU, which are one memory on a Jetson."""
    return values['anon'] + values.get('device', 0)


def less(values, others):
    """Return bytes by name, less others."""
    return {name: value - others.get(name, 0) for name, value in values.items()}


def planned(folder, window):
    """Return the bytes that the engine plans for one stream."""
    with open_weights(folder, window) as (config, weights):
        return plan_memory(config, weights, TORCH_DTYPES[weights.main_dtype], 1, CHUNK,
                           packed=True).total


def in_gb(values):
    """Return bytes by name in gigabytes."""
    return {name: round(value / 1e9, 3) for name, value in values.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--folder', type=Path, required=True, help='for the checkpoints')
    parser.add_argument('--out', type=Path, help='for logs and full_size.json [the folder]')
    parser.add_argument('--tiny', action='store_true', help='a tiny model instead')
    parser.add_argument('--rounds', type=int, default=10, help='of the node, compact [10]')
    parser.add_argument('--sessions', type=int, default=100, help='of the server [100]')
    parser.add_argument('--seconds', type=float, default=30, help='of audio per session [30]')
    parser.add_argument('--limit-s', type=float, default=375, help='for everything [375]')
    arguments = parser.parse_args()
    arguments.out = arguments.out or arguments.folder
    for folder in (arguments.folder, arguments.out):
        folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(arguments)
    bench.run('machine', bench.machine, 30)
    bench.run('ros', bench.ros, 30)
    bench.run('write', bench.write, 40)
    bench.begin_quantizing()
    bench.run('demo', bench.demo, 95)
    bench.run('quantize', bench.quantize, 100)
    bench.run('complete', bench.complete, 40)
    bench.run('node, compact', partial(bench.node, 'compact', arguments.rounds), 110)
    bench.run('serve', bench.serve, 90)
    bench.run('node, original', partial(bench.node, 'original', 2), 45)
    for layout in LAYOUTS:
        bench.run(f'windows, {layout}', partial(bench.windows, layout), 45)
    bench.log('done')
    sys.exit(any('error' in result for result in bench.results.values()))


if __name__ == '__main__':
    main()
