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

"""Where the node's engine comes from: a model here, or a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TYPE_CHECKING

from voxtral_ros.recognizer.interface import NotFinite
from voxtral_ros.resources import demo_model

if TYPE_CHECKING:
    from voxtral_ros.recognizer.interface import SpeechEngine


def load_engine(value: Callable[[str], Any]) -> tuple[SpeechEngine, str]:
    """
    Load and warm up the recogniser that the parameters ask for; return it and its name.

    :param value: returns the value of a parameter
    :raises ValueError, OSError: the parameters name no usable model or device
    """
    url = value('engine.url').strip()
    if url:
        from voxtral_ros.client.engine import RemoteEngine
        from voxtral_ros.server.access import read_token
        token = read_token(Path(value('engine.token_file'))) if value('engine.token_file') else ''
        remote = RemoteEngine(url, value('engine.model'), token, value('engine.ca_file') or None,
                              value('engine.outage_s'))
        return remote, ' '.join(remote.urls)
    # Not at the top: a robot with a server needs none of it.
    from voxtral_ros.recognizer.engine import Engine
    model = value('model') or str(demo_model())
    engine = Engine.load(model, value('device'), value('dtype') or None,
                         max_chunk_tokens=value('engine.encoder_chunk_ms') // 80,
                         threads=value('threads'), window=value('engine.window'),
                         verify=value('engine.verify'), kv_cache=value('engine.kv_cache'))
    try:
        engine.warm_up()
    except NotFinite as error:
        engine.close()
        raise ValueError(f'{model}: {error}') from None
    return engine, f'{model} on {engine.backend.device}'
