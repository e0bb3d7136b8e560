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

"""One engine for each of several devices, all of the same model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from voxtral_ros.backends.cpu.backend import default_threads
from voxtral_ros.model.checkpoint import CheckpointError
from voxtral_ros.model.config import ConfigError
from voxtral_ros.model.tokenizer import TokenizerError
from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.recognizer.interface import NotFinite


def load_engines(folder: str | Path, devices: Sequence[str], threads: int = 0,
                 **options: Any) -> dict[str, Engine]:
    """
    Load a checkpoint folder into an engine for each device, one by one, and warm them up.

    :param devices: 'cpu' or 'cuda:N'
    :param threads: on the CPU, of all engines together; 0: OMP_NUM_THREADS, or one per core
    :param options: of Engine.load
    :return: by name, which is the device, with a number where there are several on one
    :raises ConfigError, CheckpointError, TokenizerError: the folder is no usable model
    :raises ValueError: an engine cannot be had; where there are several, it is named
    """
    engines: dict[str, Engine] = {}
    # On a GPU they are of no use.
    per_engine = threads if devices.count('cpu') < 2 else max(
        1, (threads or default_threads()) // devices.count('cpu'))
    try:
        for name, device in zip(engine_names(devices), devices, strict=True):
            try:
                engines[name] = engine = Engine.load(folder, device, threads=per_engine, **options)
                engine.warm_up()
            except (NotFinite, ConfigError, CheckpointError, TokenizerError):
                raise  # none of them is better
            except (ValueError, RuntimeError, MemoryError) as error:
                if isinstance(error, ValueError) and len(devices) == 1:
                    raise
                # Of what CUDA says, the first line is enough.
                reason = (str(error).splitlines() or ['too little memory'])[0]
                raise ValueError(f'no engine on {name}: {reason}') from error
    except BaseException:
        for engine in engines.values():
            engine.close()
        raise
    return engines


def engine_names(devices: Sequence[str]) -> list[str]:
    """Return a name for the engine of each device: 'cuda:1', or 'cpu/0' and 'cpu/1'."""
    n_engines, seen = Counter(devices), Counter[str]()
    names = []
    for device in devices:
        names.append(device if n_engines[device] == 1 else f'{device}/{seen[device]}')
        seen[device] += 1
    return names
