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
The whole 80 ms step of a random model of full size on one GPU, as the engine runs it.

    python bench/step.py [--parts one eight speculative look idle phrases streams peers]
                         [--layouts compact original] [--orin-build]
    python bench/step.py --predict

    one          one stream: minute one, a window that has just filled, 10 h; calls of CUDA
    eight        one stream on 8 multiprocessors, as many as an Orin Nano has
    speculative  one stream: serial decoding, all drafted pads accepted, none accepted
    look         one stream: looking ahead in a pause, and taking back what that has done
    idle         the demo model in a quiet room: calls of CUDA while nobody speaks
    phrases      a thousand expected phrases of ten tokens against none, in turns
    streams      how many streams fit into 80 ms, windows full
    peers        BF16 of full size: transformers' streaming generate, this engine without graphs

Host to host: audio in, tokens out, in milliseconds per 80 ms of audio. --orin-build runs the
machine code for Orin, compute_87, translated by the driver. --predict needs no GPU: it prints the
tables of docs/jetson.md.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property, partial
import gc
import os
from pathlib import Path
import sys
import time
import traceback
from typing import Any

# Instead of bench/, where others would find kernels.py by its name.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench.few_sms import ConfinedBackend, few_sms, print_confined  # noqa: E402
from bench.prediction import (  # noqa: E402
    LOOK, pass_bytes, PASSES_PER_TOKEN, print_day, print_factors)
from bench.random_checkpoints import random_bfloat16, real_params  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from voxtral_ros.backends.base import Backend  # noqa: E402
from voxtral_ros.backends.benchmark import (  # noqa: E402
    measure, PassBytes, read_bandwidth, Timing, TOKEN_S)
from voxtral_ros.backends.biasing import Expected, TokenTrie  # noqa: E402
from voxtral_ros.backends.cuda import library  # noqa: E402
from voxtral_ros.backends.cuda.backend import CudaBackend  # noqa: E402
from voxtral_ros.backends.cuda.build import build  # noqa: E402
from voxtral_ros.backends.cuda.random_weights import RandomWeights  # noqa: E402
from voxtral_ros.backends.cuda.speculative import SpeculativeDecoding  # noqa: E402
from voxtral_ros.backends.eager import EagerBackend  # noqa: E402
from voxtral_ros.cli.bench import LAYOUTS  # noqa: E402
from voxtral_ros.model.config import ModelConfig  # noqa: E402
from voxtral_ros.model.network import VoxtralRealtime  # noqa: E402
from voxtral_ros.quantization.format import Recipe  # noqa: E402
from voxtral_ros.recognizer.engine import Engine  # noqa: E402
from voxtral_ros.resources import demo_model  # noqa: E402

PARTS = ('one', 'eight', 'speculative', 'look', 'idle', 'phrases', 'streams', 'peers')
CHUNKS = (1, 2, 3, 6)  # tokens of 80 ms
MINUTE, FULL, TEN_HOURS = 750, 8200, 450_000  # tokens processed before
EIGHT = 8  # multiprocessors of an Orin Nano
PHRASE_STREAMS = (1, 16, 64)
STREAMS = {16: (64, 96, 112, 120, 128), 8: (64, 112, 128, 160, 176, 192, 208, 220)}
PAD, SPECIAL = 32, [2, 32, 33]
ACTIVITIES = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]


