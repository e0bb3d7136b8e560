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

    python bench/step.py [--parts one speculative look idle phrases streams peers]
                         [--layouts compact original]
    python bench/step.py --predict

    one          one stream: minute one, a window that has just filled, 10 h; calls of CUDA
    speculative  one stream: serial decoding, all drafted pads accepted, none accepted
    look         one stream: looking ahead in a pause, and taking back what that has done
    idle         the demo model in a quiet room: calls of CUDA while nobody speaks
    phrases      a thousand expected phrases of ten tokens against none, in turns
    streams      how many streams fit into 80 ms, windows full
    peers        BF16 of full size: transformers' streaming generate, this engine without graphs

Host to host: audio in, tokens out, in milliseconds per 80 ms of audio. --predict needs no GPU: it
prints the tables of docs/jetson.md and of a day in docs/ros.md.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import gc
from pathlib import Path
import sys
import time
from typing import Any

# Instead of bench/, where others would find kernels.py by its name.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench.random_checkpoints import real_params  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from voxtral_ros.backends.base import Backend  # noqa: E402
from voxtral_ros.backends.benchmark import (  # noqa: E402
    BOARDS, measure, PassBytes, planned_bytes, read_bandwidth, Timing, TOKEN_S)
from voxtral_ros.backends.biasing import Expected, TokenTrie  # noqa: E402
from voxtral_ros.backends.cuda.backend import CudaBackend  # noqa: E402
from voxtral_ros.backends.cuda.random_weights import RandomWeights  # noqa: E402
from voxtral_ros.backends.cuda.speculative import SpeculativeDecoding  # noqa: E402
from voxtral_ros.backends.eager import EagerBackend  # noqa: E402
from voxtral_ros.cli.bench import LAYOUTS  # noqa: E402
from voxtral_ros.model.config import ModelConfig  # noqa: E402
from voxtral_ros.model.network import VoxtralRealtime  # noqa: E402
from voxtral_ros.quantization.format import Recipe  # noqa: E402
from voxtral_ros.recognizer.engine import Engine  # noqa: E402
from voxtral_ros.resources import demo_model  # noqa: E402

PARTS = ('one', 'speculative', 'look', 'idle', 'phrases', 'streams', 'peers')
CHUNKS = (1, 2, 3, 6)  # tokens of 80 ms
MINUTE, FULL, TEN_HOURS = 750, 8200, 450_000  # tokens processed before
LOOK = 6  # tokens: the delay of 480 ms
PHRASE_STREAMS = (1, 16, 64)
STREAMS = (64, 96, 100, 104, 112, 120, 128)
# Decoder passes per token of speculative decoding in chunks of 2, 3, ... tokens: counted in the
# token streams of the published BF16 model on three recordings of LibriSpeech, 236 tokens, 64 % of
# them pads, over chunks that begin at any token.
PASSES_PER_TOKEN = (0.682, 0.580, 0.531, 0.504, 0.487)
PAD, SPECIAL = 32, [2, 32, 33]
ACTIVITIES = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
# A day with a robot: turns, seconds of each; looks ahead in each, by bench/turns.py; and what the
# model is given around it: the pre-roll, and the time until it is idle.
N_TURNS, TURN_S, PAUSES_PER_TURN, AWAKE_S = 1440, 5.0, 1.5, 3.0


