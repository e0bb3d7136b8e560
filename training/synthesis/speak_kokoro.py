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
Synthesize sentences with Kokoro until the time is up.

    python -m training.synthesis.speak_kokoro --root build/training --shard kokoro0 --seconds 400

Speakers: the 28 English and 26 other voices, and mixtures of three of them with separately mixed
prosody. Four English voices are held out: `--held-out` synthesizes held-out sentences with only
these.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import random
import time

import numpy as np
import torch
import torchaudio
from training.synthesis.kokoro import FRAME_S, Kokoro, load, RATE_HZ, Utterance
from training.synthesis.shards import ShardWriter

HELD_OUT_VOICES = ('af_sky', 'am_puck', 'bf_lily', 'bm_fable')
_MAX_FRAMES = 40_000  # of a decoder batch; memory grows with it
_BATCH = 256  # utterances of a duration batch
_SLACK = 0.06  # how much longer than the shortest of a group the longest may be


class Speakers:
    """Styles of the voices and of mixtures of them."""

    def __init__(self, path: Path) -> None:
        """Read voices.npz: per voice float16 [n, 256], for the phoneme counts in `lengths`."""
        content = np.load(path)
        self._lengths = content['lengths']
        self._styles = {name: content[name].astype(np.float32)
                        for name in content.files if name != 'lengths'}
        self._english = [name for name in self._styles
                         if name[0] in 'ab' and name not in HELD_OUT_VOICES]
        self._all = [name for name in self._styles if name not in HELD_OUT_VOICES]

    def _style(self, voice: str, n_phonemes: int) -> np.ndarray:
        return self._styles[voice][int(np.abs(self._lengths - n_phonemes).argmin())]

    def random(self, n_phonemes: int, held_out: bool) -> np.ndarray:
        """Return a style [256]: timbre in the first half, prosody in the second."""
        if held_out:
            return self._style(random.choice(HELD_OUT_VOICES), n_phonemes)
        if random.random() < 0.35:
            return self._style(random.choice(self._english), n_phonemes)
        halves = []
        for voices, part in ((self._all, slice(0, 128)), (self._english, slice(128, 256))):
            weights = np.random.dirichlet([0.7] * 3)
            chosen = random.sample(voices, 3)
            halves.append(sum(weight * self._style(voice, n_phonemes)[part]
                              for weight, voice in zip(weights, chosen, strict=True)))
        return np.concatenate(halves).astype(np.float32)


def groups(utterances: list[Utterance]) -> list[list[Utterance]]:
    """Return the utterances in batches of nearly equal length."""
    utterances = sorted(utterances, key=lambda item: item.frames)
    batches: list[list[Utterance]] = []
    for item in utterances:
        batch = batches[-1] if batches else []
        if batch and item.frames <= batch[0].frames * (1 + _SLACK) + 2 \
                and (len(batch) + 1) * item.frames <= _MAX_FRAMES:
            batch.append(item)
        else:
            batches.append([item])
    return batches


def main() -> None:
    """Synthesize."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--root', type=Path, required=True)
    parser.add_argument('--kokoro', type=Path, required=True, help='folder of the kokoro wheel')
    parser.add_argument('--onnx', type=Path, required=True)
    parser.add_argument('--shard', required=True)
    parser.add_argument('--seconds', type=float, required=True)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--held-out', action='store_true')
    parser.add_argument('--limit', type=int, help='utterances, instead of the time')
    arguments = parser.parse_args()
    begin = time.time()
    random.seed(arguments.seed)
    np.random.seed(arguments.seed)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    name = 'heldout' if arguments.held_out else 'sentences'
    lines = (arguments.root / f'{name}.phonemes.txt').read_text(encoding='utf-8').splitlines()
    alphabet = json.loads((arguments.root / 'kokoro_vocab.json').read_text(encoding='utf-8'))
    ids = {character: int(number) for character, number in alphabet['vocab'].items()}
    speakers = Speakers(arguments.root / 'voices.npz')
    kokoro = Kokoro(load(arguments.kokoro, arguments.onnx), arguments.device)
    resample = torchaudio.transforms.Resample(RATE_HZ, 16000).to(arguments.device)
    writer = ShardWriter(arguments.root / 'shards' / arguments.shard)
    order = [n for n, line in enumerate(lines) if 0 < len(line) < 250]
    if arguments.held_out:
        order = order[:arguments.limit]
    done = False
    while not done and time.time() - begin < arguments.seconds:
        chosen = order if arguments.held_out else random.sample(order, min(2048, len(order)))
        done = arguments.held_out
        items = [[0, *(ids[c] for c in lines[n] if c in ids), 0] for n in chosen]
        utterances: list[Utterance] = []
        for at in range(0, len(items), _BATCH):
            batch = items[at:at + _BATCH]
            styles = np.stack([speakers.random(len(item), arguments.held_out) for item in batch])
            speeds = np.random.uniform(0.75, 1.3, len(batch)).astype(np.float32)
            utterances += [item._replace(item=item.item + at)
                           for item in kokoro.predict(batch, styles, speeds)]
        for group in groups(utterances):
            audio, ends = kokoro.decode(group)
            audio = resample(audio)
            audio = audio / (audio.abs().amax(1, keepdim=True) + 1e-4) * 0.7
            samples = (audio * 32767).to(torch.int16).cpu().numpy()
            for utterance, row, end in zip(group, samples, ends, strict=True):
                item = items[utterance.item]
                # A word ends where the token before its space ends; the last one before the pad.
                word_ends = [float(end[n - 1]) * FRAME_S for n in range(1, len(item))
                             if item[n] == ids[' '] or n == len(item) - 1]
                writer.add(chosen[utterance.item], row, word_ends)
            if time.time() - begin > arguments.seconds:
                break
        writer.flush()
    writer.flush()
    took = time.time() - begin
    print(f'{arguments.shard}: {writer.seconds / 3600:.1f} h in {took:.0f} s, '
          f'{writer.seconds / took:.0f} times real time', flush=True)


if __name__ == '__main__':
    main()
