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
Distillation: the encoder of Whisper, trained on real speech, teaches our encoder.

    python -m training.distillation --model DIR/model.bin --out build/training

Extracts Whisper's encoder from a CTranslate2 file and writes `teacher.safetensors`. A linear head
on our encoder learns to predict its states at 50 Hz, LAG frames later and from past audio alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
import struct
from typing import BinaryIO

import numpy as np
from safetensors.torch import load_file, save_file
import torch
from torch import nn, Tensor
import torch.nn.functional as F

from voxtral_ros.model.mel import mel_filters

LAG = 16  # frames of 20 ms that our encoder may look ahead: 320 ms of a delay of 480 ms
_HEAD_DIM = 64  # of every Whisper
_FRAMES = 1500  # of 20 ms: the input length of Whisper, 30 s
_SAMPLES = 480_000
_TYPES = (np.float32, np.int8, np.int16, np.int32, np.float16)


def read_ctranslate2(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a CTranslate2 model file (binary version 2 to 6)."""
    with path.open('rb') as file:
        def number(kind: str) -> int:
            return int(struct.unpack(f'<{kind}', file.read(struct.calcsize(kind)))[0])

        def text() -> str:
            return file.read(number('H'))[:-1].decode()

        number('I'), text(), number('I')  # version, name and revision of the format
        return dict(_tensor(file, number, text()) for _ in range(number('I')))


def _tensor(file: BinaryIO, number: Callable[[str], int], name: str) -> tuple[str, np.ndarray]:
    shape = [number('I') for _ in range(number('B'))]
    kind = _TYPES[number('B')]
    return name, np.frombuffer(file.read(number('I')), kind).reshape(shape)


class Block(nn.Module):
    """Pre-norm attention and feed-forward of Whisper."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.ffn_norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, 4 * dim)
        self.down = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, T, dim] to [B, T, dim]."""
        q, k, v = (part.unflatten(-1, (-1, _HEAD_DIM)).transpose(1, 2)
                   for part in self.qkv(self.attention_norm(x)).chunk(3, dim=-1))
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        out: Tensor = x + self.down(F.gelu(self.up(self.ffn_norm(x))))
        return out


class Teacher(nn.Module):
    """The encoder of Whisper, of any size: audio to states at 50 Hz."""

    filters: Tensor
    window: Tensor
    places: Tensor

    def __init__(self, dim: int, n_layers: int) -> None:
        super().__init__()
        self.dim = dim
        self.conv1 = nn.Conv1d(80, dim, 3, padding=1)
        self.conv2 = nn.Conv1d(dim, dim, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(Block(dim) for _ in range(n_layers))
        self.norm = nn.LayerNorm(dim)
        self.register_buffer('places', torch.zeros(_FRAMES, dim))
        filters = torch.from_numpy(mel_filters(80, 400, 16000)).float()
        self.register_buffer('filters', filters, persistent=False)
        self.register_buffer('window', torch.hann_window(400), persistent=False)

    @classmethod
    def load(cls, path: Path) -> Teacher:
        """Read teacher.safetensors, to fp32; its tensors say how large the encoder is."""
        return cls.of_tensors({name: tensor.float() for name, tensor in load_file(path).items()})

    @classmethod
    def of_tensors(cls, tensors: dict[str, Tensor]) -> Teacher:
        """Return the encoder that has these tensors."""
        teacher = cls(len(tensors['norm.weight']),
                      sum(name.endswith('.qkv.weight') for name in tensors))
        teacher.load_state_dict(tensors)
        return teacher.eval().requires_grad_(False)

    def mel(self, samples: Tensor) -> Tensor:
        """Return the log-mel spectrogram of Whisper, [B, 80, 3000], of [B, 480000]."""
        with torch.autocast(samples.device.type, enabled=False):
            spectrum = torch.stft(samples, 400, 160, window=self.window, return_complex=True)
            log = (self.filters @ spectrum[..., :-1].abs().square()).clamp(min=1e-10).log10()
        return (torch.maximum(log, log.amax((1, 2), keepdim=True) - 8) + 4) / 4

    def forward(self, samples: Tensor) -> Tensor:
        """
        Map audio [B, n], at most 30 s, to states [B, n / 320, dim].

        State t belongs to the audio around 20 t ms.
        """
        length = samples.shape[1]
        x = F.gelu(self.conv1(self.mel(F.pad(samples, (0, _SAMPLES - length)))))
        x = F.gelu(self.conv2(x)).transpose(1, 2) + self.places
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)[:, :length // 320]
        return out


def active_frames(samples: Tensor) -> Tensor:
    """Return which frames of 20 ms of [B, n] have audio within 100 ms, bool [B, n / 320]."""
    level = samples.unflatten(1, (-1, 320)).square().mean(-1)
    loud = level > 1e-3 * level.amax(1, keepdim=True) + 1e-9
    return F.max_pool1d(loud.float()[:, None], 11, 1, 5)[:, 0] > 0


def distillation_loss(student: Tensor, teacher: Tensor, active: Tensor) -> Tensor:
    """
    Return the mean squared error of predicted states, each dimension scaled to unit variance.

    :param student: predictions [B, T, dim], of which number t + LAG is about state t
    :param teacher: states [B, T, dim]
    :param active: bool [B, T], the states that have a loss
    """
    weight = active.float()[..., None] / active.sum().clamp(min=1)
    mean = (teacher * weight).sum((0, 1))
    std = ((teacher - mean).square() * weight).sum((0, 1)).sqrt() + 1e-4
    error = (student[:, LAG:].float() - ((teacher - mean) / std)[:, :-LAG]).square()
    return (error * weight[:, :-LAG]).sum() / teacher.shape[-1]


def encoder_tensors(source: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Return the tensors of Teacher in fp16, of those in a CTranslate2 file."""
    names = {'places': 'position_encodings/encodings'}
    parts = {'conv1': 'conv1', 'conv2': 'conv2', 'norm': 'layer_norm'}
    n_layers = sum(name.startswith('encoder/') and name.endswith('/self_attention/linear_0/weight')
                   for name in source)
    for n in range(n_layers):
        attention, ffn = f'layer_{n}/self_attention', f'layer_{n}/ffn'
        parts |= {f'blocks.{n}.attention_norm': f'{attention}/layer_norm',
                  f'blocks.{n}.qkv': f'{attention}/linear_0',
                  f'blocks.{n}.out': f'{attention}/linear_1',
                  f'blocks.{n}.ffn_norm': f'{ffn}/layer_norm',
                  f'blocks.{n}.up': f'{ffn}/linear_0', f'blocks.{n}.down': f'{ffn}/linear_1'}
    for ours, theirs in parts.items():
        weight, bias = ('gamma', 'beta') if 'norm' in ours else ('weight', 'bias')
        names |= {f'{ours}.weight': f'{theirs}/{weight}', f'{ours}.bias': f'{theirs}/{bias}'}
    return {ours: torch.from_numpy(source[f'encoder/{theirs}'].astype(np.float16))
            for ours, theirs in names.items()}


def main() -> None:
    """Extract the encoder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--model', type=Path, required=True, help='model.bin of CTranslate2')
    parser.add_argument('--out', type=Path, required=True)
    arguments = parser.parse_args()
    tensors = encoder_tensors(read_ctranslate2(arguments.model))
    Teacher.of_tensors({name: tensor.float() for name, tensor in tensors.items()})
    save_file(tensors, str(arguments.out / 'teacher.safetensors'))


if __name__ == '__main__':
    main()
