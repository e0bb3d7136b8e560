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
Log-mel spectrogram in numpy; see voxtral_ros.model.mel for what it is.

Computed in fp64 and without BLAS: a frame is the same to the last bit however many frames are
computed at once, and on every machine that has the same numpy.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voxtral_ros.model.config import AudioConfig
from voxtral_ros.model.mel_filters import mel_filters


class LogMel:
    """Windows of samples to log-mel frames."""

    def __init__(self, config: AudioConfig) -> None:
        self._config = config
        angle = 2 * np.pi * np.arange(config.window_size) / config.window_size
        self._window = 0.5 - 0.5 * np.cos(angle)  # Hann, periodic
        filters = mel_filters(config.num_mel_bins, config.window_size, config.sampling_rate)
        # A filter covers few bins: (mel, bin) of the weights that are not zero, by mel. A filter
        # that is too narrow for any bin keeps one weight of zero, so that every mel has a sum.
        weights = [np.flatnonzero(row) if row.any() else np.zeros(1, int) for row in filters]
        self._bins = np.concatenate(weights)
        self._first = np.cumsum([0, *map(len, weights[:-1])])
        self._weights = np.concatenate(
            [row[bins] for row, bins in zip(filters, weights, strict=True)])

    def __call__(self, samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """
        Compute the frames of windows that overlap by config.context samples.

        :param samples: [M, n * hop_length + context], -1..1
        :return: [M, n, num_mel_bins], contiguous
        """
        config = self._config
        frames = np.lib.stride_tricks.sliding_window_view(
            samples, config.window_size, axis=1)[:, ::config.hop_length]  # [M, n, window]
        with np.errstate(over='ignore', invalid='ignore'):
            spectrum = np.fft.rfft(frames * self._window)
            power = spectrum.real ** 2 + spectrum.imag ** 2  # [M, n, bins]
            mel = np.add.reduceat(power[..., self._bins] * self._weights, self._first, axis=-1)
            log = np.log10(np.maximum(mel, 1e-10))
            out = (np.maximum(log, config.global_log_mel_max - 8.0) + 4.0) / 4.0
        return np.ascontiguousarray(out, np.float32)
