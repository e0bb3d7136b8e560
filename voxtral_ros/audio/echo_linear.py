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
Speex's echo canceller: what of the audio is a linear echo of the reference, and nothing else.

It leaves more of the echo than WebRTC's, which takes away whatever may be echo still. But that
takes the voice of a person away, too, who speaks at the same time; this one leaves it as it is.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any
import weakref

import numpy as np

from voxtral_ros.audio.block import AudioError, Samples
from voxtral_ros.audio.echo_meter import FRAME
from voxtral_ros.audio.pcm import encode_pcm16
from voxtral_ros.audio.resample import TARGET_RATE_HZ

TAIL = 4096  # samples of the room's response that it learns, with what it is given ahead
_LIBRARY = 'libspeexdsp.so.1'
_SET_SAMPLING_RATE = 24  # SPEEX_ECHO_SET_SAMPLING_RATE of speex_echo.h


class LinearCanceller:
    """A canceller of one stream, 16 kHz mono, without delay."""

    def __init__(self) -> None:
        """Load the library; raise AudioError where it is missing."""
        self._library = _library()
        self._state = ctypes.c_void_p(self._library.speex_echo_state_init(FRAME, TAIL))
        rate = ctypes.c_int(TARGET_RATE_HZ)
        self._library.speex_echo_ctl(self._state, _SET_SAMPLING_RATE, ctypes.byref(rate))
        weakref.finalize(self, self._library.speex_echo_state_destroy, self._state)

    def process(self, near: Samples, far: Samples) -> Samples:
        """Return near without the echo of far, float32 [n * 160] each."""
        near_pcm, far_pcm = encode_pcm16(near), encode_pcm16(far)
        out = np.empty_like(near_pcm)
        for begin in range(0, len(out), FRAME):
            self._library.speex_echo_cancellation(
                self._state, *(ctypes.c_void_p(pcm.ctypes.data + 2 * begin)
                               for pcm in (near_pcm, far_pcm, out)))
        return np.asarray(out.astype(np.float32) / 32768, np.float32)


@lru_cache(1)
def _library() -> Any:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise AudioError('echo cancellation needs the library speexdsp '
                         f'({error}): apt install libspeexdsp1') from error
    library.speex_echo_state_init.restype = ctypes.c_void_p
    return library
