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

"""The model: its files, what it needs of the memory that there is, and how fast it may run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxtral_ros.backends.base import DEFAULT_CHUNK_TOKENS, kv_cache_tokens
from voxtral_ros.backends.benchmark import Board, BOARDS, PassBytes, planned_bytes, TOKEN_S
from voxtral_ros.backends.cpu.memory import weight_bytes
from voxtral_ros.backends.kv_cache import is_int8_cache
from voxtral_ros.doctor.board import read_clocks, read_model
from voxtral_ros.doctor.finding import Finding, look, ok, wrong
from voxtral_ros.doctor.machine import Machine, Probe
from voxtral_ros.model.checkpoint import check_folder, open_weights
from voxtral_ros.model.config import ModelConfig
from voxtral_ros.model.layout import find_layout
from voxtral_ros.quantization.inspection import inspect

_PROCESS = 0.1e9  # bytes of Python and its libraries, those of ROS among them
_BITS = {'dense': 16, 'int8': 8, 'int4': 4}
_SHORT, _LONG = 1, 6  # tokens of 80 ms: in time, and as much as the engine takes when it is late
_YOUNG = 500  # tokens that a stream looks back after 40 s
_COMFORT = 0.7  # real-time factor that leaves room for the rest of the robot
_SMALLER = ('take a checkpoint of `voxtral quantize --encoder-bits 8 --head-bits 4`, or a smaller '
            'engine.window')

Progress = Callable[[int], object]


@dataclass(frozen=True)
class Model:
    """A model that can be used, and what is to be known of it."""

    folder: Path
    config: ModelConfig  # with the window that is asked for
    n_bytes: int  # of the file
    cpu_bytes: int  # of the weights, as a CPU holds them
    kinds: Counter[str]  # how many weights are 'dense', 'int8' and 'int4'
    bits: Callable[[str], int]  # of a weight by its checkpoint name, on a GPU

    def pass_bytes(self, cache_bits: int = 16) -> PassBytes:
        """Return what a pass on a GPU with our kernels reads."""
        return PassBytes.of(self.config, planned_bytes(self.config, self.bits, head_bits=4),
                            cache_bits)

    def cache_bytes(self, bits: int) -> int:
        """Return the size of the KV caches of a stream."""
        return self.config.kv_cache_bytes(kv_cache_tokens(DEFAULT_CHUNK_TOKENS), bits)


def open_model(folder: Path, window: int) -> Model:
    """
    Read all of a model but its weights.

    :raises ValueError: it is not usable
    """
    check_folder(folder)
    with open_weights(folder, window) as (config, weights):
        kinds = {name: stored.kind for name, stored in weights.stored.items()}
        return Model(folder, config, weights.nbytes, weight_bytes(weights),
                     Counter(kinds.values()), lambda name: _BITS[kinds[name]])


def describe(model: Model) -> Finding:
    """Show which model it is."""
    packed = ', '.join(f'{model.kinds[kind]} in {kind.upper()}' for kind in ('int4', 'int8')
                       if kind in model.kinds)
    n_weights = sum(model.kinds.values())
    return ok('model', f'{model.folder}: {model.n_bytes / 1e9:.2f} GB, {n_weights} weights '
              f'({packed or "none packed"}), window {model.config.decoder.sliding_window}')


def check_files(model: Model, progress: Progress) -> Finding:
    """Compare all weights with their checksums, and look for numbers that no weight is."""
    name, compared = 'checksums', True
    for path in find_layout(model.folder).weights:
        found = inspect(path, progress=progress)
        if found.problems:
            more = f', and {len(found.problems) - 1} more' if found.problems[1:] else ''
            return wrong(name, f'{path.name}: {found.problems[0]}{more}',
                         'download, copy or quantize it again')
        compared = compared and found.compared
    if not compared:
        return look(name, 'there are none; names, shapes and ranges are right',
                    f'if you trust the files: voxtral verify --write {model.folder}')
    return ok(name, 'all weights are as they say')


def check_memory(machine: Machine, model: Model, gpu: Probe, kv_cache: str = 'auto') -> Finding:
    """
    Compare what one stream needs with what is free and with all there is.

    :param kv_cache: see load_backend
    """
    name, found = 'memory', gpu.found
    free, total = (machine.memory.get(key, 0) for key in ('MemAvailable', 'MemTotal'))
    if 'plan_bytes' in found:
        needed, plan = found['plan_bytes'], f'{found["plan"]}'
        if not found['gpus'][0]['integrated']:
            free, total = found['free'], found['total']
            plan += ' of the GPU'
    elif found.get('computes'):
        return look(name, f'what the GPU needs is not known: {found.get("plan_error", gpu.error)}',
                    'the log has it when the model is loaded')
    else:
        int8_cache = is_int8_cache(kv_cache, model.cpu_bytes + model.cache_bytes(16), total)
        caches = model.cache_bytes(8 if int8_cache else 16)
        needed = round(model.cpu_bytes + caches + _PROCESS)
        plan = (f'{needed / 1e9:.2f} GB on the CPU: weights {model.cpu_bytes / 1e9:.2f}, caches '
                f'{caches / 1e9:.2f}, Python {_PROCESS / 1e9:.2f}')
    if not total:
        return look(name, f'one stream needs {plan}; what there is cannot be read',
                    'free -h shows it')
    text = f'one stream needs {plan}; {free / 1e9:.2f} of {total / 1e9:.2f} GB are free'
    if needed > total:
        return wrong(name, text, _SMALLER)
    if needed > free:
        return wrong(name, text, f'end other programs, the desktop first, or {_SMALLER}; if the '
                     'model is running now, it has that memory already')
    return ok(name, text)


def check_speed(machine: Machine, model: Model, gpu: Probe) -> Finding:
    """Predict the real-time factor on a Jetson's GPU; elsewhere it has to be measured."""
    name = 'speed'
    measure = f'voxtral bench --model {model.folder}'
    if not machine.is_jetson or not gpu.found.get('packed'):
        return ok(name, f'not predicted here; measure it: {measure}')
    boards = boards_of(machine, gpu.found['gpus'][0])
    slowest, window = boards[0], model.config.decoder.sliding_window
    counted = model.pass_bytes(gpu.found['cache_bits'])
    text = 'predicted real-time factor (with a full window) ' + '; or '.join(
        ', '.join(f'{_factor(counted, board, chunk, min(_YOUNG, window)):.2f} '
                  f'({_factor(counted, board, chunk, window):.2f}) in chunks of {80 * chunk} ms'
                  for chunk in (_SHORT, _LONG))
        + f', {board.name}' for board in boards)
    if _factor(counted, slowest, _LONG, window) >= 1:
        return wrong(name, f'{text}: it cannot keep up', f'{_SMALLER}, and see power mode')
    if _factor(counted, slowest, _SHORT, window) > _COMFORT:
        return look(name, text, f'words may come late; measure it: {measure}')
    return ok(name, f'{text}; measure it: {measure}')


def _factor(counted: PassBytes, board: Board, chunk: int, context: int) -> float:
    return counted.predicted_s(board, chunk, context) / TOKEN_S


def boards_of(machine: Machine, gpu: dict[str, Any]) -> list[Board]:
    """Return this board, or those that it may be where it keeps its clock of memory to itself."""
    clocks = read_clocks(machine)
    wide = 'AGX' in read_model(machine)
    rates = [clocks.bandwidth] if clocks.bandwidth else sorted(
        board.memory_rate for board in BOARDS if ('AGX' in board.name) == wide)
    clock = clocks.gpu or gpu['clock']
    return [Board(f'memory at {rate / 1e9:.0f} GB/s, {gpu["n_sms"]} SMs at {clock / 1e6:.0f} MHz',
                  rate, gpu['n_sms'], clock) for rate in rates]