class Bench:
    """A model of full size, anew for every layout and number of streams."""

    def __init__(self, config: ModelConfig, repeats: int) -> None:
        self.config, self.repeats = config, repeats
        self.device = torch.device('cuda')
        self.bandwidth = read_bandwidth('cuda', 4 << 30)
        log(f'{torch.cuda.get_device_name()}, torch {torch.__version__}, reads '
            f'{self.bandwidth / 1e9:.0f} GB/s; ms per 80 ms of audio, {repeats} passes')

    @cached_property
    def eight_sms(self) -> torch.cuda.Stream:
        """Return a stream on 8 multiprocessors, on which reading is as slow as that must be."""
        stream = few_sms(EIGHT)
        with torch.cuda.stream(stream):
            rate = read_bandwidth('cuda', 1 << 30)
        log(f'a plain reduction reads {rate / 1e9:.0f} GB/s on {EIGHT} multiprocessors')
        if rate > self.bandwidth / 4:
            raise RuntimeError(f'{EIGHT} multiprocessors cannot read a quarter of what all can')
        return stream

    def backend(self, layout: str, n_slots: int, cache_bits: int = 16,
                kind: Callable[..., CudaBackend] = CudaBackend) -> Any:
        """Return a backend with random weights in a layout."""
        forget()
        weights = RandomWeights(self.config, Recipe(**LAYOUTS[layout]), self.device, torch.float16)
        backend = kind(self.config, weights, PAD, SPECIAL, n_slots, max(CHUNKS),
                       speculative=False, int8_cache=cache_bits == 8)
        allocated = torch.cuda.memory_allocated()
        log(f'\n{layout}, {n_slots} slots: weights {(allocated - backend.cache_bytes) / 1e9:.2f} '
            f'GB, with KV caches in {cache_bits} bits {allocated / 1e9:.2f} GB')
        return backend

    def time(self, backend: Backend, processed: int, n_tokens: int, n_streams: int = 1) -> Timing:
        """Measure passes of streams that have processed so many tokens."""
        backend.set_position(processed)
        return measure(backend, range(n_streams), n_tokens, self.repeats)

    def floor(self, layout: str, n_tokens: int, processed: int, cache_bits: int) -> float:
        """Return the seconds per token that reading takes."""
        context = min(processed, self.config.decoder.sliding_window)
        counted = pass_bytes(self.config, layout, cache_bits)
        return counted.per_token(n_tokens, context) / self.bandwidth

    def warm_up(self, backend: CudaBackend) -> None:
        """Let a backend capture its graphs, and say what that takes."""
        free, _ = torch.cuda.mem_get_info()
        begin = time.perf_counter()
        backend.warm_up()
        taken_s = time.perf_counter() - begin
        log(f'  warm-up: {len(backend._graphs)} graphs in {taken_s:.1f} s, '
            f'{(free - torch.cuda.mem_get_info()[0]) / 1e9:.2f} GB')

    # ---- the parts ----

    def one(self, layout: str, cache_bits: int) -> None:
        backend = self.backend(layout, 1, cache_bits)
        self.warm_up(backend)
        for n_tokens in CHUNKS:
            times = {}
            for processed in (MINUTE, FULL, TEN_HOURS):
                timing = self.time(backend, processed, n_tokens)
                times[processed] = timing.per_token_s
                log(f'  chunks of {n_tokens * 80} ms, {processed * TOKEN_S / 60:.0f} min '
                    f'processed: {ms(timing.per_token_s)} p50, {ms(timing.p99_s / n_tokens)} p99 '
                    f'({timing.p99_s / timing.p50_s:.2f} x), floor '
                    f'{ms(self.floor(layout, n_tokens, processed, cache_bits))}')
            log(f'  10 h against minute one: {times[TEN_HOURS] / times[MINUTE]:.3f}, against a '
                f'window that has just filled: {times[TEN_HOURS] / times[FULL]:.3f}')
        log(f'  peak memory {torch.cuda.max_memory_allocated() / 1e9:.2f} GB')
        log(f'  CUDA calls of a pass: {calls(backend)}')

    def eight(self, layout: str, cache_bits: int) -> None:
        backend = self.backend(layout, 1, cache_bits, partial(ConfinedBackend, self.eight_sms))
        counted = PassBytes.of(self.config, backend.weight_bytes, cache_bits)
        print_confined(backend, EIGHT, counted, self.config.decoder.sliding_window, CHUNKS,
                       f'{layout}, {cache_bits} bits')

    def speculative(self, layout: str, passes_per_token: Sequence[float]) -> None:
        backend = self.backend(layout, 1)
        for n_tokens, ratio in enumerate(passes_per_token, 2):
            serial = self.time(backend, MINUTE, n_tokens)
            backend.speculative_decoding = AlwaysSpeculative()
            backend.set_pad_penalty(0, -1e9)
            pads = self.time(backend, MINUTE, n_tokens)  # in one pass
            backend.set_pad_penalty(0, 1e9)
            no_pads = self.time(backend, MINUTE, n_tokens)  # in n passes
            backend.set_pad_penalty(0, 0)
            backend.speculative_decoding = None
            more_s = (no_pads.p50_s - pads.p50_s) / (n_tokens - 1)  # for each further pass
            speech_s = pads.p50_s + (ratio * n_tokens - 1) * more_s
            log(f'  chunks of {n_tokens * 80} ms: serial {ms(serial.per_token_s)}, all pads '
                f'{ms(pads.per_token_s)}, no pads {ms(no_pads.per_token_s)}; at {ratio} passes '
                f'per token {ms(speech_s / n_tokens)}, computed from these')

    def look(self, layout: str) -> None:
        backend = self.backend(layout, 1)
        backend.speculative_decoding = AlwaysSpeculative()
        n_tokens = LOOK
        samples = np.zeros((1, n_tokens * 1280 + 240), np.float32)
        for processed in (MINUTE, FULL):
            backend.set_position(processed)
            for penalty, text in ((-1e9, 'only pads'), (1e9, 'no pad')):
                backend.set_pad_penalty(0, penalty)
                times = []
                for _ in range(self.repeats):
                    torch.cuda.synchronize()
                    begin = time.perf_counter()
                    backend.save(0)
                    backend.decode([0], samples)
                    backend.rollback(0)
                    torch.cuda.synchronize()
                    times.append(time.perf_counter() - begin)
                p50, p99 = np.percentile(times[3:], (50, 99))
                log(f'  look of {n_tokens} tokens, {processed * TOKEN_S / 60:.0f} min processed, '
                    f'{text}: {ms(p50)} p50, {ms(p99)} p99')

    def idle(self) -> None:
        engine = Engine.load(demo_model(), 'cuda')
        engine.warm_up()
        room = (1e-3 * np.random.default_rng(0).standard_normal(40 * 16000)).astype(np.float32)
        stream = engine.open()
        log('\ndemo model in a quiet room, 10 s each')
        for start in range(0, len(room), 10 * 16000):
            with torch.profiler.profile(activities=ACTIVITIES) as profile:
                for at in range(start, start + 10 * 16000, 1280):
                    stream.feed(room[at:at + 1280])
                    stream.poll()
            log(f'  {stream.stats.idle_s:.1f} s idle by now, audio given to the model '
                f'{stream.stats.fed_s - stream.stats.skipped_s:.1f} s; calls of CUDA: '
                f'{cuda_calls(profile) or "none"}')

    def phrases(self, layout: str) -> None:
        backend = self.backend(layout, max(PHRASE_STREAMS))
        trie = random_phrases(self.config.vocab_size)
        log(f'  phrases: {trie.begin[1]} first tokens, {trie.nbytes / 1e6:.2f} MB')
        for count in PHRASE_STREAMS:
            times: dict[bool, list[float]] = {False: [], True: []}
            for _ in range(4):
                for expected, timings in times.items():
                    for slot in range(count):
                        backend.set_phrases(slot, trie if expected else None)
                    timings.append(self.time(backend, MINUTE, 1, count).p50_s)
            plain, biased = (float(np.median(timings)) for timings in times.values())
            log(f'  {count} streams: {ms(plain)} without phrases, {ms(biased)} with '
                f'({100 * (biased / plain - 1):+.1f} %), p50 of four rounds')

    def streams(self, layout: str, cache_bits: int) -> None:
        backend = self.backend(layout, max(STREAMS[cache_bits]), cache_bits)
        for count in STREAMS[cache_bits]:
            timing = self.time(backend, TEN_HOURS, 1, count)
            fits = 'fits' if timing.p99_s <= TOKEN_S else 'does not fit'
            log(f'  {count} streams, windows full: {ms(timing.p50_s)} p50, {ms(timing.p99_s)} '
                f'p99: {fits}')
        log(f'  peak memory {torch.cuda.max_memory_allocated() / 1e9:.2f} GB')

    def peers(self) -> None:
        forget()
        log('\npeers, BF16 in full size, chunks of 80 ms')
        with random_bfloat16(self.device):
            network = VoxtralRealtime(self.config)
        timing = self.time(EagerBackend(network.eval(), PAD, 1, 1), MINUTE, 1)
        log(f'  this engine without graphs and kernels: {ms(timing.p50_s)} p50, '
            f'{ms(timing.p99_s)} p99')
        del network
        forget()
        try:
            from bench.transformers_reference import streaming_times
            import transformers
            times = streaming_times(real_params(), self.device)
        except ImportError as error:
            log(f'  transformers is not there: {error}')
            return
        log(f'  transformers {transformers.__version__}, streaming generate: '
            f'{ms(float(np.median(times)))} p50, {ms(float(np.percentile(times, 99)))} p99, '
            f'{len(times)} tokens')


