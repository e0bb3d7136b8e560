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

"""The mel filter bank of Whisper."""

from __future__ import annotations

import numpy as np


def mel_filters(n_mels: int, n_fft: int, sampling_rate: int) -> np.ndarray:
    """
    Return the triangular filters of Slaney's Auditory Toolbox, area-normalised, 0 to Nyquist.

    :return: float64 [n_mels, n_fft // 2 + 1]
    """
    def to_mel(hz: float) -> float:
        return 3 * hz / 200 if hz < 1000 else 15 + np.log(hz / 1000) * 27 / np.log(6.4)

    mel = np.linspace(0.0, to_mel(sampling_rate / 2), n_mels + 2)
    edges = np.where(mel < 15, 200 * mel / 3, 1000 * np.exp(np.log(6.4) / 27 * (mel - 15)))
    bins = np.linspace(0.0, sampling_rate / 2, n_fft // 2 + 1)
    lower, centre, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]  # [n_mels, 1]
    rising = (bins - lower) / (centre - lower)
    falling = (upper - bins) / (upper - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return triangles * 2 / (upper - lower)
