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
Data augmentation of batches on the device: rooms, channel, noise, babble, level, vocal tract.

Synthetic speech is too clean and too uniform. Augmented, it makes a model that transfers better to
real speech.
"""

from __future__ import annotations

import math

import torch
from torch import nn, Tensor

from voxtral_ros.model.config import AudioConfig
from voxtral_ros.model.mel import mel_filters

_RATE_HZ = 16000
_NOTE = 8000  # samples of a chord


def _uniform(low: float, high: float, batch: int, device: torch.device) -> Tensor:
    """Return [B, 1] numbers."""
    return torch.empty(batch, 1, device=device).uniform_(low, high)


def _bernoulli(probability: float, batch: int, device: torch.device) -> Tensor:
    """Return [B, 1] flags."""
    return torch.rand(batch, 1, device=device) < probability


def diffuse_rooms(batch: int, device: torch.device) -> Tensor:
    """Return impulse responses of noise that decays, with early reflections, [B, 8000]."""
    tail = 8000
    time = torch.arange(tail, device=device)[None] / _RATE_HZ
    decay = torch.exp(-6.9 * time / _uniform(0.08, 0.8, batch, device))  # RT60
    response = torch.randn(batch, tail, device=device) * decay
    response *= (time > _uniform(0.002, 0.03, batch, device))
    response = response / (response.norm(dim=1, keepdim=True) + 1e-6)
    response *= 10 ** (_uniform(-18, 4, batch, device) / 20)
    early = torch.rand(batch, 800, device=device) > 0.99
    reflections = early * torch.randn(batch, 800, device=device) * 0.3
    response[:, :800] += reflections * decay[:, :800]
    response *= _bernoulli(0.6, batch, device)
    response[:, 0] = 1
    return response


def microphone_response(n_bins: int, telephone: Tensor) -> Tensor:
    """
    Return random frequency responses of microphones, [B, n_bins] from 0 to 8 kHz.

    :param telephone: bool [B, 1], which are limited to the band of a telephone
    """
    batch, device = len(telephone), telephone.device
    hz = torch.linspace(0, _RATE_HZ / 2, n_bins, device=device)[None]
    knots = torch.randn(batch, 1, 9, device=device) * 3.5  # smooth, +- 8 dB
    response_db = nn.functional.interpolate(
        knots, n_bins, mode='linear', align_corners=True)[:, 0]
    high = torch.where(_bernoulli(0.25, batch, device), _uniform(3000, 7800, batch, device), 9000)
    low = torch.where(_bernoulli(0.25, batch, device), _uniform(50, 350, batch, device), 0)
    high, low = torch.where(telephone, 3400, high), torch.where(telephone, 300, low)
    response_db = response_db - 40 * ((hz - high) / 600).clamp(0, 1)
    response_db = response_db - 30 * ((low - hz) / 150).clamp(0, 1)
    return torch.as_tensor(10 ** (response_db / 20))


def reverberate_and_filter(x: Tensor, telephone: Tensor, rooms: Tensor | None = None) -> Tensor:
    """
    Convolve [B, n] with random rooms and microphones.

    :param telephone: bool [B, 1], which are heard through a telephone
    :param rooms: impulse responses [N, 12800] of training.rooms, for half of the batch
    """
    batch, length = x.shape
    tail = 8000 if rooms is None else rooms.shape[1]
    n_fft = length + tail
    spectrum = torch.fft.rfft(diffuse_rooms(batch, x.device), n_fft)
    if rooms is not None:
        room = rooms[torch.randint(0, len(rooms), (batch,), device=x.device)].float()
        simulated = torch.fft.rfft(room, n_fft)
        spectrum = torch.where(_bernoulli(0.5, batch, x.device), simulated, spectrum)
    spectrum = spectrum * microphone_response(spectrum.shape[1], telephone)
    return torch.fft.irfft(torch.fft.rfft(x, n_fft) * spectrum, n_fft)[:, :length]


def chords(note: Tensor, length: int) -> Tensor:
    """Return chords of 0.5 s, of the notes [B, 3, ceil(n / 8000)] in semitones above 110 Hz."""
    # Not with repeat_interleave: compiled for a CPU (torch 2.13), its cumsum reads uninitialized
    # memory.
    now = torch.arange(length, device=note.device) // _NOTE
    pitch_hz = (110 * 2 ** (note / 12.0))[..., now]
    return torch.sin(2 * math.pi * torch.cumsum(pitch_hz / _RATE_HZ, dim=2)).sum(1)


def motors(batch: int, length: int, device: torch.device) -> Tensor:
    """Return the noise of motors and fans of unit power, [B, n]: harmonics that waver, and air."""
    time = torch.arange(length, device=device)[None] / _RATE_HZ
    waver = torch.zeros(batch, length, device=device)
    for _ in range(2):
        rate_hz = 10 ** _uniform(-1, 1, batch, device)
        waver += _uniform(0, 0.03, batch, device) / rate_hz * torch.sin(
            2 * math.pi * (rate_hz * time + torch.rand(batch, 1, device=device)))
    phase = 2 * math.pi * 10 ** _uniform(1.3, 2.7, batch, device) * (time + waver / (2 * math.pi))
    x = torch.zeros(batch, length, device=device)
    tilt = _uniform(0.2, 1.5, batch, device)
    for n in range(1, 13):
        shift = 2 * math.pi * torch.rand(batch, 1, device=device)
        x += torch.randn(batch, 1, device=device) * n ** -tilt * torch.sin(n * phase + shift)
    x = x / (x.std(dim=1, keepdim=True) + 1e-6)
    spectrum = torch.fft.rfft(torch.randn(batch, length, device=device))
    hz = torch.arange(spectrum.shape[1], device=device)[None] * (_RATE_HZ / 2 / spectrum.shape[1])
    corner_hz = 10 ** _uniform(2, 3.5, batch, device)
    spectrum *= (1 + hz / corner_hz) ** -_uniform(0.5, 2, batch, device)
    air = torch.fft.irfft(spectrum, length)
    air = air / (air.std(dim=1, keepdim=True) + 1e-6)
    air = air * (1 + _uniform(0, 0.9, batch, device) * torch.sin(phase))  # blades
    x = x + air * 10 ** (_uniform(-10, 15, batch, device) / 20)
    return x / (x.std(dim=1, keepdim=True) + 1e-6)


def babble(x: Tensor) -> Tensor:
    """Return the speech of three to eight others of the batch at once for each, unit power."""
    batch, length = x.shape
    mixed = torch.zeros_like(x)
    n_speakers = torch.randint(3, 9, (batch, 1), device=x.device)
    for n in range(8):
        other = x.roll(n + 1, 0).roll((n * length) // 9, 1)
        level = 10 ** (_uniform(-6, 6, batch, x.device) / 20)
        mixed += other / (other.std(dim=1, keepdim=True) + 1e-4) * level * (n < n_speakers)
    return mixed / (mixed.std(dim=1, keepdim=True) + 1e-4)


def noise(batch: int, length: int, device: torch.device) -> Tensor:
    """Return coloured noise of unit power, [B, n], with modulation, hum, chords or clicks."""
    x = torch.randn(batch, length, device=device)
    spectrum = torch.fft.rfft(x)
    hz = torch.arange(spectrum.shape[1], device=device)[None] + 20.0
    spectrum *= hz ** -_uniform(0.0, 1.2, batch, device)
    x = torch.fft.irfft(spectrum, length)
    x = x / (x.std(dim=1, keepdim=True) + 1e-6)
    time = torch.arange(length, device=device)[None] / _RATE_HZ
    # Amplitude modulation, from once in 10 s to several times a second.
    depth = _uniform(0, 1, batch, device) * _bernoulli(0.4, batch, device)
    rate = 10 ** _uniform(-1, 0.8, batch, device)
    swing = torch.sin(2 * math.pi * (rate * time + torch.rand(batch, 1, device=device)))
    x = x * (1 + depth * swing)
    # Motors and mains hum: a harmonic series.
    tone = torch.zeros_like(x)
    pitch = 10 ** _uniform(1.6, 2.9, batch, device)
    for n in range(1, 7):
        phase = 2 * math.pi * torch.rand(batch, 1, device=device)
        tone += _uniform(0, 1 / n, batch, device) * torch.sin(
            2 * math.pi * n * pitch * time + phase)
    x = x + tone * _uniform(0, 3, batch, device) * _bernoulli(0.25, batch, device)
    # Music: chords that change twice a second.
    note = torch.randint(0, 36, (batch, 3, -(-length // _NOTE)), device=device)
    fade = 1 - (time * 2) % 1 * 0.7
    loudness = _uniform(0, 3, batch, device) * _bernoulli(0.15, batch, device)
    x = x + chords(note, length) * fade * loudness
    # Clicks.
    clicks = (torch.rand(batch, length, device=device) > 0.9998) & _bernoulli(0.2, batch, device)
    x = x + clicks * 30 * torch.randn(batch, length, device=device)
    return x / (x.std(dim=1, keepdim=True) + 1e-6)


def augment(x: Tensor, rooms: Tensor | None = None) -> Tensor:
    """
    Return [B, n] with random reverberation, channel, noise, babble, clipping and level, -1..1.

    :param rooms: impulse responses [N, 12800] of training.rooms
    """
    batch, length = x.shape
    device = x.device
    telephone = _bernoulli(0.06, batch, device)
    x = reverberate_and_filter(x, telephone, rooms)
    power = x.square().mean(dim=1, keepdim=True).sqrt()
    silent = power < 1e-4
    power = torch.where(silent, 10 ** (_uniform(-60, -15, batch, device) / 20), power)
    snr_db = torch.where(_bernoulli(0.55, batch, device), _uniform(12, 45, batch, device),
                         _uniform(0, 20, batch, device))
    other = torch.where(_bernoulli(0.25, batch, device), motors(batch, length, device),
                        noise(batch, length, device))
    mixed = torch.where(_bernoulli(0.85, batch, device) | silent,
                        x + other * power * 10 ** (-snr_db / 20), x)
    babble_db = torch.where(_bernoulli(0.5, batch, device), _uniform(3, 15, batch, device),
                            _uniform(10, 30, batch, device))
    mixed = mixed + _bernoulli(0.3, batch, device) * (
        babble(x) * power * 10 ** (-babble_db / 20))
    x = mixed / (mixed.abs().amax(dim=1, keepdim=True) + 1e-5)
    clipped = (x * 10 ** (_uniform(3, 26, batch, device) / 20)).clamp(-1, 1)
    x = torch.where(_bernoulli(0.08, batch, device), clipped, x)
    companded = torch.sign(x) * torch.log1p(255 * x.abs()) / math.log(256)
    companded = (companded * 127).round() / 127
    companded = torch.sign(x) * (256 ** companded.abs() - 1) / 255
    x = torch.where(telephone | _bernoulli(0.03, batch, device), companded, x)
    level_db = torch.where(_bernoulli(0.7, batch, device), _uniform(-24, 0, batch, device),
                           _uniform(-45, 0, batch, device))
    x = x * 10 ** (level_db / 20)
    return (x * 32768).round().clamp(-32768, 32767) / 32768


class WarpedMel(nn.Module):
    """The log-mel of the network with vocal tract length perturbation (VTLP)."""

    def __init__(self, config: AudioConfig, device: torch.device, n_warps: int = 25) -> None:
        super().__init__()
        self.config = config
        base = mel_filters(config.num_mel_bins, config.window_size, config.sampling_rate)
        bins = torch.arange(base.shape[1], dtype=torch.float64)
        filters = []
        factors = torch.linspace(0.84, 1.18, n_warps, dtype=torch.float64)
        factors[0] = 1.0  # the filters of the network
        for factor in factors:
            place = (bins * factor).clamp(max=base.shape[1] - 1)
            low = place.long().clamp(max=base.shape[1] - 2)
            part = place - low
            table = torch.from_numpy(base)
            filters.append(table[:, low] * (1 - part) + table[:, low + 1] * part)
        self.filters = torch.stack(filters).float().transpose(1, 2).to(device)  # [W, bins, mels]
        self.window = torch.hann_window(config.window_size, device=device)

    def forward(self, samples: Tensor, warp: bool = True) -> Tensor:
        """Map [B, n * hop + context] to [B, mels, n]."""
        config = self.config
        frames = samples.unfold(1, config.window_size, config.hop_length)
        power = torch.fft.rfft(frames * self.window).abs().square()  # [B, n, bins]
        n_warps = len(self.filters)
        choice = torch.randint(0, n_warps, (len(samples),), device=samples.device)
        keep = torch.rand(len(samples), device=samples.device) < (0.3 if warp else 1.1)
        choice = choice.masked_fill(keep, 0)
        log = torch.log10(torch.bmm(power, self.filters[choice]).clamp(min=1e-10))
        floor = config.global_log_mel_max - 8.0
        return ((log.clamp(min=floor) + 4.0) / 4.0).transpose(1, 2)


def spec_augment(mel: Tensor) -> Tensor:
    """Mask bands and times of [B, mels, n] (SpecAugment) in 70 % of the batch."""
    batch, n_mels, length = mel.shape
    device = mel.device
    band = torch.arange(n_mels, device=device)[None]
    masked = torch.zeros_like(mel, dtype=torch.bool)
    for _ in range(2):
        start, width = _uniform(0, n_mels - 8, batch, device), _uniform(0, 24, batch, device)
        masked |= ((band >= start) & (band < start + width))[:, :, None]
    frame = torch.arange(length, device=device)[None]
    for _ in range(10):
        start, width = _uniform(0, length, batch, device), _uniform(0, 12, batch, device)
        masked |= ((frame >= start) & (frame < start + width))[:, None, :]
    masked &= _bernoulli(0.7, batch, device)[..., None]
    return mel.masked_fill(masked, -0.625)


def add_jitter(mel: Tensor) -> Tensor:
    """
    Add jitter to [B, mels, n], which synthetic speech has too little of.

    Half of the batch gets a gain that varies slowly over time and frequency, and white noise.
    """
    batch, n_mels, length = mel.shape
    device = mel.device
    # The unit of the log-mel is 40 dB of power: 0.05 is 2 dB.
    coarse = torch.randn(batch, 1, 16, length // 30 + 2, device=device)
    field = nn.functional.interpolate(
        coarse, (n_mels, length), mode='bilinear', align_corners=True)[:, 0]
    field = field * _uniform(0, 0.06, batch, device)[..., None]
    grain = torch.randn_like(mel) * _uniform(0, 0.05, batch, device)[..., None]
    jittered = (mel + field + grain).clamp(min=-0.625)
    return torch.where(_bernoulli(0.5, batch, device)[..., None], jittered, mel)
