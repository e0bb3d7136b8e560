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
import torch
from training.distillation import active_frames, distillation_loss, LAG, read_ctranslate2, Teacher


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


@torch.no_grad()
def test_states_come_at_50_hz_and_belong_to_the_audio_around_them():
    torch.manual_seed(0)
    teacher = Teacher().eval()
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
