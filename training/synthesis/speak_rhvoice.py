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
Synthesize sentences with RHVoice's statistical voices until the time is up.

    python -m training.synthesis.speak_rhvoice --root build/training --folder build/rhvoice \
        --processes 2 --seconds 200

Hidden Markov models of three speakers of CMU ARCTIC, at random pitches and rates. slt is left out:
flite has this speaker, and so has a TTS engine of the test sets. Needs a folder with libRHVoice.so
and data/. RHVoice buffers audio for 100 ms, which makes its word ends too early: compile it
(1.14.0, C API only, without MAGE) with `get_audio_buffer_size` in src/lib/lib.cpp returning 0.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
import random

import numpy as np
import soxr
from training.synthesis.shards import synthesis_parser, synthesize_in_processes

VOICES = ('Bdl', 'Clb', 'Ksp')
_TEXT = 0  # RHVoice_message_text

_SET_RATE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
_PLAY = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p)
_WORD_END = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p)


class _InitParams(ctypes.Structure):
    """RHVoice_init_params, with its RHVoice_callbacks in place."""

    _fields_ = [('data_path', ctypes.c_char_p), ('config_path', ctypes.c_char_p),
                ('resource_paths', ctypes.c_void_p), ('set_sample_rate', _SET_RATE),
                ('play_speech', _PLAY), ('process_mark', ctypes.c_void_p),
                ('word_starts', ctypes.c_void_p), ('word_ends', _WORD_END),
                ('sentence_starts', ctypes.c_void_p), ('sentence_ends', ctypes.c_void_p),
                ('play_audio', ctypes.c_void_p), ('done', ctypes.c_void_p),
                ('options', ctypes.c_uint)]


class _SynthParams(ctypes.Structure):
    """RHVoice_synth_params."""

    _fields_ = [('voice_profile', ctypes.c_char_p), ('absolute_rate', ctypes.c_double),
                ('absolute_pitch', ctypes.c_double), ('absolute_volume', ctypes.c_double),
                ('relative_rate', ctypes.c_double), ('relative_pitch', ctypes.c_double),
                ('relative_volume', ctypes.c_double), ('punctuation_mode', ctypes.c_int),
                ('punctuation_list', ctypes.c_char_p), ('capitals_mode', ctypes.c_int),
                ('flags', ctypes.c_int)]


class RHVoice:
    """English in three voices."""

    def __init__(self, folder: Path) -> None:
        """Load libRHVoice.so from a folder that also has data/."""
        self._rhvoice = ctypes.CDLL(str(folder / 'libRHVoice.so'))
        self._rhvoice.RHVoice_new_tts_engine.restype = ctypes.c_void_p
        self._rhvoice.RHVoice_new_message.restype = ctypes.c_void_p
        self._rate_hz = 24000
        self._audio = bytearray()
        self._ends: list[float] = []
        # kept with its functions: the library keeps only their addresses
        self._params = _InitParams(
            data_path=str(folder / 'data').encode(), config_path=str(folder / 'config').encode(),
            set_sample_rate=_SET_RATE(self._set_rate), play_speech=_PLAY(self._play),
            word_ends=_WORD_END(self._end_word))
        self._engine = ctypes.c_void_p(
            self._rhvoice.RHVoice_new_tts_engine(ctypes.byref(self._params)))
        if not self._engine:
            raise OSError(f'RHVoice found no voices in {folder / "data"}')

    def _set_rate(self, rate_hz: int, _user: int | None) -> int:
        self._rate_hz = rate_hz
        return 1

    def _play(self, samples: int, n_samples: int, _user: int | None) -> int:
        self._audio += ctypes.string_at(samples, 2 * n_samples)
        return 1

    def _end_word(self, _position: int, _length: int, _user: int | None) -> int:
        self._ends.append(len(self._audio) / 2 / self._rate_hz)
        return 1

    def synthesize(self, text: str) -> tuple[np.ndarray, list[float]]:
        """
        Return audio, int16 at 16 kHz, in a random voice, and its word ends in seconds.

        The library reports the end of a word after it has played the word's samples, 5 ms at a
        time.
        """
        self._audio, self._ends = bytearray(), []
        content = text.encode()
        message = ctypes.c_void_p(self._rhvoice.RHVoice_new_message(
            self._engine, content, len(content), _TEXT, ctypes.byref(_SynthParams(
                voice_profile=random.choice(VOICES).encode(),
                relative_rate=random.uniform(0.8, 1.3), relative_pitch=random.uniform(0.75, 1.35),
                relative_volume=1)), None))
        self._rhvoice.RHVoice_speak(message)
        self._rhvoice.RHVoice_delete_message(message)
        audio = np.frombuffer(self._audio, np.int16)
        return soxr.resample(audio, self._rate_hz, 16000), self._ends


def main() -> None:
    """Start the processes and wait for them."""
    parser = synthesis_parser(__doc__.splitlines()[1], 2)
    parser.add_argument('--folder', type=Path, required=True, help='of libRHVoice.so and data/')
    arguments = parser.parse_args()
    synthesize_in_processes(arguments, 'rhvoice', 3000, RHVoice, arguments.folder)


if __name__ == '__main__':
    main()
