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
Train the demo model: cross-entropy on the tokens of the streaming protocol.

    python -m training.train --root build/training --out build/training/model --seconds 1200

The network is that of voxtral_ros.model, run in parallel over whole sequences. With --teacher (see
training.distillation) the encoder also learns to predict the states of Whisper's encoder, of the
same audio before augmentation. In the last part of the training the decoder is fake-quantized to
the INT4 of the packed checkpoint.

The exponential moving average (EMA) of the weights is what is evaluated and saved. OUT/best keeps
the EMA with the lowest mean word error rate on the development sets of real speech (`dev_*`),
where false words in noise (`dev_noise`) count as errors too.

Under torchrun, each process trains on its own sequences, and gradients are averaged (all-reduce).

Speech may still be synthesized while this runs: shards are read as they grow. All schedules follow
the wall clock (or, with --steps, the steps), so that a run ends when planned, however fast the
machine is.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
import random
import time
import traceback
from typing import Any

import numpy as np
import torch
from torch import nn, Tensor
import torch.distributed as dist
import torch.nn.functional as F
from torch.utils.data import DataLoader
from training.augment import add_jitter, augment, spec_augment, WarpedMel
from training.distillation import active_frames, distillation_loss, Teacher
from training.evaluate import evaluate, load_sets
from training.export import save
from training.mixture import sources, UNTRANSCRIBED
from training.sequences import collate, LEFT_PAD, PAD, Sequences, TOKEN_SAMPLES, UNKNOWN
from training.training_network import TrainingNetwork, windowed_attention
from training.vocabulary import N_SPECIAL

from voxtral_ros.model.config import ModelConfig
from voxtral_ros.model.loading import load_network
from voxtral_ros.model.network import VoxtralRealtime

_FALSE_WORD = 1e-4  # error rate that one false word per hour of noise counts as
_DECAY = 0.5  # last fraction of the training, in which the learning rate falls to zero
_REAL_SPEECH = 0.65  # of the utterances
_DROPOUT = 0.1  # without it, the network soon overfits to half an hour of real speech
_CORRUPTED = 0.1  # of the input text tokens: the model must recover from its own errors
_DISTILLATION = (0.8, 0.5)  # weight of the distillation loss, at the start and at the end
_FAKE_QUANTIZATION = (0.85, 0.90)  # progress at which it starts, and at which it is complete
_SCALE_INTERVAL = 20  # steps between updates of the scales of the fake quantization


def init_weights(network: VoxtralRealtime) -> None:
    """Initialize as usual for a pre-norm transformer: smaller where residuals add up."""
    config = network.config
    depth = {'encoder': config.encoder.n_layers, 'decoder': config.decoder.n_layers}
    for name, parameter in network.named_parameters():
        if parameter.dim() < 2:
            continue
        if 'conv_layers' in name:
            nn.init.normal_(parameter, std=1 / math.sqrt(parameter[0].numel()))
            continue
        std = 0.02 if 'tok_embeddings' in name else 1 / math.sqrt(parameter.shape[1])
        if name.endswith(('attention.wo.weight', 'feed_forward.w2.weight')):
            std /= math.sqrt(2 * depth[name.split('.')[0]])
        if 'ada_rms_norm_t_cond.2' in name:
            std = 0.0
        nn.init.normal_(parameter, std=std)
    for name, parameter in network.named_parameters():
        if name.endswith('.bias'):
            nn.init.zeros_(parameter)


def optimizers(network: nn.Module, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices of the layers and AdamW for everything else."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        is_matrix = parameter.dim() == 2 and '.layers.' in name and 'ada_rms' not in name
        (matrices if is_matrix else rest).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.05, momentum=0.95,
                         adjust_lr_fn='match_rms_adamw'),
        torch.optim.AdamW(rest, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)]


def schedule(step: int, warmup: int, progress: float) -> float:
    """Return the learning rate as a fraction of its maximum: warmup, constant, linear decay."""
    return min(1.0, (step + 1) / warmup) * min(1.0, (1.0 - progress) / _DECAY)


