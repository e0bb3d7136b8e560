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
from voxtral_ros.recognizer.idle import IdleOptions
from voxtral_ros.recognizer.slot import Token
from voxtral_ros.recognizer.turns import TurnOptions
from voxtral_ros.recognizer.vad import VadOptions
from voxtral_ros.recognizer.watchdog import WatchdogOptions


@dataclass(frozen=True)
class StreamOptions:
    """Tuning of one stream."""

    endpoint: EndpointOptions = field(default_factory=EndpointOptions)
    vad: VadOptions = field(default_factory=VadOptions)
    watchdog: WatchdogOptions = field(default_factory=WatchdogOptions)
    idle: IdleOptions = field(default_factory=IdleOptions)
    turns: TurnOptions = field(default_factory=TurnOptions)
    # Called with every generated token, pads included: for logs, plots and tests.
    on_token: Callable[[Token], None] | None = None


def offline_options(on_token: Callable[[Token], None] | None = None) -> StreamOptions:
    """Return options for recordings: every token is generated, and nobody waits for an end."""
    return StreamOptions(idle=IdleOptions(after_s=0), turns=TurnOptions(eager_s=0),
                         on_token=on_token)


@dataclass
class StreamStats:
    """Counters since the stream was opened."""

    tokens: int = 0
    pads: int = 0
    # That there would be by now if the model were given all that was fed, once: for who counts
    # tokens to know where in the audio the text is.
    audio_tokens: int = 0
    fed_s: float = 0.0  # audio
    skipped_s: float = 0.0  # of it, not given to the model, because nobody spoke
    idle_s: float = 0.0  # for how long nobody has spoken and it was given nothing; 0: it is now
    is_alert: bool = False  # there was something like speech less than idle.after_s ago
    looks_ahead: int = 0
    tokens_ahead: int = 0  # generated to look ahead; not among `tokens`
    corrected_ends: int = 0  # utterances whose last words became others after their end
    bad_samples: int = 0  # NaN, infinite or absurdly large, replaced by silence
    discarded_words: int = 0  # written where voice activity found nothing like speech
    watchdog_penalties: int = 0
    watchdog_resets: int = 0
    repetition_loops: int = 0  # in which the model wrote the same words again and again
