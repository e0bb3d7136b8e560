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
Synthesize sentences with eSpeak NG, a formant synthesizer, until the time is up.

    python -m training.synthesis.speak_espeak --root build/training --processes 2 --seconds 200

Less intelligible than the other TTS engines and unlike them: random accents, pitches and voice
variants. Needs PyPI's espeakng-loader, or a folder with its library and data.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
import random

import numpy as np
from scipy.signal import resample_poly
from training.synthesis.shards import synthesis_parser, synthesize_in_processes

_ACCENTS = ('en-us', 'en-us', 'en-us', 'en', 'en-gb-x-rp', 'en-gb-scotland',
            'en-gb-x-gbclan', 'en-gb-x-gbcwmd', 'en-029')
_VARIANTS = ('', 'm1', 'm2', 'm3', 'm4', 'm5', 'm6', 'm7', 'm8', 'f1', 'f2', 'f3', 'f4', 'f5')
_RETRIEVAL, _UTF8, _PHONEMES_END = 1, 1, 0x1000  # of espeak_Initialize and espeak_Synth
_LIST_END, _WORD = 0, 1  # event types
_RATE, _PITCH, _RANGE = 1, 3, 4  # parameters


class _Event(ctypes.Structure):
    """espeak_EVENT."""

    _fields_ = [('type', ctypes.c_int), ('identifier', ctypes.c_uint),
                ('text_position', ctypes.c_int), ('length', ctypes.c_int),
                ('audio_position', ctypes.c_int), ('sample', ctypes.c_int),
                ('user_data', ctypes.c_void_p), ('id', ctypes.c_char * 8)]


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int,
                             ctypes.POINTER(_Event))


class Espeak:
    """English in many voices."""

    def __init__(self, folder: Path) -> None:
        """Load libespeak-ng.so from a folder that also has espeak-ng-data/."""
        self._espeak = ctypes.CDLL(str(folder / 'libespeak-ng.so'))
        self.rate_hz = self._espeak.espeak_Initialize(_RETRIEVAL, 0, str(folder).encode(), 0)
        if self.rate_hz <= 0:
            raise OSError(f'eSpeak NG found no data in {folder}')
        self._audio: list[np.ndarray] = []
        self._words: list[tuple[int, float]] = []
        self._callback = _CALLBACK(self._collect)  # kept: the library keeps only its address
        self._espeak.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples: ctypes._Pointer[ctypes.c_short], n_samples: int,
                 events: ctypes._Pointer[_Event]) -> int:
        if samples and n_samples:
            self._audio.append(np.ctypeslib.as_array(samples, (n_samples,)).copy())
        number = 0
        while events[number].type != _LIST_END:
            if events[number].type == _WORD:
                self._words.append(
                    (events[number].text_position, events[number].audio_position / 1000))
            number += 1
        return 0

    def synthesize(self, text: str) -> tuple[np.ndarray, list[float]]:
        """
        Return audio at 16 kHz in a random voice, and its word ends in seconds.

        A word ends where the next one begins. Where eSpeak splits or merges words, there are more
        or fewer ends than words.
        """
        variant = random.choice(_VARIANTS)
        voice = random.choice(_ACCENTS) + (f'+{variant}' if variant else '')
        if self._espeak.espeak_SetVoiceByName(voice.encode()):
            raise ValueError(f'eSpeak NG has no voice {voice}')
        self._espeak.espeak_SetParameter(_RATE, random.randint(120, 210), 0)
        self._espeak.espeak_SetParameter(_PITCH, random.randint(20, 80), 0)
        self._espeak.espeak_SetParameter(_RANGE, random.randint(20, 90), 0)
        self._audio, self._words = [], []
        content = text.encode()
        self._espeak.espeak_Synth(content, len(content) + 1, 0, 1, 0, _UTF8, None, None)
        self._espeak.espeak_Synchronize()
        audio = np.concatenate(self._audio)
        starts = dict(self._words)  # several events at one place: the last
        ends = [starts[place] for place in sorted(starts)][1:] + [len(audio) / self.rate_hz]
        return resample_poly(
            audio.astype(np.float32), 320, self.rate_hz * 320 // 16000), ends


def main() -> None:
    """Start the processes and wait for them."""
    parser = synthesis_parser(__doc__.splitlines()[1], 2)
    parser.add_argument('--folder', type=Path, help='default: that of espeakng-loader')
    arguments = parser.parse_args()
    if arguments.folder is None:
        import espeakng_loader
        arguments.folder = Path(espeakng_loader.get_library_path()).parent
    synthesize_in_processes(arguments, 'espeak', 2000, Espeak, arguments.folder)


if __name__ == '__main__':
    main()
