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

"""Where the node's engine comes from: the one place that knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.resources import demo_model


def load_engine(value: Callable[[str], Any]) -> tuple[Engine, str]:
    """
    Load and warm up the recogniser that the parameters ask for; return it and its name.

    :param value: returns the value of a parameter
    :raises ValueError, OSError: the parameters name no usable model or device
    """
    model = value('model') or str(demo_model())
    engine = Engine.load(model, value('device'), value('dtype') or None, threads=value('threads'))
    stream = engine.open(value('delay_ms'))
    stream.feed(np.zeros(16000, np.float32))
    stream.poll()
    stream.abandon()
    return engine, f'{model} on {engine.device}'
