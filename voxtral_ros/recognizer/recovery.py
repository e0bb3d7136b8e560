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

"""What a stream does when its watchdog finds that the model is stuck."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from voxtral_ros.recognizer.options import StreamStats
from voxtral_ros.recognizer.stream_audio import StreamAudio
from voxtral_ros.recognizer.vad import VoiceActivity
from voxtral_ros.recognizer.watchdog import Action, Watchdog

if TYPE_CHECKING:
    from voxtral_ros.recognizer.engine import Engine


_LOGGER = logging.getLogger(__name__)
_WARN_EVERY_S = 10.0


class Recovery:
    """Penalises the pad of one stream, counts what its watchdog does, and logs it."""

    def __init__(self, engine: Engine, audio: StreamAudio, voice: VoiceActivity,
                 watchdog: Watchdog, stats: StreamStats) -> None:
        self._engine, self._audio, self._voice = engine, audio, voice
        self._watchdog, self._stats = watchdog, stats
        self._quiet_until_s = 0.0  # no warning before

    def apply(self, action: Action) -> None:
        """Do what the watchdog wants; but to start afresh is up to the stream."""
        watchdog, options = self._watchdog, self._watchdog.options
        if action is Action.NOTHING:
            return
        if action is Action.PENALISE and abs(watchdog.penalty) == options.penalty_per_token:
            self.warn('%s the pad logit', 'the model repeats itself: raising'
                      if watchdog.penalty < 0 else
                      f'speech without words for {options.speech_s:.0f} s: lowering')
        if action is not Action.RESET:
            self._engine.penalise_pad(self._audio.used_slot, watchdog.penalty)
        self._stats.watchdog_penalties = watchdog.n_penalties
        self._stats.watchdog_resets = watchdog.n_resets
        self._stats.repetition_loops = watchdog.n_repetitions

    def warn(self, message: str, *details: object) -> None:
        """Log what is done; a model beyond help would fill the log."""
        if self._voice.processed_s >= self._quiet_until_s:
            _LOGGER.warning(message, *details)
            self._quiet_until_s = self._voice.processed_s + _WARN_EVERY_S
