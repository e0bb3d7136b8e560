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
Log-mel spectrogram of Whisper with a fixed maximum, which is what makes it streamable.

Frame t covers samples [160 t, 160 t + 400) of a stream that starts with 200 zeros, the left half
of the first window. Nothing but the samples of its own window enters a frame, so a stream may be
cut into windows anywhere at multiples of the hop. Sources: mistral_common `audio.py`, vLLM
`voxtral.py` (compute_whisper_melspec).
"""

from __future__ import annotations

import torch
from torch import nn, Tensor

from voxtral_ros.model.config import AudioConfig
from voxtral_ros.model.mel_filters import mel_filters


class LogMel(nn.Module):
    """Windows of samples to log-mel frames, in fp32 whatever the type of the network."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.config = config
        self.place(torch.get_default_device())

    def place(self, device: torch.device | str) -> None:
        """
        Compute the constants on `device`.

        They are no buffers: not in a checkpoint, never cast to the type of the network, and to be
        computed anew for a network that was built on the meta device.
        """
        config = self.config
        filters = mel_filters(config.num_mel_bins, config.window_size, config.sampling_rate)
        self.window = torch.hann_window(config.window_size, dtype=torch.float32, device=device)
        # [n_bins, n_mels]; the power of the FFT is multiplied from the left
        self.filters = torch.tensor(filters.T.copy(), dtype=torch.float32, device=device)

    def forward(self, samples: Tensor) -> Tensor:
        """
        Compute the frames of windows that overlap by config.context samples.

        :param samples: float32 [B, n * hop_length + context], -1..1
        :return: float32 [B, num_mel_bins, n]
        """
        config = self.config
        frames = samples.unfold(1, config.window_size, config.hop_length)  # [B, n, window]
        power = torch.fft.rfft(frames * self.window).abs().square()  # [B, n, bins]
        log = torch.log10((power @ self.filters).clamp(min=1e-10))  # [B, n, mels]
        floor = config.global_log_mel_max - 8.0
        return ((log.clamp(min=floor) + 4.0) / 4.0).transpose(1, 2)
