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
Speed of one stream on the CPU: beside transformers, over hours, and of the demo model.

    python bench/stream_cpu.py [--parts peer hours demo passes]

peer: tokens per second, prefill included, beside the streaming generate of transformers with the
same weights in fp32, in turns: random ones, and those of the demo model, which ours keeps packed.
hours: time per block of 80 ms and memory of one long stream. demo: real-time factor of the demo
model, where its time goes, and the memory. passes: the compiled pass by itself, with every
instruction set. One thread. "PyTorch" is the backend that runs where there is no compiled one
(VOXTRAL_CPU_KERNELS=off).
"""

import argparse
from collections import defaultdict
from functools import partial
import json
import os
from pathlib import Path
import platform
import sys
import tempfile
from time import perf_counter, process_time
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # instead of bench/, where others would find kernels.py by its name

from bench import random_checkpoints, transformers_reference  # noqa: E402
from bench.machine import processor  # noqa: E402
import numpy as np  # noqa: E402
import soundfile  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

from voxtral_ros.backends import selection  # noqa: E402
from voxtral_ros.backends.cpu import library as cpu  # noqa: E402
from voxtral_ros.backends.cpu import mel as cpu_mel  # noqa: E402
from voxtral_ros.backends.cpu.backend import CpuBackend  # noqa: E402
from voxtral_ros.model import mel  # noqa: E402
from voxtral_ros.model.loading import checkpoint_parameters, load_network  # noqa: E402
from voxtral_ros.recognizer.engine import Engine  # noqa: E402
from voxtral_ros.recognizer.events import Transcript  # noqa: E402
from voxtral_ros.recognizer.options import offline_options  # noqa: E402
from voxtral_ros.recognizer.vad import VoiceActivity  # noqa: E402

DEMO = ROOT / 'models' / 'voxtral-tiny-en'
RATE, BLOCK = 16000, 1280  # Hz; samples in 80 ms
DELAY = 6  # tokens, 480 ms
PER_MINUTE = 60 * RATE // BLOCK  # blocks


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parts = {'peer': peer, 'hours': hours, 'demo': demo, 'passes': passes}
    parser.add_argument('--parts', nargs='+', choices=parts, default=list(parts), help='[all]')
    parser.add_argument('--repetitions', type=int, default=7, help='of peer and demo [7]')
    parser.add_argument('--hours', type=float, default=2, help='of audio in the long stream [2]')
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f'{processor()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the '
          f'start; one thread, {cpu.load().voxtral_cpu_instructions().decode()}; '
          f'torch {torch.__version__}, transformers {transformers.__version__}, '
          f'Python {platform.python_version()}')
    for name in arguments.parts:
        parts[name](arguments)


def anonymous_mb():
    """Return the anonymous memory of this process, which leaves out pages of files."""
    lines = Path('/proc/self/status').read_text(encoding='ascii').splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith('RssAnon')) / 1024


def speech():
    """Return the spoken orders of the test data, 16 kHz."""
    return soundfile.read(ROOT / 'test' / 'data' / 'orders.flac', dtype='float32')[0]


def blocks_of(samples):
    """Cut audio into blocks of 80 ms."""
    return [samples[start:start + BLOCK] for start in range(0, len(samples), BLOCK)]


def load(params, tensors, compiled=True):
    """Return an engine with these weights and the tokenizer of the demo model."""
    tekken = json.loads((DEMO / 'tekken.json').read_text())
    with tempfile.TemporaryDirectory() as folder:
        random_checkpoints.write_checkpoint(folder, params, tensors, tekken)
        return load_folder(folder, compiled)


def load_demo(params, tensors, compiled=True):
    """Return an engine with the demo model: its weights as the file has them."""
    return load_folder(DEMO, compiled)


def load_folder(folder, compiled=True):
    """Return an engine over the compiled backend or over PyTorch."""
    with mock.patch.object(selection.cpu_library, 'available', lambda: compiled):
        engine = Engine.load(folder, 'cpu', threads=1)
    assert isinstance(engine.backend, CpuBackend) == compiled, engine.description
    return engine


def peer(arguments):
    """Compare with transformers: random models in fp32, and the demo model."""
    samples = speech()
    demo_params = json.loads((DEMO / 'params.json').read_text())
    demo_params.pop('quantization_config', None)
    demo_weights = dict(checkpoint_parameters(load_network(DEMO, dtype=torch.float32)))
    tiny, sizes = random_checkpoints.tiny_params(), 'sizes of voxtral-tiny-en'
    models = {'tiny': (tiny, random_checkpoints.random_tensors(tiny, seed=0), load),
              sizes: (demo_params, random_checkpoints.random_tensors(demo_params, seed=0), load),
              'voxtral-tiny-en': (demo_params, demo_weights, load_demo)}
    print(f'\n## Beside transformers: {len(samples) / RATE:.1f} s of audio, medians of '
          f'{arguments.repetitions} runs taken in turns\n\n'
          '| model | way | tokens per s | times transformers (lowest - highest) | same ids |\n'
          '|---|---|---|---|---|')
    for name, (params, tensors, load_ours) in models.items():
        engine, plain = (load_ours(params, tensors, compiled) for compiled in (True, False))
        network = transformers_reference.load_hf(params, tensors)
        network.set_attn_implementation('sdpa')  # the default of transformers
        ways = {
            'transformers': partial(
                transformers_reference.hf_generate_streaming, network, samples, DELAY),
            'engine, blocks of 80 ms': partial(run_engine, engine, blocks_of(samples)),
            'engine, all at once': partial(run_engine, engine, [samples]),
            'stream, blocks of 80 ms': partial(run_stream, engine, blocks_of(samples)),
            'PyTorch, blocks of 80 ms': partial(run_engine, plain, blocks_of(samples)),
        }
        size = sum(tensor.numel() for tensor in tensors.values()) / 1e6
        compare(f'{name}, {size:.2f} M', ways, arguments.repetitions)


def compare(model, ways, repetitions):
    """Run all ways in turns and print their rows; the first is the one to compare with."""
    ids = {way: run() for way, run in ways.items()}  # to warm up
    seconds = defaultdict(list)
    for _ in range(repetitions):
        for way, run in ways.items():
            start = perf_counter()
            run()
            seconds[way].append(perf_counter() - start)
    (first, expected), *_ = ids.items()
    for way, tokens in ids.items():
        ratios = np.divide(seconds[first], seconds[way])
        same = sum(a == b for a, b in zip(tokens, expected, strict=True))
        print(f'| {model} | {way} | {len(tokens) / np.median(seconds[way]):.0f} '
              f'| {np.median(ratios):.1f} ({ratios.min():.1f} - {ratios.max():.1f}) '
              f'| {same} of {len(expected)} |', flush=True)


def run_engine(engine, chunks):
    """Return the ids of a stream without voice activity and words, as transformers has none."""
    slot = engine.take_slot(DELAY)
    silence = np.zeros(engine.protocol.right_pad(sum(map(len, chunks)), DELAY), np.float32)
    for chunk in (*chunks, silence):
        slot.feed(chunk)
        engine.process()
    engine.release(slot)
    return [token.id for token in slot.tokens]


def run_stream(engine, chunks):
    """Return the ids of a stream as users have it, voice activity and words included."""
    tokens = []
    transcribe(engine, chunks, offline_options(lambda token: tokens.append(token.id)))
    return tokens


def transcribe(engine, blocks, options=None):
    """Return the seconds that each block took, and the text."""
    stream, times, events = engine.open(DELAY * 80, options or offline_options()), [], []
    for block in blocks:
        start = perf_counter()
        stream.feed(block)
        events += stream.poll()
        times.append(perf_counter() - start)
    events += stream.close()
    return times, ' '.join(event.text for event in events
                           if isinstance(event, Transcript) and event.is_final)


def hours(arguments):
    """Feed and poll one stream for hours: neither time per block nor memory may grow."""
    params = random_checkpoints.tiny_params()
    engine = load(params, random_checkpoints.random_tensors(params, seed=0))
    stream = engine.open(DELAY * 80, offline_options())
    audio = blocks_of(np.append(speech(), np.zeros(3 * RATE, np.float32)))[:-1]  # whole ones
    n_blocks = max(int(arguments.hours * 60), 3) * PER_MINUTE
    seconds, memory = np.full(n_blocks, np.nan), []  # of blocks; after every minute
    for n in range(n_blocks):
        start = perf_counter()
        stream.feed(audio[n % len(audio)])
        stream.poll()
        seconds[n] = perf_counter() - start
        if (n + 1) % PER_MINUTE == 0:
            memory.append(anonymous_mb())
    stream.close()
    minutes = len(memory)
    print(f'\n## {minutes / 60:g} h of speech and pauses: {n_blocks} blocks of 80 ms through one '
          f'stream\n\nThe tiny model, windows of 16 frames and 24 tokens, voice activity '
          f'included; {stream.stats.tokens} tokens, {seconds.sum():.0f} s\n\n'
          '| | time per block: median | p99 | anonymous memory at the end |\n|---|---|---|---|')
    for minute in dict.fromkeys((1, 2, minutes // 2, minutes)):
        times = 1000 * seconds[(minute - 1) * PER_MINUTE:minute * PER_MINUTE]
        print(f'| minute {minute} | {np.median(times):.2f} ms | {np.percentile(times, 99):.2f} ms '
              f'| {memory[minute - 1]:.1f} MB |')
    print(f'\nHighest memory after any minute: {max(memory):.1f} MB', flush=True)


def demo(arguments):
    """Show the real-time factor of the demo model and where its time goes."""
    samples = speech()
    print(f'\n## The demo model: {len(samples) / RATE:.1f} s of speech in blocks of 80 ms, '
          f'medians of {arguments.repetitions} runs')
    for compiled in (True, False):
        engine = load_folder(DEMO, compiled)
        transcribe(engine, blocks_of(samples[:2 * RATE]))  # to warm up
        weights = engine.backend.weight_bytes
        print(f'\n{"Compiled passes" if compiled else "PyTorch"}, weights '
              f'{(weights.encoder + weights.decoder + weights.head) / 1e6:.0f} MB, KV cache '
              f'{engine.backend.cache_bytes / 1e6:.0f} MB:\n')
        demo_parts(arguments, engine, samples)


def demo_parts(arguments, engine, samples):
    """Print the table of one engine."""
    parts, steps = defaultdict(list), []
    for _ in range(arguments.repetitions):
        spent = defaultdict(float)
        backend = type(engine.backend)
        with (timed(VoiceActivity, 'push', spent), timed_mel(engine, spent),
              timed(backend, 'prefill', spent), timed(backend, 'decode', spent)):
            start, cpu_start = perf_counter(), process_time()
            times, text = transcribe(engine, blocks_of(samples))
            wall, cpu_time = perf_counter() - start, process_time() - cpu_start
        network = spent.pop('prefill') + spent.pop('decode') - spent['mel']
        spent.update(network=network, wall=wall, cpu=cpu_time,
                     rest=wall - network - spent['push'] - spent['mel'])
        steps += times
        for name, seconds in spent.items():
            parts[name].append(seconds)
    print(f'> {text}\n\n| part | real-time factor | per block | share |\n|---|---|---|---|')
    labels = {'push': 'voice activity', 'mel': 'mel', 'network': 'encoder and decoder',
              'rest': 'rest', 'wall': 'all, wall clock', 'cpu': 'all, CPU time'}
    for name, label in labels.items():
        factor = np.median(parts[name]) * RATE / len(samples)
        share = np.median(parts[name]) / np.median(parts['wall'])
        print(f'| {label} | {factor:.3f} | {80 * factor:.2f} ms | {100 * share:.0f} % |')
    p50, p99 = np.percentile(1000 * np.array(steps), (50, 99))
    print(f'\nTime per block: p50 {p50:.1f} ms, p99 {p99:.1f} ms', flush=True)


def passes(arguments):
    """Show how long a pass over 80 ms takes when nothing else uses the caches."""
    tiny = random_checkpoints.tiny_params()
    engines = {
        'tiny, 0.30 M': load(tiny, random_checkpoints.random_tensors(tiny, seed=0)),
        'voxtral-tiny-en': load_folder(DEMO)}
    samples, library = speech(), cpu.load()
    best = library.voxtral_cpu_instructions()
    print('\n## One pass over 80 ms, medians of 200 with full windows\n\n'
          '| model | instructions | encoder and decoder | mel |\n|---|---|---|---|')
    for name, engine in engines.items():
        slot = engine.take_slot(DELAY).index
        windows = np.stack([samples[None, BLOCK * n:BLOCK * n + BLOCK + 240] for n in range(200)])
        for instructions in (b'avx512', b'avxvnni', b'avx2', b'dotprod', b'baseline'):
            if not library.voxtral_cpu_use(instructions):
                continue
            times, spent = [], defaultdict(float)
            with timed_mel(engine, spent):
                for window in (*windows, *windows):
                    spent.clear()
                    start = perf_counter()
                    engine.backend.decode([slot], window)
                    times.append((perf_counter() - start, spent['mel']))
            whole, spectrum = 1000 * np.median(times[200:], axis=0)
            print(f'| {name} | {instructions.decode()} | {whole - spectrum:.2f} ms '
                  f'| {spectrum:.2f} ms |', flush=True)
    library.voxtral_cpu_use(best)


def timed_mel(engine, spent):
    """Add up the time of the log-mel of an engine's backend under 'mel'; a context manager."""
    if isinstance(engine.backend, CpuBackend):
        return timed(cpu_mel.LogMel, '__call__', spent, 'mel')
    return timed(mel.LogMel, 'forward', spent, 'mel')


def timed(owner, name, spent, key=None):
    """Replace a method of a class by itself with its time added up; a context manager."""
    method = getattr(owner, name)

    def wrapper(*args, **options):
        start = perf_counter()
        result = method(*args, **options)
        spent[key or name] += perf_counter() - start
        return result
    return mock.patch.object(owner, name, wrapper)


if __name__ == '__main__':
    main()
