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

"""Whether what a client appends can be audio at all: a client without text gets the reason."""

from __future__ import annotations

import numpy as np

from voxtral_ros.audio.block import AudioBlock, Samples
from voxtral_ros.audio.level import LevelMeter
from voxtral_ros.audio.signature import CompressedStream

_WANTED = 'send base64 of PCM16, little-endian, mono'
_QUIET = 1e-3  # a muted microphone dithers by a step or two, and that is no mistake


class AudioCheck:
    """Looks at the audio of one client."""

    def __init__(self) -> None:
        self._meter, self._compressed = LevelMeter(), CompressedStream()
        self._reported = False

    def look(self, samples: Samples, rate_hz: int) -> str:
        """
        Return why what comes cannot be audio and what to do; '' if it can, and the second time.

        :param samples: of one append, float32 [n]
        """
        doubt = '' if self._reported else self._doubt(samples, rate_hz)
        self._reported = self._reported or bool(doubt)
        return doubt

    def _doubt(self, samples: Samples, rate_hz: int) -> str:
        name = self._compressed.look((samples * 32768).astype('<i2').tobytes())
        if name and name != 'WAV':  # the header of a WAV file is a click, and samples follow
            return f'this is {name}, and no raw samples: {_WANTED}'
        for start in range(0, len(samples), rate_hz):  # the meter judges a second at a time
            second = samples[start:start + rate_hz]
            if np.abs(second).max() >= _QUIET:
                self._meter.add(AudioBlock(second, rate_hz, None))
        suspicion = self._meter.suspicion
        return f'{suspicion}; {_WANTED}' if suspicion else ''
