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

"""A training step: learning-rate schedule, both losses, fake quantization and the EMA."""

import pytest
from safetensors.torch import save_file
import torch
from training import train
from training.distillation import Teacher
from training.sequences import LEFT_PAD, PAD, TOKEN_SAMPLES, UNKNOWN

N_AUDIO, DELAY = 12, 2


@pytest.fixture
def trainer(config, tmp_path):
    torch.manual_seed(0)
    save_file(Teacher(384, 4).state_dict(), str(tmp_path / 'teacher.safetensors'))
    return train.Trainer(config, torch.device('cpu'), 2e-3, False,
                         augmented=False, teacher=tmp_path / 'teacher.safetensors', warmup=1)


@pytest.fixture
def batch():
    """Return noise, and tokens of which those after the prompt are words."""
    samples = (3000 * torch.randn(2, N_AUDIO * TOKEN_SAMPLES)).to(torch.int16)
    tokens = torch.full((2, LEFT_PAD + N_AUDIO + 1), PAD)
    tokens[:, 1 + LEFT_PAD + DELAY:] = torch.arange(1200, 1200 + N_AUDIO - DELAY)
    return samples, tokens, torch.full((2,), DELAY)


def test_steps_lower_both_losses(trainer, batch):
    losses = [trainer.step(batch, 0.0) for _ in range(6)]
    (first, first_distillation), *_, (last, last_distillation) = losses
    assert last < 0.8 * first
    assert last_distillation < 0.98 * first_distillation
    assert trainer.steps == 6


def test_the_prompt_has_no_loss(trainer, batch, monkeypatch):
    counted = []

    def cross_entropy(logits, target, ignore_index, reduction):
        counted.append((target != ignore_index).unflatten(0, (2, -1)))
        return logits.mean()

    monkeypatch.setattr(train.F, 'cross_entropy', cross_entropy)
    trainer.step(batch, 0.0)
    # Position n predicts token n + 1; the last token of the prompt is number LEFT_PAD + DELAY.
    assert not counted[0][:, :LEFT_PAD + DELAY].any()
    assert counted[0][:, LEFT_PAD + DELAY:].all()


def test_from_speech_without_transcripts_the_encoder_alone_learns(trainer, batch):
    samples, tokens, delay = batch
    tokens[:, 1 + LEFT_PAD + DELAY:] = UNKNOWN
    before = {name: parameter.detach().clone()
              for name, parameter in trainer.network.named_parameters()}
    loss, distillation = trainer.step((samples, tokens, delay), 0.0)
    assert loss == 0 and distillation > 0
    gradients = {name: parameter.grad is not None and bool(parameter.grad.any())
                 for name, parameter in trainer.network.named_parameters()}
    assert not any(gradients[name] for name in before if name.startswith('decoder.'))
    assert gradients['encoder.layers.0.attention.wq.weight']


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_a_step_with_bad_gradients_leaves_the_weights_finite(trainer, batch, monkeypatch, bad):
    with monkeypatch.context() as patch:
        patch.setattr(train.F, 'cross_entropy',
                      lambda logits, *_, **__: (bad * logits).mean())
        trainer.step(batch, 0.0)
    assert trainer.n_bad == 1
    losses = [trainer.step(batch, 0.0)[0] for _ in range(6)]
    assert losses[-1] < 0.8 * losses[0]
    assert trainer.n_bad == 1
    assert all(parameter.isfinite().all() for parameter in trainer.ema.parameters())


def test_fake_quantization_ramps_up_in_the_last_part(trainer, batch):
    begin, complete = train._FAKE_QUANTIZATION
    for progress, fraction in ((begin, 0.0), ((begin + complete) / 2, 0.5), (1.0, 1.0)):
        trainer.steps = 0  # an update of the scales is due
        trainer.step(batch, progress)
        assert {round(linear.fraction.item(), 3)
                for linear in trainer.training_network.fake_quantized} == {fraction}


def test_the_ema_lags_behind(trainer, batch):
    before = [parameter.detach().clone() for parameter in trainer.ema.parameters()]
    trainer.step(batch, 0.0)
    for old, ema, new in zip(before, trainer.ema.parameters(),
                             trainer.network.parameters(), strict=True):
        torch.testing.assert_close(ema, old.lerp(new, 0.5))


def test_the_learning_rate_warms_up_and_ends_at_zero():
    warmup = [train.schedule(step, 300, 0.0) for step in (0, 150, 300)]
    assert 0 < warmup[0] < warmup[1] < warmup[2] == 1
    assert train.schedule(10 ** 6, 300, 1 - train._DECAY) == 1
    assert train.schedule(10 ** 6, 300, 1 - train._DECAY / 2) == pytest.approx(0.5)
    assert train.schedule(10 ** 6, 300, 1.0) == 0
