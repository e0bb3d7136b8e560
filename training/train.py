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

The network is that of voxtral_ros.model, run in parallel over whole sequences. With a teacher (see
training.distillation) the encoder also learns to say what the teacher would, of the same sound
before room and noise. In the last part the decoder computes with weights rounded as the compact
layout rounds them. The average of the weights is judged on the way, and what heard people best
(the sets `dev_...`: people kept out of training for this) is kept in OUT/best; words that are
written where nobody speaks (`dev_noise`) count against it.

Started with torchrun, processes share the work: each trains on sequences of its own, the gradients
are averaged.

Speech may still be synthesised while this runs: shards are read as they grow. All schedules follow
the wall clock (or, with --steps, the steps), so a run ends where it was meant to end, whatever the
speed of the machine.
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

import torch
from torch import nn, Tensor
import torch.distributed as dist
import torch.nn.functional as F
from torch.utils.data import DataLoader
from training.augment import augment, mask, roughen, WarpedMel
from training.distillation import lesson, speaking, Teacher
from training.evaluate import evaluate, load_sets
from training.export import save
from training.sequences import collate, LEFT_PAD, PAD, Sequences, TOKEN_SAMPLES
from training.training_network import Student, windowed_attention
from training.vocabulary import N_SPECIAL
from voxtral_ros.model.checkpoint import load_network
from voxtral_ros.model.config import ModelConfig
from voxtral_ros.model.network import VoxtralRealtime

# (shards, sentences, spliced share) -> weight of its utterances among those of its kind
ENGINES = {
    ('kokoro', 'sentences.txt', 0.05): 16,
    ('hibari', 'sentences.txt', 0.05): 12,
    ('flite', 'sentences.txt', 0.0): 5,
    ('espeak', 'sentences.txt', 0.0): 3,
    ('rhvoice', 'sentences.txt', 0.0): 4,
}
PEOPLE = {
    ('clean-100', 'clean-100.txt', 0.9): 7,
    ('dev-clean', 'dev-clean.txt', 0.8): 12,
    ('common-voice', 'common-voice.txt', 0.3): 33,
    ('speechocean', 'speechocean.txt', 0.3): 8,
    ('an4', 'an4.txt', 0.0): 4,
    ('gsc', 'gsc.txt', 0.5): 2,
    ('more', 'more.txt', 0.3): 2,
}
_NOISE = 1e-4  # rate of errors that a word an hour counts as which is written where nobody speaks
_DECAY = 0.5  # the last part of the time, in which the learning rate falls to zero
_PEOPLE = 0.65
_DROPOUT = 0.1  # without it, half an hour of real speech was soon known by heart
_WRONG_INPUT = 0.1  # of the text tokens that are fed back: the model must survive its own errors
_LESSON = (0.6, 0.3)  # weight of what the teacher says, at the start and at the end
_ROUNDING = (0.85, 0.90)  # when the decoder starts to round, and when it rounds wholly
_NEW_SCALES = 20  # steps between new scales of the rounding


def sources(people: float) -> dict[tuple[str, str, float], float]:
    """Return what to train on: a share of people, the rest of engines."""
    return {source: share * weight / sum(kind.values())
            for kind, share in ((PEOPLE, people), (ENGINES, 1 - people))
            for source, weight in kind.items()}


def initialise(network: VoxtralRealtime) -> None:
    """Set weights as for any pre-norm transformer: 0.02, less where residuals add up."""
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