class Bench:
    """A model of full size, anew for every layout and number of streams."""

    def __init__(self, config: ModelConfig, repeats: int) -> None:
        self.config, self.repeats = config, repeats
        self.device = torch.device('cuda')
        self.bandwidth = read_bandwidth('cuda', 4 << 30)
        log(f'{torch.cuda.get_device_name()}, torch {torch.__version__}, reads '
            f'{self.bandwidth / 1e9:.0f} GB/s; ms per 80 ms of audio, {repeats} passes')

    def backend(self, layout: str, n_slots: int) -> CudaBackend:
        """Return a backend with random weights in a layout."""
        forget()
        weights = RandomWeights(self.config, Recipe(**LAYOUTS[layout]), self.device, torch.float16)
        backend = CudaBackend(self.config, weights, PAD, SPECIAL, n_slots, max(CHUNKS),
                              speculative=False)
        allocated = torch.cuda.memory_allocated()
        log(f'\n{layout}, {n_slots} slots: weights {(allocated - backend.cache_bytes) / 1e9:.2f} '
            f'GB, with KV caches {allocated / 1e9:.2f} GB')
        return backend

    def time(self, backend: Backend, processed: int, n_tokens: int, n_streams: int = 1) -> Timing:
        """Measure passes of streams that have processed so many tokens."""
        backend.set_position(processed)
        return measure(backend, range(n_streams), n_tokens, self.repeats)

    def floor(self, layout: str, n_tokens: int, processed: int) -> float:
        """Return the seconds per token that reading takes."""
        context = min(processed, self.config.decoder.sliding_window)
        return pass_bytes(self.config, layout).per_token(n_tokens, context) / self.bandwidth

    # ---- the parts ----

    def one(self, layout: str) -> None:
        backend = self.backend(layout, 1)
        for n_tokens in CHUNKS:
            times = {}
            for processed in (MINUTE, FULL, TEN_HOURS):
                timing = self.time(backend, processed, n_tokens)
                times[processed] = timing.per_token_s
                log(f'  chunks of {n_tokens * 80} ms, {processed * TOKEN_S / 60:.0f} min '
                    f'processed: {ms(timing.per_token_s)} p50, {ms(timing.p99_s / n_tokens)} p99 '
                    f'({timing.p99_s / timing.p50_s:.2f} x), floor '
                    f'{ms(self.floor(layout, n_tokens, processed))}')
            log(f'  10 h against minute one: {times[TEN_HOURS] / times[MINUTE]:.3f}, against a '
                f'window that has just filled: {times[TEN_HOURS] / times[FULL]:.3f}')
        log(f'  peak memory {torch.cuda.max_memory_allocated() / 1e9:.2f} GB')
        log(f'  CUDA calls of a pass: {calls(backend)}')

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

    def streams(self, layout: str) -> None:
        backend = self.backend(layout, max(STREAMS))
        for count in STREAMS:
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
            times = transformers_times(real_params(), self.device)
        except ImportError as error:
            log(f'  transformers is not there: {error}')
            return
        log(f'  transformers, streaming generate: {ms(float(np.median(times)))} p50, '
            f'{ms(float(np.percentile(times, 99)))} p99, {len(times)} tokens')


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


