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

"""Samples to the bytes of a FLAC file."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import soundfile


def flac_bytes(samples: npt.NDArray[np.int16], rate_hz: int) -> bytes:
    """Return mono samples [n] as a FLAC file: lossless, about half as long as a WAV."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format='FLAC', subtype='PCM_16')
    return file.getvalue()