def random_phrases(vocab_size: int) -> TokenTrie:
    """Return a thousand phrases of ten tokens, none of which decides anything."""
    rng = np.random.default_rng(0)
    trie = TokenTrie.build(
        ([Expected(token, 1e-3, False, n == 9) for n, token in enumerate(tokens)]
         for tokens in rng.integers(1000, vocab_size, (1000, 10)).tolist()), 1000)
    assert trie
    return trie


class AlwaysSpeculative(SpeculativeDecoding):
    """Goes on where it is not worth it."""

    def next_chunk(self) -> bool:
        return True


def calls(backend: Backend, n_passes: int = 20) -> str:
    """Count what passes ask of CUDA, each of them."""
    measure(backend, [0], 1, 3)
    with torch.profiler.profile(activities=ACTIVITIES) as profile:
        measure(backend, [0], 1, n_passes, warm_up=0)
    return cuda_calls(profile, n_passes)


def cuda_calls(profile: torch.profiler.profile, n_passes: int = 1) -> str:
    """Return what was asked of CUDA, per pass."""
    counts = Counter({event.key: event.count for event in profile.key_averages()
                      if event.key.startswith(('cuda', 'cuLaunch'))})
    return ', '.join(f'{name} {count / n_passes:g}' for name, count in sorted(counts.items()))


