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
The kernels on one GPU, beside what else there is, each next to its floor.

    python bench/kernels.py [--orin-build] [--marlin libmarlin.so] [--json FILE]

All figures are medians over replays of CUDA graphs, in one run. Weights are as many as the real
model has, every layer its own, so that no cache holds them. The floor is the bytes that must be
read over what a plain reduction reads per second on this very GPU. `--orin-build` runs the machine
code for Orin, compute_87, translated by the driver. The part with 8 SMs confines everything to
8 multiprocessors of the GPU, the number of an Orin Nano. `--marlin` adds IST-DASLab's kernel: a
library with `peer_marlin(A, B, C, s, m, n, k, workspace, groupsize, sms, stream)` around its
`marlin_cuda`.
"""

# ruff: noqa: B023 - every closure runs before its loop goes on

from __future__ import annotations

import argparse
from collections.abc import Callable
import ctypes
from itertools import product
import json
import os
from pathlib import Path
from statistics import median
import sys
import time

# Instead of bench/, where others would find this very file by its name.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench.few_sms import few_sms  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from voxtral_ros.backends.cuda import library  # noqa: E402
from voxtral_ros.backends.cuda.argmax import argmax, Head  # noqa: E402
from voxtral_ros.backends.cuda.attention import attention, LayerCache, n_counters  # noqa: E402
from voxtral_ros.backends.cuda.build import build  # noqa: E402
from voxtral_ros.backends.cuda.gemm import (  # noqa: E402
    gemm, gemm_logits, gemm_split_k, gemm_swiglu)
from voxtral_ros.backends.cuda.norm_rope import add_rms_norm  # noqa: E402
from voxtral_ros.backends.cuda.random_weights import random_packed  # noqa: E402
from voxtral_ros.backends.cuda.weights import PackedWeight, STRIP  # noqa: E402

CUDA = torch.device('cuda')
DECODER_LAYERS, ENCODER_LAYERS = 26, 32
DECODER = {'qkv': (3072, 6144), 'o': (4096, 3072), 'gate_up': (3072, 18432), 'down': (9216, 3072)}
ENCODER = {'qkv': (1280, 6144), 'o': (2048, 1280), 'gate_up': (1280, 10240), 'down': (5120, 1280)}
VOCABULARY, DIM = 131072, 3072
RESULTS: list[dict[str, object]] = []


def random_weight(bits: int, k: int, n: int) -> PackedWeight:
    """Return random weights that keep activations near 1."""
    if bits == 16:
        codes = (torch.randn(k // 16, n // 16, 256, device=CUDA) / k ** 0.5).half()
        return PackedWeight(16, k, n, codes, None)
    return random_packed(bits, (n, k), CUDA)


def random_cache(m: int, n_kv_heads: int, head_dim: int, window: int, per_token: int,
                 int8: bool = False) -> LayerCache:
    """Return keys and values of M streams for passes of up to 8 tokens."""
    shape = (m, window - 1 + 8 * per_token, n_kv_heads, head_dim)
    if not int8:
        keys, values = (torch.randn(shape, device=CUDA).half() for _ in range(2))
        return LayerCache(keys, values, None, window, per_token)
    codes = (torch.randint(1, 256, shape, dtype=torch.uint8, device=CUDA) for _ in range(2))
    scales = torch.full((m, n_kv_heads, shape[1], 2), 0.02, dtype=torch.bfloat16, device=CUDA)
    return LayerCache(*codes, scales, window, per_token)


def cache_bytes(cache: LayerCache) -> int:
    return sum(part.nbytes for part in (cache.keys, cache.values, cache.scales)
               if part is not None)


def timed(body: Callable[[], object], repeats: int = 30) -> float:
    """Return the median time of a graph replay in seconds."""
    torch.cuda.synchronize()  # tensors come from another stream
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        body()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        body()
    for _ in range(3):
        graph.replay()
    times = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return median(times)


def on_stream(body: Callable[[], object], stream: torch.cuda.Stream, repeats: int = 5) -> float:
    """Return the median time without a graph: launches queue up ahead of slow kernels."""
    times = []
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        body()
        for _ in range(repeats):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record(stream)
            body()
            end.record(stream)
            end.synchronize()
            times.append(begin.elapsed_time(end) / 1e3)
    return median(times)


def report(what: str, seconds: float, n_bytes: int, ceiling: float, note: str = '') -> None:
    floor = n_bytes / ceiling
    print(f'{what:58s} {seconds * 1e3:8.4f} ms {n_bytes / seconds / 1e9:7.0f} GB/s   '
          f'floor {floor * 1e3:.4f} ms   {floor / seconds * 100:4.0f} %  {note}', flush=True)
    RESULTS.append({'what': what, 'ms': seconds * 1e3, 'floor_ms': floor * 1e3, 'note': note})


def read_ceiling() -> float:
    """Return bytes per second of a reduction over 4 GiB."""
    data = torch.zeros(1 << 30, dtype=torch.float32, device=CUDA).uniform_()
    return data.nbytes / timed(lambda: torch.sum(data), 10)


def linears(layers: list[dict[str, PackedWeight]], inputs: dict[str, torch.Tensor]) -> None:
    for layer in layers:
        gemm(inputs['dim'], layer['qkv'])
        gemm_split_k(inputs['heads'], layer['o'])
        gemm_swiglu(inputs['dim'], layer['gate_up'])
        gemm_split_k(inputs['hidden'], layer['down'])


def with_norms(layers: list[dict[str, PackedWeight]], inputs: dict[str, torch.Tensor]) -> None:
    """Multiply and add the splits of o and down up, as the network does it."""
    h, norm = inputs['h'], inputs['norm']
    for layer in layers:
        gemm(inputs['dim'], layer['qkv'])
        x = add_rms_norm(h, norm, 1e-5, gemm_split_k(inputs['heads'], layer['o']))
        y = gemm_swiglu(x, layer['gate_up'])
        add_rms_norm(h, norm, 1e-5, gemm_split_k(y, layer['down']))


def decoder(ceiling: float, marlin: str | None, eight: torch.cuda.Stream | None) -> None:
    layers = [{name: random_weight(4, *shape) for name, shape in DECODER.items()}
              for _ in range(DECODER_LAYERS)]
    n_bytes = sum(weight.nbytes for layer in layers for weight in layer.values())
    peer = load_marlin(marlin) if marlin else None
    workspace = torch.zeros(1 << 16, dtype=torch.int32, device=CUDA)
    for m in (1, 2, 4, 8, 16):
        inputs = {name: torch.randn(1, m, width, device=CUDA).half()
                  for name, width in (('dim', 3072), ('heads', 4096), ('hidden', 9216))}
        inputs['h'] = torch.randn(1, m, 3072, device=CUDA)
        inputs['norm'] = torch.ones(3072, device=CUDA).half()
        report(f'decoder linears, M={m}', timed(lambda: linears(layers, inputs)), n_bytes, ceiling)
        report(f'  with the norms, which add up the splits of o and down, M={m}',
               timed(lambda: with_norms(layers, inputs)), n_bytes, ceiling)
        if eight:
            report(f'  on 8 SMs, M={m}', on_stream(lambda: linears(layers, inputs), eight),
                   n_bytes, ceiling)

        def ist(sms: int) -> None:
            stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
            for layer in layers:
                for name, source in (('qkv', 'dim'), ('o', 'heads'), ('gate_up', 'dim'),
                                     ('down', 'hidden')):
                    weight, x = layer[name], inputs[source]
                    y = torch.empty(m, weight.n, dtype=torch.half, device=CUDA)
                    arguments = (x, weight.codes, y, weight.scales)
                    error = peer.peer_marlin(
                        *(ctypes.c_void_p(part.data_ptr()) for part in arguments), m, weight.n,
                        weight.k, ctypes.c_void_p(workspace.data_ptr()), 128, sms, stream)
                    assert error == 0, error

        if peer:
            report(f'  IST Marlin, M={m}', timed(lambda: ist(-1)), n_bytes, ceiling)
            if m in (1, 4):
                report(f'  IST Marlin, 8 SMs, M={m}', timed(lambda: ist(8), 5), n_bytes, ceiling)
    for name, (k, n) in DECODER.items():
        x = torch.randn(1, 1, k, device=CUDA).half()
        multiply = gemm_swiglu if name == 'gate_up' else gemm_split_k
        seconds = timed(lambda: [multiply(x, layer[name]) for layer in layers]) / len(layers)
        report(f'  {name} {k} x {n}, M=1', seconds, layers[0][name].nbytes, ceiling)
    x = {k: torch.randn(1, k, device=CUDA).bfloat16() for k in (3072, 4096, 9216)}
    packed = [[(k, torch.randint(-2 ** 31, 2 ** 31 - 1, (n // 8, k // 128, 32, 4),
                                 dtype=torch.int32, device=CUDA),
                torch.rand(k // 128, n, 2, device=CUDA).bfloat16())
               for k, n in DECODER.values()] for _ in range(DECODER_LAYERS)]
    report('  torch _weight_int4pack_mm, bf16, M=1', timed(
        lambda: [torch._weight_int4pack_mm(x[k], words, 128, scales)
                 for layer in packed for k, words, scales in layer]), n_bytes, ceiling)


def plans(eight: torch.cuda.Stream | None) -> None:
    """Time every way to share K out among warps and blocks; the best ones first."""
    for bits, shapes, n_layers, rows in ((4, DECODER, DECODER_LAYERS, (1, 8, 16)),
                                         (4, ENCODER, ENCODER_LAYERS, (4, 12, 24)),
                                         (8, ENCODER, ENCODER_LAYERS, (4, 12))):
        for name, (k, n) in shapes.items():
            epilogue = {'qkv': 0, 'gate_up': 2}.get(name, 1)
            layers = [random_weight(bits, k, n) for _ in range(n_layers)]
            for m in rows:
                x = torch.randn(m, k, device=CUDA).half()
                found = []
                for warps, splits in product((1, 2, 3, 4, 5, 6, 8, 9, 10),
                                             (1, 2, 3, 4, 5, 6, 8, 9)):
                    if k // 128 % (warps * splits) or (epilogue != 1 and splits > 1) \
                            or (epilogue == 2 and warps > 5) \
                            or warps * splits * n < 200 * STRIP[bits]:
                        continue
                    y = torch.empty(splits, m, n, device=CUDA)

                    def body() -> None:
                        for weight in layers:
                            library.call('voxtral_gemm', bits, 0, epilogue, x, weight.codes,
                                         weight.scales, None, y, None, None, m, k, n, warps,
                                         splits, device=CUDA)

                    part = on_stream(body, eight, 2) / n_layers if eight and m < 8 else 0.0
                    found.append((timed(body, 6) / n_layers, part, f'{warps}x{splits}'))
                for kind, place in (('whole GPU', 0), ('8 SMs', 1)):
                    best = sorted(entry for entry in found if entry[place])
                    best.sort(key=lambda entry: entry[place])
                    if best:
                        print(f'{name} INT{bits} K={k} M={m}, {kind}: ' + ', '.join(
                            f'{plan} {(whole, part)[place] * 1e6:.2f} us'
                            for whole, part, plan in best[:8]), flush=True)


def load_marlin(path: str) -> ctypes.CDLL:
    return ctypes.CDLL(str(Path(path).resolve()))


def head(ceiling: float) -> None:
    table = (torch.randn(VOCABULARY, DIM, device=CUDA) / DIM ** 0.5).half()
    screen = random_weight(4, DIM, VOCABULARY)
    special = torch.tensor([2, 32, 33], dtype=torch.int32, device=CUDA)
    penalty = torch.zeros(16, device=CUDA)
    for m in (1, 4, 16):
        hidden = torch.randn(m, 1, DIM, device=CUDA).half()
        slots = torch.arange(m, device=CUDA)
        candidate = Head(screen, table, special, 32)
        report(f'LM head, screened and exact, M={m}',
               timed(lambda: argmax(hidden, candidate, slots, penalty)), screen.nbytes, ceiling)
        report(f'  its INT4 GEMM alone, M={m}',
               timed(lambda: gemm_logits(hidden[:, 0], screen)), screen.nbytes, ceiling)
    report('  F.linear bf16 and argmax, M=1',
           timed(lambda: F.linear(hidden[:1, 0], table).float().argmax(-1)), table.nbytes, ceiling)


def attention_alone(ceiling: float, eight: torch.cuda.Stream | None) -> None:
    decoder_shape = ('decoder, 8192 positions', 8, 128, 8192, 1)
    encoder_shape = ('encoder, 750 positions', 32, 64, 750, 4)
    cases = [(decoder_shape, m, length) for m, length in ((1, 1), (1, 6), (4, 1), (32, 1))]
    cases += [(encoder_shape, m, 4) for m in (1, 32)]
    for (name, n_kv_heads, head_dim, window, per_token), m, length in cases:
        for int8 in (False, True):
            # As many layers as the L2 does not hold.
            caches = [random_cache(m, n_kv_heads, head_dim, window, per_token, int8)
                      for _ in range(max(2, 64 // m))]
            qkv = torch.randn(m, length, (32 + 2 * n_kv_heads) * head_dim, device=CUDA).half()
            slots = torch.arange(m, device=CUDA)
            position = torch.full((m,), 20000, device=CUDA)
            angles = torch.randn(2, m, length, head_dim // 2, device=CUDA)
            counters = torch.zeros(n_counters(m, length, 32, n_kv_heads), dtype=torch.int32,
                                   device=CUDA)

            def body() -> None:
                for cache in caches:
                    attention(qkv, cache, slots, position, *angles, 32, True, counters)

            label = f'attention, {name}, {8 if int8 else 16} bits, M={m}, {length} queries'
            n_bytes = cache_bytes(caches[0])
            report(label, timed(body) / len(caches), n_bytes, ceiling)
            if eight and m == 1:
                report('  on 8 SMs', on_stream(body, eight) / len(caches), n_bytes, ceiling)
            caches.clear()
    layers = 8
    q = torch.randn(1, 32, 1, 128, device=CUDA).half()
    kv = torch.randn(layers, 2, 1, 8, 8192, 128, device=CUDA).half()
    report('  torch SDPA over expanded keys and values, M=1', timed(lambda: [
        F.scaled_dot_product_attention(q, *(part.repeat_interleave(4, dim=1) for part in layer))
        for layer in kv]) / layers, kv[0].nbytes, ceiling)


def encoder(ceiling: float) -> None:
    for bits in (4, 8, 16):
        layers = [{name: random_weight(bits, *shape) for name, shape in ENCODER.items()}
                  for _ in range(ENCODER_LAYERS)]
        n_bytes = sum(weight.nbytes for layer in layers for weight in layer.values())
        for frames in (4, 12, 24):
            caches = [random_cache(1, 32, 64, 750, 4) for _ in range(ENCODER_LAYERS)]
            slots = torch.zeros(1, dtype=torch.int64, device=CUDA)
            position = torch.full((1,), 1000, device=CUDA)
            angles = torch.randn(2, 1, frames, 32, device=CUDA)
            counters = torch.zeros(n_counters(1, frames, 32, 32), dtype=torch.int32, device=CUDA)
            h = torch.randn(1, frames, 1280, device=CUDA)
            norm = torch.ones(1280, device=CUDA).half()
            dim, wide = (torch.randn(1, frames, width, device=CUDA).half()
                         for width in (1280, 5120))

            def body(fused: bool) -> None:
                for layer, cache in zip(layers, caches, strict=True):
                    x = add_rms_norm(h, norm, 1e-5) if fused else dim
                    a = attention(gemm(x, layer['qkv']), cache, slots, position, *angles, 32,
                                  False, counters)
                    partial = gemm_split_k(a, layer['o'])
                    x = add_rms_norm(h, norm, 1e-5, partial) if fused else dim
                    y = gemm_swiglu(x, layer['gate_up'])
                    gemm_split_k(y if fused else wide, layer['down'])

            read = n_bytes + sum(cache.keys.nbytes * 2 for cache in caches)
            report(f'encoder linears and attention, {bits} bits, {frames} frames',
                   timed(lambda: body(False)), read, ceiling)
            report(f'  with norms, {bits} bits, {frames} frames', timed(lambda: body(True)),
                   read, ceiling)
        layers.clear()
    weights = [[(torch.randn(n, k, device=CUDA) / k ** 0.5).bfloat16()
                for k, n in ENCODER.values()] for _ in range(ENCODER_LAYERS)]
    x = {k: torch.randn(12, k, device=CUDA).bfloat16() for k in (1280, 2048, 5120)}
    n_bytes = sum(weight.nbytes for layer in weights for weight in layer)
    report('  F.linear bf16, linears alone, 12 frames', timed(
        lambda: [F.linear(x[w.shape[1]], w) for layer in weights for w in layer]),
        n_bytes, ceiling)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    names = ('decoder', 'head', 'attention', 'encoder', 'plans')
    parser.add_argument('--parts', nargs='+', choices=names, default=names[:-1])
    parser.add_argument('--orin-build', action='store_true', help='machine code of compute_87')
    parser.add_argument('--marlin', metavar='FILE', help='peer, see above')
    parser.add_argument('--json', type=Path, metavar='FILE')
    arguments = parser.parse_args()
    if arguments.orin_build:
        os.environ['VOXTRAL_KERNELS'] = str(build(architectures=[]))
    begin = time.time()
    library.load()
    name = 'compute_87, translated' if arguments.orin_build else 'native'
    print(f'{torch.cuda.get_device_name()}, torch {torch.__version__}, kernels: {name} '
          f'({time.time() - begin:.0f} s to build and load)')
    ceiling = read_ceiling()
    print(f'read ceiling {ceiling / 1e9:.0f} GB/s', flush=True)
    try:
        eight = few_sms(8)
    except (RuntimeError, AttributeError, OSError) as error:
        print(f'no part on 8 SMs: {error}')
        eight = None
    torch.manual_seed(0)
    parts: dict[str, Callable[[], None]] = {
        'decoder': lambda: decoder(ceiling, arguments.marlin, eight),
        'head': lambda: head(ceiling), 'attention': lambda: attention_alone(ceiling, eight),
        'encoder': lambda: encoder(ceiling), 'plans': lambda: plans(eight)}
    for part in arguments.parts:
        parts[part]()
        torch.cuda.empty_cache()
    if arguments.json:
        arguments.json.write_text(json.dumps(
            {'gpu': torch.cuda.get_device_name(), 'build': name, 'read_gb_s': ceiling / 1e9,
             'results': RESULTS}, indent=1))


if __name__ == '__main__':
    main()