def all_reduce_gradients(network: nn.Module) -> None:
    """Average the gradients over all processes."""
    if not dist.is_initialized():
        return
    gradients = [parameter.grad for parameter in network.parameters()
                 if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients]) / dist.get_world_size()
    dist.all_reduce(flat)
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def clip_gradients(network: nn.Module) -> Tensor:
    """
    Clip the norm of all gradients to 1, and return whether it was finite, bool [].

    If not, all gradients are set to zero, so that one bad step does not ruin the weights.
    """
    norm = nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    for parameter in network.parameters():
        if parameter.grad is not None:  # all NaN after clipping if the norm is not finite
            parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
    return norm.isfinite()


def broadcast(number: float) -> float:
    """Return the number of rank 0, so that all processes stop at the same step."""
    if not dist.is_initialized():
        return number
    numbers = [number]
    dist.broadcast_object_list(numbers)
    return numbers[0]


class Trainer:
    """Network, EMA, distillation teacher, optimizers and the training step."""

    def __init__(self, config: ModelConfig, device: torch.device, learning_rate: float,
                 compiled: bool, augmented: bool = True, teacher: Path | None = None,
                 warmup: int = 300, ema_steps: int = 2000, bf16: bool = False,
                 dropout: float = _DROPOUT, rooms: Path | None = None) -> None:
        """
        Initialize.

        :param learning_rate: its maximum
        :param warmup: steps until the learning rate is at its maximum
        :param ema_steps: time constant of the EMA of the weights
        :param bf16: mixed precision on a CPU too; a GPU always trains with it
        :param dropout: probability of dropping a frame of an attention or feed-forward output
        :param rooms: impulse responses for the augmentation (training.rooms)
        """
        self.device = device
        self.bf16 = bf16 or device.type == 'cuda'
        self.augmented = augmented
        self.learning_rate, self.warmup, self.ema_steps = learning_rate, warmup, ema_steps
        self.network = VoxtralRealtime(config).to(device)
        init_weights(self.network)
        self.ema = VoxtralRealtime(config).to(device).requires_grad_(False)
        self.ema.load_state_dict(self.network.state_dict())
        self.ema.mel.place(device)
        self.teacher = Teacher.load(teacher).to(device) if teacher else None
        self.training_network = TrainingNetwork(
            self.network, dropout if augmented else 0.0,
            self.teacher.dim if self.teacher else 1).to(device)
        self.mel = WarpedMel(config.audio, device)
        self.rooms = torch.from_numpy(np.load(rooms)).to(device) if rooms else None
        self.optimizers = optimizers(self.training_network, learning_rate)
        self.losses = torch.compile(self._losses, dynamic=False) if compiled else self._losses
        self.features = torch.compile(self._features, dynamic=False) if compiled \
            else self._features
        self.teacher_targets = torch.compile(self._teacher_targets, dynamic=False) if compiled \
            else self._teacher_targets
        self.steps = 0
        self.n_bad = torch.zeros((), dtype=torch.int64, device=device)  # steps with bad gradients
        self.best = math.inf

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint."""
        state = load_network(folder, 'cpu', torch.float32).state_dict()
        self.network.load_state_dict(state)
        self.ema.load_state_dict(state)

    def _features(self, x: Tensor) -> Tensor:
        """Return the mel spectrogram of a batch of audio, left pad included."""
        if self.augmented:
            x = augment(x, self.rooms)
        context = self.network.mel.config.context
        half = self.network.config.audio.window_size // 2
        x = F.pad(x, (LEFT_PAD * TOKEN_SAMPLES + half, context - half))
        return spec_augment(add_jitter(self.mel(x))) if self.augmented else self.mel(x, warp=False)

    def _teacher_targets(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states of the teacher and which of them have a loss."""
        assert self.teacher is not None
        with self._autocast():
            states = self.teacher(x)
        return states.float(), active_frames(x)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, self.bf16)

    def _losses(self, mel: Tensor, tokens: Tensor, delay: Tensor,
                teacher_targets: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy of the tokens and the distillation loss."""
        inputs, targets = tokens[:, :-1].masked_fill(tokens[:, :-1] == UNKNOWN, PAD), tokens[:, 1:]
        corrupted = (torch.rand_like(inputs, dtype=torch.float) < _CORRUPTED) \
            & (inputs >= N_SPECIAL)
        other = torch.randint_like(inputs, N_SPECIAL, self.network.config.vocab_size)
        other = torch.where(torch.rand_like(other, dtype=torch.float) < 0.3, PAD, other)
        inputs = torch.where(corrupted, other, inputs)
        with self._autocast():
            logits, states = self.training_network(mel, inputs, delay, windowed_attention)
        # No loss on the prompt tokens.
        position = torch.arange(targets.shape[1], device=targets.device)[None]
        generated = position >= LEFT_PAD + delay[:, None]
        targets = targets.masked_fill(~generated, UNKNOWN).flatten()
        loss = F.cross_entropy(logits.float().flatten(0, 1), targets, ignore_index=UNKNOWN,
                               reduction='sum')
        # The mean, and zero where no token of the batch is known.
        loss = loss / (targets != UNKNOWN).sum().clamp(min=1)
        if teacher_targets is None:
            return loss, loss.new_zeros(())
        states = states[:, LEFT_PAD * self.network.config.downsample_factor:]
        return loss, distillation_loss(states, *teacher_targets)

    def step(self, batch: tuple[Tensor, ...], progress: float) -> tuple[Tensor, Tensor]:
        """Make one step and return the losses: cross-entropy and distillation."""
        samples, tokens, delay = (part.to(self.device, non_blocking=True) for part in batch)
        x = samples.float() / 32768
        with torch.no_grad():
            teacher_targets = self.teacher_targets(x) if self.teacher else None
            mel = self.features(x)
        factor = schedule(self.steps, self.warmup, progress)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group['lr'] = self.learning_rate * factor
            optimizer.zero_grad(set_to_none=True)
        begin, complete = _FAKE_QUANTIZATION
        if progress > begin and self.steps % _SCALE_INTERVAL == 0:
            for linear in self.training_network.fake_quantized:
                linear.update_scale(min(1.0, (progress - begin) / (complete - begin)))
        loss, distillation = self.losses(mel, tokens, delay, teacher_targets)
        first, last = _DISTILLATION
        (loss + distillation * (first + (last - first) * min(1.0, progress))).backward()
        all_reduce_gradients(self.training_network)
        self.n_bad += ~clip_gradients(self.training_network)
        for optimizer in self.optimizers:
            optimizer.step()
        self.steps += 1
        decay = 1 - 1 / min(self.ema_steps, self.steps + 1)
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.parameters()),
                                 list(self.network.parameters()), 1 - decay)
        return loss.detach(), distillation.detach()


def main(command_line: list[str] | None = None) -> None:
    """Train until the time is up, evaluating and saving at intervals."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--root', type=Path, required=True)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--params', type=Path, default=Path(__file__).with_name('params.json'))
    parser.add_argument('--init', type=Path, help='checkpoint folder to continue from')
    parser.add_argument('--teacher', type=Path, help='teacher.safetensors, for distillation')
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument('--seconds', type=float, help='how long to train')
    length.add_argument('--steps', type=int, help='the same in steps')
    parser.add_argument('--eval-every', type=float, default=150, metavar='SECONDS')
    parser.add_argument('--batch', type=int, default=64, help='sequences [%(default)s]')
    parser.add_argument('--tokens', type=int, default=400, help='per sequence')
    parser.add_argument('--learning-rate', type=float, default=1.2e-3)
    parser.add_argument('--warmup', type=int, default=300, metavar='STEPS')
    parser.add_argument('--ema', type=int, default=2000, metavar='STEPS',
                        help='time constant of the moving average of the weights [%(default)s]')
    parser.add_argument('--dropout', type=float, default=_DROPOUT)
    parser.add_argument('--real-speech', type=float, default=_REAL_SPEECH, metavar='FRACTION',
                        help='of the utterances; the rest is synthetic speech [%(default)s]')
    parser.add_argument('--seed', type=int, default=0, help='of data, augmentation and dropout')
    parser.add_argument('--workers', type=int, default=12)
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--bf16', action='store_true',
                        help='mixed precision on a CPU, for one with AMX')
    parser.add_argument('--eager', action='store_true', help='do not compile')
    parser.add_argument('--no-augmentation', action='store_true',
                        help='neither data augmentation nor dropout (to test the loop)')
    arguments = parser.parse_args(command_line)
    begin = time.time()
    rank, n_processes = 0, 1
    if dist.is_torchelastic_launched():
        dist.init_process_group('nccl' if arguments.device == 'cuda' else 'gloo')
        rank, n_processes = dist.get_rank(), dist.get_world_size()
        if arguments.device == 'cuda':
            torch.cuda.set_device(rank)
    torch.manual_seed(0)
    random.seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    params = json.loads(arguments.params.read_text(encoding='utf-8'))
    device = torch.device(arguments.device)
    rooms = arguments.root / 'rooms.npy'
    trainer = Trainer(ModelConfig.from_params(params), device, arguments.learning_rate,
                      not arguments.eager, not arguments.no_augmentation, arguments.teacher,
                      arguments.warmup, arguments.ema, arguments.bf16, arguments.dropout,
                      rooms if rooms.exists() else None)
    if arguments.init:
        trainer.load(arguments.init)
    seed = 100 * arguments.seed + rank  # from here on, each process has its own random numbers
    torch.manual_seed(seed)
    sequences = Sequences(arguments.root, sources(arguments.real_speech), arguments.tokens, seed,
                          UNTRANSCRIBED if arguments.teacher else ('', 0.0))
    loader = DataLoader(sequences, arguments.batch, collate_fn=collate,
                        num_workers=arguments.workers, pin_memory=device.type == 'cuda',
                        prefetch_factor=4 if arguments.workers else None)
    audio_h, smooth, evaluated = 0.0, math.nan, time.time()
    for batch in loader:
        progress = broadcast(trainer.steps / arguments.steps if arguments.steps
                             else (time.time() - begin) / arguments.seconds)
        if progress >= 1:
            break
        loss, distillation = trainer.step(batch, progress)
        audio_h += n_processes * arguments.batch * (arguments.tokens - LEFT_PAD) * 0.08 / 3600
        if rank:
            continue
        if trainer.steps % 50 == 0:
            value = loss.item()
            if math.isfinite(value):
                smooth = value if math.isnan(smooth) else 0.8 * smooth + 0.2 * value
            if trainer.steps % 200 == 0:
                print(f'{time.time() - begin:.0f} s, step {trainer.steps}, '
                      f'loss {smooth:.3f}, distillation {distillation.item():.3f}, '
                      f'{audio_h:.0f} h of audio, {trainer.n_bad.item()} bad steps', flush=True)
        if time.time() - evaluated > arguments.eval_every:
            evaluate_and_save(trainer, arguments, params, begin, audio_h)
            evaluated = time.time()
    if not rank:
        evaluate_and_save(trainer, arguments, params, begin, audio_h, examples=3)
    if dist.is_initialized():
        dist.destroy_process_group()