def optimisers(network: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices inside the stacks and AdamW for everything else."""
    inside: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        is_matrix = parameter.dim() == 2 and '.layers.' in name and 'ada_rms' not in name
        (inside if is_matrix else rest).append(parameter)
    return [
        torch.optim.Muon(inside, lr=rate, weight_decay=0.05, momentum=0.95,
                         adjust_lr_fn='match_rms_adamw'),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)]


def schedule(step: int, warm_up: int, progress: float) -> float:
    """Return the share of the full learning rate: warm-up, constant, then down to zero."""
    return min(1.0, (step + 1) / warm_up) * min(1.0, (1.0 - progress) / _DECAY)


def share_gradients(network: nn.Module) -> None:
    """Give all processes that train together the mean of their gradients."""
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
    Bring the norm of all gradients to at most one, and return whether it was finite, [].

    If not, all of them are zero after it, and the step goes on in the direction of those before:
    one bad step must not spoil the weights for ever.
    """
    norm = nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    for parameter in network.parameters():
        if parameter.grad is not None:  # all NaN by now, if the norm is not finite
            parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
    return norm.isfinite()


def agreed(number: float) -> float:
    """Return what the first process says, so that all stop at the same step."""
    if not dist.is_initialized():
        return number
    said = [number]
    dist.broadcast_object_list(said)
    return said[0]


class Trainer:
    """Network, average, teacher, optimisers and the step."""

    def __init__(self, config: ModelConfig, device: torch.device, rate: float,
                 compiled: bool, clean: bool = False, teacher: Path | None = None,
                 warm_up: int = 300, averaged: int = 2000, narrow: bool = False,
                 dropout: float = _DROPOUT) -> None:
        """
        Prepare.

        :param warm_up: steps until the learning rate is full
        :param averaged: steps over which the weights are averaged
        :param narrow: multiply in BF16 on a CPU too
        :param dropout: share of what attention and feed-forward add that is left out
        """
        self.device = device
        self.narrow = narrow or device.type == 'cuda'
        self.clean = clean
        self.rate, self.warm_up, self.averaged = rate, warm_up, averaged
        self.network = VoxtralRealtime(config).to(device)
        initialise(self.network)
        self.average = VoxtralRealtime(config).to(device).requires_grad_(False)
        self.average.load_state_dict(self.network.state_dict())
        self.average.mel.place(device)
        self.student = Student(self.network, 0.0 if clean else dropout).to(device)
        self.teacher = Teacher.load(teacher).to(device) if teacher else None
        self.mel = WarpedMel(config.audio, device)
        self.optimisers = optimisers(self.student, rate)
        self.losses = torch.compile(self._losses, dynamic=False) if compiled else self._losses
        self.features = torch.compile(self._features, dynamic=False) if compiled \
            else self._features
        self.teach = torch.compile(self._teach, dynamic=False) if compiled else self._teach
        self.steps = 0
        self.n_bad = torch.zeros((), dtype=torch.int64, device=device)  # steps without gradient
        self.best = math.inf

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint."""
        state = load_network(folder, 'cpu', torch.float32).state_dict()
        self.network.load_state_dict(state)
        self.average.load_state_dict(state)

    def _features(self, x: Tensor) -> Tensor:
        """Return the mel spectrogram of a batch of sound, left pad included."""
        if not self.clean:
            x = augment(x)
        context = self.network.mel.context
        half = self.network.config.audio.window_size // 2
        x = F.pad(x, (LEFT_PAD * TOKEN_SAMPLES + half, context - half))
        return self.mel(x, warp=False) if self.clean else mask(roughen(self.mel(x)))

    def _teach(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states of the teacher and which of them count."""
        assert self.teacher is not None
        with self._autocast():
            states = self.teacher(x)
        return states.float(), speaking(x)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, self.narrow)

    def _losses(self, mel: Tensor, tokens: Tensor, delay: Tensor,
                said: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy of the tokens and the error of the predicted states."""
        given, wanted = tokens[:, :-1], tokens[:, 1:]
        wrong = (torch.rand_like(given, dtype=torch.float) < _WRONG_INPUT) & (given >= N_SPECIAL)
        other = torch.randint_like(given, N_SPECIAL, self.network.config.vocab_size)
        other = torch.where(torch.rand_like(other, dtype=torch.float) < 0.3, PAD, other)
        given = torch.where(wrong, other, given)
        with self._autocast():
            logits, states = self.student(mel, given, delay, windowed_attention)
        # The prompt predicts nothing: its tokens are given.
        position = torch.arange(wanted.shape[1], device=wanted.device)[None]
        free = position >= LEFT_PAD + delay[:, None]
        loss = F.cross_entropy(logits.float().flatten(0, 1),
                               wanted.masked_fill(~free, -100).flatten(), ignore_index=-100)
        if said is None:
            return loss, loss.new_zeros(())
        heard = states[:, LEFT_PAD * self.network.config.downsample_factor:]
        return loss, lesson(heard, *said)

    def step(self, batch: tuple[Tensor, ...], progress: float) -> tuple[Tensor, Tensor]:
        """Make one step and return the losses."""
        samples, tokens, delay = (part.to(self.device, non_blocking=True) for part in batch)
        x = samples.float() / 32768
        with torch.no_grad():
            said = self.teach(x) if self.teacher else None
            mel = self.features(x)
        share = schedule(self.steps, self.warm_up, progress)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group['lr'] = self.rate * share
            optimiser.zero_grad(set_to_none=True)
        begin, whole = _ROUNDING
        if progress > begin and self.steps % _NEW_SCALES == 0:
            for linear in self.student.rounding:
                linear.choose(min(1.0, (progress - begin) / (whole - begin)))
        loss, error = self.losses(mel, tokens, delay, said)
        first, last = _LESSON
        (loss + error * (first + (last - first) * min(1.0, progress))).backward()
        share_gradients(self.student)
        self.n_bad += ~clip_gradients(self.student)
        for optimiser in self.optimisers:
            optimiser.step()
        self.steps += 1
        keep = 1 - 1 / min(self.averaged, self.steps + 1)
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()),
                                 list(self.network.parameters()), 1 - keep)
        return loss.detach(), error.detach()


def main(command_line: list[str] | None = None) -> None:
    """Train until the time is up, saving and judging on the way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--root', type=Path, required=True)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--params', type=Path, default=Path(__file__).with_name('params.json'))
    parser.add_argument('--init', type=Path, help='checkpoint folder to continue from')
    parser.add_argument('--teacher', type=Path, help='teacher.safetensors')
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument('--seconds', type=float, help='how long to train')
    length.add_argument('--steps', type=int, help='the same in steps')
    parser.add_argument('--judge-every', type=float, default=150, metavar='SECONDS')
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--tokens', type=int, default=400, help='per sequence')
    parser.add_argument('--rate', type=float, default=1.2e-3)
    parser.add_argument('--warm-up', type=int, default=300, metavar='STEPS')
    parser.add_argument('--average', type=int, default=2000, metavar='STEPS')
    parser.add_argument('--dropout', type=float, default=_DROPOUT)
    parser.add_argument('--people', type=float, default=_PEOPLE, metavar='SHARE',
                        help='of the utterances; the rest is of the engines [%(default)s]')
    parser.add_argument('--seed', type=int, default=0, help='another one for another run')
    parser.add_argument('--workers', type=int, default=12)
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--bf16', action='store_true',
                        help='on a CPU, if it multiplies BF16 in hardware (AMX)')
    parser.add_argument('--eager', action='store_true', help='do not compile')
    parser.add_argument('--clean', action='store_true', help='do not augment (to test the loop)')
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
    trainer = Trainer(ModelConfig.from_params(params), device, arguments.rate,
                      not arguments.eager, arguments.clean, arguments.teacher,
                      arguments.warm_up, arguments.average, arguments.bf16, arguments.dropout)
    if arguments.init:
        trainer.load(arguments.init)
    seed = 100 * arguments.seed + rank  # from here on, each process has chances of its own
    torch.manual_seed(seed)
    sequences = Sequences(arguments.root, sources(arguments.people), arguments.tokens, seed)
    loader = DataLoader(sequences, arguments.batch, collate_fn=collate,
                        num_workers=arguments.workers, pin_memory=device.type == 'cuda',
                        prefetch_factor=4 if arguments.workers else None)
    heard_h, smooth, judged = 0.0, math.nan, time.time()
    for batch in loader:
        progress = agreed(trainer.steps / arguments.steps if arguments.steps
                          else (time.time() - begin) / arguments.seconds)
        if progress >= 1:
            break
        loss, error = trainer.step(batch, progress)
        heard_h += n_processes * arguments.batch * (arguments.tokens - LEFT_PAD) * 0.08 / 3600
        if rank:
            continue
        if trainer.steps % 50 == 0:
            value = loss.item()
            if math.isfinite(value):
                smooth = value if math.isnan(smooth) else 0.8 * smooth + 0.2 * value
            if trainer.steps % 200 == 0:
                print(f'{time.time() - begin:.0f} s, step {trainer.steps}, '
                      f'loss {smooth:.3f}, teacher {error.item():.3f}, '
                      f'{heard_h:.0f} h heard, {trainer.n_bad.item()} bad steps', flush=True)
        if time.time() - judged > arguments.judge_every:
            judge(trainer, arguments, params, begin, heard_h)
            judged = time.time()
    if not rank:
        judge(trainer, arguments, params, begin, heard_h, examples=3)
    if dist.is_initialized():
        dist.destroy_process_group()


def judge(trainer: Trainer, arguments: argparse.Namespace, params: dict[str, Any],
          begin: float, heard_h: float, examples: int = 0) -> None:
    """Save the average, print its word error rates and keep it if it hears people best."""
    save(trainer.average, params, arguments.root / 'tekken.json', arguments.out)
    try:
        rates = evaluate(arguments.out, load_sets(arguments.root), str(trainer.device), examples)
    except Exception:  # an hour of training is worth more than one judgement
        traceback.print_exc()
        rates = {}
    line = {'seconds': round(time.time() - begin), 'step': trainer.steps,
            'hours_heard': round(heard_h), **rates}
    print('JUDGED ' + json.dumps(line), flush=True)
    with (arguments.out / 'curve.jsonl').open('a', encoding='utf-8') as file:
        file.write(json.dumps(line) + '\n')
    people = [rate for name, rate in rates.items()
              if name.startswith('dev') and name != 'dev_noise']
    if not people:
        return
    score = sum(people) / len(people) + _NOISE * rates.get('dev_noise', 0.0)
    if score < trainer.best:
        trainer.best = score
        save(trainer.average, params, arguments.root / 'tekken.json', arguments.out / 'best')


if __name__ == '__main__':
    main()
