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

"""The distillation loss compares states at the right time, and only where there is audio."""

import struct

import numpy as np
import pytest
import torch
from training.distillation import (
    active_frames, distillation_loss, encoder_tensors, LAG, read_ctranslate2, Teacher)


def test_tensors_of_a_ctranslate2_file_are_read(tmp_path):
    def text(value):
        return struct.pack('<H', len(value) + 1) + value.encode() + b'\0'

    tensors = {'encoder/a': np.arange(6, dtype=np.float32).reshape(2, 3),
               'decoder/b': np.arange(4, dtype=np.float16)}
    content = struct.pack('<I', 6) + text('WhisperSpec') + struct.pack('<II', 3, 2)
    for (name, tensor), kind in zip(tensors.items(), (0, 4), strict=True):
        content += text(name) + struct.pack('<B', tensor.ndim)
        content += struct.pack(f'<{tensor.ndim}I', *tensor.shape)
        content += struct.pack('<BI', kind, tensor.nbytes) + tensor.tobytes()
    (tmp_path / 'model.bin').write_bytes(content)
    read = read_ctranslate2(tmp_path / 'model.bin')
    assert list(read) == list(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(read[name], tensor)


@pytest.mark.parametrize(('dim', 'n_layers'), ((128, 1), (192, 3)))
def test_a_teacher_is_as_large_as_its_file(dim, n_layers):
    names = {f'{part}/{kind}': shape for part, shape in (
        ('conv1', (dim, 80, 3)), ('conv2', (dim, dim, 3)), ('layer_norm', ()))
        for kind in (('gamma', 'beta') if part == 'layer_norm' else ('weight', 'bias'))}
    for n in range(n_layers):
        for part, shape in (('self_attention/linear_0', (3 * dim, dim)),
                            ('self_attention/linear_1', (dim, dim)),
                            ('ffn/linear_0', (4 * dim, dim)), ('ffn/linear_1', (dim, 4 * dim))):
            names |= {f'layer_{n}/{part}/weight': shape, f'layer_{n}/{part}/bias': shape[:1]}
        for part in ('self_attention', 'ffn'):
            names |= {f'layer_{n}/{part}/layer_norm/{kind}': () for kind in ('gamma', 'beta')}
    names |= {'position_encodings/encodings': (1500, dim)}
    source = {f'encoder/{name}': np.zeros(
        shape[:1] if name.endswith('/bias') else shape or (dim,), np.float16)
        for name, shape in names.items()}
    source['decoder/layer_7/self_attention/linear_0/weight'] = np.zeros((1, 1), np.float16)
    teacher = Teacher.of_tensors({name: tensor.float() for name, tensor
                                  in encoder_tensors(source).items()})
    assert teacher.dim == dim
    assert len(teacher.blocks) == n_layers
    assert teacher(torch.zeros(1, 3200)).shape == (1, 10, dim)


@torch.no_grad()
def test_states_come_at_50_hz_and_belong_to_the_audio_around_them():
    torch.manual_seed(0)
    teacher = Teacher(384, 4).eval()
    for block in teacher.blocks:  # without attention and feed-forward, states see 45 ms around
        for part in (block.out, block.down):
            part.weight.zero_()
            part.bias.zero_()
    samples = 0.1 * torch.randn(1, 32000)
    changed = samples.clone()
    changed[:, 16000:17600] *= 0.5  # 1.0 to 1.1 s
    moved = (teacher(samples) - teacher(changed)).abs().amax(-1)[0] > 1e-6
    assert moved.shape == (100,)
    assert moved[50:55].all()
    assert not moved[:47].any()
    assert not moved[58:].any()


def test_only_frames_with_audio_are_active():
    samples = torch.zeros(1, 32000)
    samples[:, 16000:17600] = 0.1
    active = active_frames(samples)[0].nonzero()[:, 0]
    assert active.tolist() == list(range(45, 60))
    assert not active_frames(torch.zeros(1, 32000)).any()


def test_the_loss_is_zero_for_the_same_states_later():
    torch.manual_seed(0)
    states = 3 + 5 * torch.randn(2, 200, 384)
    active = torch.rand(2, 200) < 0.7
    counted = states[active]
    scaled = (states - counted.mean(0)) / counted.std(0, correction=0)
    scaled[~active] = 100.0  # inactive states may be anything
    late = scaled.roll(LAG, 1)
    assert distillation_loss(late, states, active) < 1e-6
    assert distillation_loss(scaled.masked_fill(~active[..., None], 0), states, active) > 0.5
    assert 0.8 < distillation_loss(torch.zeros_like(states), states, active) < 1.0