def evaluate_and_save(trainer: Trainer, arguments: argparse.Namespace, params: dict[str, Any],
                      begin: float, audio_h: float, examples: int = 0) -> None:
    """Save the EMA, report its word error rates, and keep it if those of real speech are best."""
    save(trainer.ema, params, arguments.root / 'tekken.json', arguments.out)
    try:
        rates = evaluate(arguments.out, load_sets(arguments.root), str(trainer.device), examples)
    except Exception:  # a failed evaluation must not end the training
        traceback.print_exc()
        rates = {}
    line = {'seconds': round(time.time() - begin), 'step': trainer.steps,
            'audio_hours': round(audio_h), **rates}
    print('EVALUATION ' + json.dumps(line), flush=True)
    with (arguments.out / 'curve.jsonl').open('a', encoding='utf-8') as file:
        file.write(json.dumps(line) + '\n')
    real_speech = [rate for name, rate in rates.items()
                   if name.startswith('dev') and name != 'dev_noise']
    if not real_speech:
        return
    score = sum(real_speech) / len(real_speech) + _FALSE_WORD * rates.get('dev_noise', 0.0)
    if score < trainer.best:
        trainer.best = score
        save(trainer.ema, params, arguments.root / 'tekken.json', arguments.out / 'best')


if __name__ == '__main__':
    main()
