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
Log-mel spectrogram by the CPU library; see voxtral_ros.model.mel for what it is.

A frame is the same to the last bit however many frames are computed at once, and on every machine.
"""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt

from voxtral_ros.backends.cpu import library
from voxtral_ros.model.config import AudioConfig
from voxtral_ros.model.mel_filters import mel_filters


class LogMel:
    """Windows of samples to log-mel frames."""

    def __init__(self, config: AudioConfig) -> None:
        """
        Compute window and filters.

        :raises BuildError: there is no library
        """
        self._config = config
        self._library = library.load()
        size = config.window_size
        roots = np.empty((size, 2))
        self._library.voxtral_cpu_roots(size, roots.ctypes.data)
        window = 0.5 - 0.5 * roots[:, 0]  # Hann, periodic
        filters = mel_filters(config.num_mel_bins, size, config.sampling_rate)
        # A filter covers few bins, all between the first and the last.
        covered = [np.flatnonzero(row) for row in filters]
        bins = np.array([(row[0], row[-1] + 1) if len(row) else (0, 0) for row in covered])
        # In fp32 they are the same wherever they are computed.
        weights = np.concatenate([row[first:last] for row, (first, last) in
                                  zip(filters, bins, strict=True)]).astype(np.float32)
        self._arrays = [roots, window, bins.astype(np.int64), weights.astype(np.float64)]
        self._memory = np.empty(24 * size)
        self._mel = library.LogMel(
            size, config.hop_length, config.num_mel_bins,
            *(array.ctypes.data for array in self._arrays), config.global_log_mel_max - 8.0)

    def __call__(self, samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """
        Compute the frames of windows that overlap by config.context samples.

        :param samples: float32 [M, n * hop_length + context], -1..1
        :return: float32 [M, n, num_mel_bins], contiguous
        """
        config = self._config
        samples = np.ascontiguousarray(samples, np.float32)
        n_frames = (samples.shape[1] - config.window_size) // config.hop_length + 1
        out = np.empty((len(samples), n_frames, config.num_mel_bins), np.float32)
        self._library.voxtral_cpu_log_mel(
            ctypes.byref(self._mel), samples.ctypes.data, *samples.shape,
            self._memory.ctypes.data, out.ctypes.data)
        return out
