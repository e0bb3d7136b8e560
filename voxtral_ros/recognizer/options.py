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

"""What can be tuned in a stream, and what it counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from voxtral_ros.recognizer.endpoint import EndpointOptions
from voxtral_ros.recognizer.slot import Token
from voxtral_ros.recognizer.vad import VadOptions
from voxtral_ros.recognizer.watchdog import WatchdogOptions


@dataclass(frozen=True)
class StreamOptions:
    """Tuning of one stream."""

    endpoint: EndpointOptions = field(default_factory=EndpointOptions)
    vad: VadOptions = field(default_factory=VadOptions)
    watchdog: WatchdogOptions = field(default_factory=WatchdogOptions)
    # Called with every generated token, pads included: for logs, plots and tests.
    on_token: Callable[[Token], None] | None = None


@dataclass
class StreamStats:
    """Counters since the stream was opened."""

    tokens: int = 0
    pads: int = 0
    bad_samples: int = 0  # NaN, infinite or absurdly large, replaced by silence
    discarded_words: int = 0  # written where voice activity found nothing like speech
    watchdog_penalties: int = 0
    watchdog_resets: int = 0
    repetition_loops: int = 0  # in which the model wrote the same words again and again