def ms(seconds: float) -> str:
    return f'{1e3 * seconds:.3f}'


def log(line: str) -> None:
    print(line, flush=True)


def forget() -> None:
    """Give the memory of what nobody holds any more back to the GPU."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=list(PARTS))
    parser.add_argument('--layouts', nargs='+', choices=LAYOUTS, default=list(LAYOUTS)[::-1],
                        help='of the parts one and eight; the others have the first of them')
    parser.add_argument('--kv-cache', nargs='+', type=int, choices=(16, 8), default=[16],
                        help='bits of the KV caches of the parts one, eight and streams [16]')
    parser.add_argument('--orin-build', action='store_true', help='machine code of compute_87')
    parser.add_argument('--passes-per-token', nargs='+', type=float, default=PASSES_PER_TOKEN,
                        metavar='RATIO', help='of the decoder on speech, in chunks of 2, 3, ... '
                        'tokens [those of the published model on LibriSpeech]')
    parser.add_argument('--repeats', type=int, default=100)
    parser.add_argument('--predict', action='store_true', help='predict for Orin, measure nothing')
    arguments = parser.parse_args()
    config = ModelConfig.from_params(real_params())
    if arguments.predict:
        print_factors(config)
        print()
        print_day(config)
        return
    load_kernels(arguments.orin_build)
    bench = Bench(config, arguments.repeats)
    layouts, first, widths = arguments.layouts, arguments.layouts[0], arguments.kv_cache
    measurements: dict[str, list[Callable[[], None]]] = {
        'one': [partial(bench.one, layout, bits) for layout in layouts for bits in widths],
        'eight': [partial(bench.eight, layout, bits) for layout in layouts for bits in widths],
        'speculative': [partial(bench.speculative, first, arguments.passes_per_token)],
        'look': [partial(bench.look, first)], 'idle': [bench.idle],
        'phrases': [partial(bench.phrases, first)], 'peers': [bench.peers]}
    measurements['streams'] = [partial(bench.streams, first, bits) for bits in widths]
    failed = []
    for part in PARTS:
        begin = time.perf_counter()
        for measurement in measurements[part] if part in arguments.parts else ():
            try:
                measurement()
            except Exception:  # what another part measures is worth having all the same
                traceback.print_exc()
                failed.append(part)
        if part in arguments.parts:
            log(f'({part}: {time.perf_counter() - begin:.0f} s)')
    if failed:
        sys.exit(f'failed: {", ".join(failed)}, see above')


def load_kernels(orin_build: bool) -> None:
    """Load the library of this GPU, or one with nothing but PTX of compute_87."""
    begin = time.perf_counter()
    if orin_build:
        os.environ['VOXTRAL_KERNELS'] = str(build(architectures=[]))
    path = library.load()._name
    log(f'kernels: {path}{", compute_87, translated" if orin_build else ""} '
        f'({time.perf_counter() - begin:.0f} s to build and load)')


if __name__ == '__main__':
    main()