@contextmanager
def random_bfloat16(device: torch.device) -> Iterator[None]:
    """Let networks be made on a device in BF16, with the random weights of their modules."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(default)


def transformers_times(params: dict[str, Any], device: torch.device) -> list[float]:
    """Return the seconds between the chunks of 80 ms that streaming generate asks for."""
    from bench.random_checkpoints import PAD as HF_PAD
    from bench.transformers_reference import hf_config, mel_chunks, padded, prompt
    import transformers
    from transformers import VoxtralRealtimeForConditionalGeneration
    log(f'  transformers {transformers.__version__}')
    with random_bfloat16(device):
        model = VoxtralRealtimeForConditionalGeneration(hf_config(params)).eval()
    noise = 0.05 * np.random.default_rng(0).standard_normal(5 * 16000)
    audio = padded(noise.astype(np.float32), 6)
    chunks = [chunk[None].to(device, torch.bfloat16)
              for chunk in mel_chunks(audio, len(prompt(6)))]
    moments: list[float] = []

    def live() -> Iterator[torch.Tensor]:
        for chunk in chunks:
            if device.type == 'cuda':
                torch.cuda.synchronize()
            moments.append(time.perf_counter())
            yield chunk

    ids = torch.tensor([prompt(6)], device=device)
    with torch.inference_mode():
        model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), input_features=live(),
                       num_delay_tokens=6, do_sample=False, pad_token_id=HF_PAD)
    return np.diff(moments)[3:].tolist()  # the first ones load kernels


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


def pass_bytes(config: ModelConfig, layout: str) -> PassBytes:
    """Count what a pass reads of a model in a layout."""
    return PassBytes.of(config, planned_bytes(config, Recipe(**LAYOUTS[layout]).bits, head_bits=4))


def predict(config: ModelConfig) -> None:
    """Print the real-time factors that bytes over bandwidth let expect, and a day of them."""
    print('| checkpoint, chunks | ' + ' | '.join(BOARDS) + ' |')
    print('|---|' + '---|' * len(BOARDS))
    for layout in LAYOUTS:
        counted = pass_bytes(config, layout)
        for chunk, passes in ((1, 1.0), (2, 1.0), (3, 1.0), (3, PASSES_PER_TOKEN[1])):
            factors = (counted.predicted_s(rate, chunk, 500, passes) / TOKEN_S
                       for rate in BOARDS.values())
            print(f'| {layout}, {chunk * 80} ms{", pads drafted" if passes < 1 else ""} | '
                  + ' | '.join(f'{factor:.2f}' for factor in factors) + ' |')
    print(f'\nA day with {N_TURNS} turns of {TURN_S:g} s, {N_TURNS * TURN_S / 3600:g} h, and '
          f'{PAUSES_PER_TURN} looks per turn; windows full, chunks of 80 ms: hours of work\n')
    print('| checkpoint | audio given to the model | ' + ' | '.join(BOARDS) + ' |')
    print('|---|---|' + '---|' * len(BOARDS))
    window = config.decoder.sliding_window
    for layout in LAYOUTS:
        counted = pass_bytes(config, layout)
        for idle in (False, True):
            hours = N_TURNS * (TURN_S + AWAKE_S) / 3600 if idle else 24.0
            print(f'| {layout}{"" if idle else ", never idle"} | {hours:.1f} h | '
                  + ' | '.join(f'{day_h(counted, rate, window, hours):.1f} h'
                               for rate in BOARDS.values()) + ' |')


def day_h(counted: PassBytes, bandwidth: float, window: int, audio_h: float) -> float:
    """Return the hours that a board works for so many hours of audio, and for the looks ahead."""
    step_s = counted.predicted_s(bandwidth, 1, window, 1.0)
    look_s = LOOK * counted.predicted_s(bandwidth, LOOK, window, PASSES_PER_TOKEN[-1])
    return audio_h * step_s / TOKEN_S + N_TURNS * PAUSES_PER_TURN * look_s / 3600


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
                        help='of the part one; speculative and streams have the first of them')
    parser.add_argument('--passes-per-token', nargs='+', type=float, default=PASSES_PER_TOKEN,
                        metavar='RATIO', help='of the decoder on speech, in chunks of 2, 3, ... '
                        'tokens [those of the published model on LibriSpeech]')
    parser.add_argument('--repeats', type=int, default=100)
    parser.add_argument('--predict', action='store_true', help='predict for Orin, measure nothing')
    arguments = parser.parse_args()
    config = ModelConfig.from_params(real_params())
    if arguments.predict:
        predict(config)
        return
    bench = Bench(config, arguments.repeats)
    if 'one' in arguments.parts:
        for layout in arguments.layouts:
            bench.one(layout)
    if 'speculative' in arguments.parts:
        bench.speculative(arguments.layouts[0], arguments.passes_per_token)
    if 'look' in arguments.parts:
        bench.look(arguments.layouts[0])
    if 'idle' in arguments.parts:
        bench.idle()
    if 'phrases' in arguments.parts:
        bench.phrases(arguments.layouts[0])
    if 'streams' in arguments.parts:
        bench.streams(arguments.layouts[0])
    if 'peers' in arguments.parts:
        bench.peers()


if __name__ == '__main__':
    main()
