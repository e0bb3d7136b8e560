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
Synthesize sentences with flite's unit-selection and diphone voices until the time is up.

    python -m training.synthesis.speak_flite --root build/training --processes 4 --seconds 200

Voices made of recordings of four speakers. Needs Debian's libflite1; `--libraries` names the
folder of libflite.so.1 when it is not installed.
"""

from __future__ import annotations

import ctypes
import random

import numpy as np
from training.synthesis.shards import synthesis_parser, synthesize_in_processes

VOICES = ('cmu_us_awb', 'cmu_us_rms', 'cmu_us_slt', 'cmu_us_kal16')
_WORD_END = b'R:SylStructure.daughtern.daughtern.R:Segment.end'


class _Wave(ctypes.Structure):
    """cst_wave of flite."""

    _fields_ = [('type', ctypes.c_char_p), ('sample_rate', ctypes.c_int),
                ('num_samples', ctypes.c_int), ('num_channels', ctypes.c_int),
                ('samples', ctypes.POINTER(ctypes.c_short))]


class Flite:
    """The four 16 kHz voices."""

    def __init__(self, libraries: str) -> None:
        """Load libflite from a folder, '' for the system's."""
        prefix = f'{libraries}/' if libraries else ''
        self._flite, *_ = (
            ctypes.CDLL(f'{prefix}libflite{name}.so.1', mode=ctypes.RTLD_GLOBAL)
            for name in ('', '_usenglish', '_cmulex'))
        self._flite.flite_init()
        for function in ('flite_synth_text', 'utt_wave', 'utt_relation', 'relation_head',
                         'item_next'):
            getattr(self._flite, function).restype = ctypes.c_void_p
        self._flite.flite_ffeature_float.restype = ctypes.c_float
        self._voices = []
        for name in VOICES:
            library = ctypes.CDLL(f'{prefix}libflite_{name}.so.1', mode=ctypes.RTLD_GLOBAL)
            register = getattr(library, f'register_{name}')
            register.restype = ctypes.c_void_p
            self._voices.append(register(None))

    def synthesize(self, text: str) -> tuple[np.ndarray, list[float]]:
        """Return audio, int16 at 16 kHz, in a random voice, and its word ends in seconds."""
        flite = self._flite
        utterance = ctypes.c_void_p(flite.flite_synth_text(
            text.encode(), ctypes.c_void_p(random.choice(self._voices))))
        wave = ctypes.cast(flite.utt_wave(utterance), ctypes.POINTER(_Wave)).contents
        samples = np.ctypeslib.as_array(wave.samples, (wave.num_samples,)).copy()
        ends = []
        item = flite.relation_head(ctypes.c_void_p(flite.utt_relation(utterance, b'Word')))
        while item:
            ends.append(float(flite.flite_ffeature_float(ctypes.c_void_p(item), _WORD_END)))
            item = flite.item_next(ctypes.c_void_p(item))
        flite.delete_utterance(utterance)
        return samples, ends


def main() -> None:
    """Start the processes and wait for them."""
    parser = synthesis_parser(__doc__.splitlines()[1], 4)
    parser.add_argument('--libraries', default='')
    arguments = parser.parse_args()
    synthesize_in_processes(arguments, 'flite', 1000, Flite, arguments.libraries)


if __name__ == '__main__':
    main()
