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
Shards of recordings that need no word ends: noise, foreign speech, and evaluation sets.

    python -m training.recordings --out W --noise DIR
    python -m training.recordings --out W --foreign DIR
    python -m training.recordings --out W --untranscribed DIR
    python -m training.recordings --out W --eval-set dev_reading --manifest dev_reading.tsv
    python -m training.recordings --out W --eval-set dev_noise --noise OTHER_DIR

The first writes the shard `noise0`, which training mixes with speech; the second `foreign0`,
speech in other languages, of which nothing is to be written; the third `untranscribed0`, English
speech from which the encoder alone learns. The others write development sets for
training.train, which keeps the checkpoint with the lowest error rate on the sets `dev_*`:
keep their speakers and noises out of the training data. All recordings are FLAC, WAV or Opus,
16 kHz, one channel.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile
from training.noise_test_set import scattered, set_level
from training.synthesis.shards import ShardWriter
from training.utterances import RATE_HZ

from voxtral_ros.evaluation.manifest import read_manifest

_CLIP_S = 20  # longer recordings are cut into clips
_MIN_SAMPLES = 400
_SUFFIXES = ('.flac', '.wav', '.opus')
_NOISE_MINUTES = 8
_NOISE_S = 8  # of each recording in them
_NOISE_PAUSE_S = 0.5


def read_audio(path: Path) -> np.ndarray:
    """
    Return samples, float32 [n], -1..1.

    :raises ValueError: not 16 kHz, or more than one channel
    """
    samples, rate = soundfile.read(path, dtype='float32')
    if rate != RATE_HZ or samples.ndim != 1:
        raise ValueError(f'{path} has {rate} Hz and the shape {samples.shape}: '
                         f'convert it to {RATE_HZ} Hz and one channel')
    return np.asarray(samples)


def load_manifest(manifest: Path) -> list[tuple[Path, str]]:
    """Return the recordings of a manifest and their texts, from its columns file and text."""
    return [(path, text) for path, text, _ in read_manifest(manifest)]


def recording_paths(folder: Path) -> list[Path]:
    """Return the recordings in a folder and its subfolders, in order."""
    return sorted(path for path in folder.rglob('*') if path.suffix in _SUFFIXES)


def noise_recordings(folder: Path) -> Iterator[np.ndarray]:
    """Yield the recordings in a folder and its subfolders that are not too short or silent."""
    for path in recording_paths(folder):
        samples = read_audio(path)
        if len(samples) >= _MIN_SAMPLES and np.abs(samples).max() > 1e-4:
            yield samples


def noise_clips(folder: Path) -> Iterator[np.ndarray]:
    """Yield the recordings of a folder in clips of the same peak level, int16."""
    for whole in noise_recordings(folder):
        for at in range(0, len(whole), _CLIP_S * RATE_HZ):
            clip = whole[at:at + _CLIP_S * RATE_HZ]
            if len(clip) >= _MIN_SAMPLES and np.abs(clip).max() > 1e-4:
                yield (clip * (0.7 * 32767 / np.abs(clip).max())).astype(np.int16)


def noise_minutes(folder: Path, minutes: int = _NOISE_MINUTES) -> Iterator[np.ndarray]:
    """Yield minutes of noise: the recordings of a folder in random order, int16."""
    random = np.random.default_rng(77)
    parts = [set_level(whole[:_NOISE_S * RATE_HZ], -20) for whole in noise_recordings(folder)]
    for _ in range(minutes):
        minute = scattered(60 * RATE_HZ, lambda: parts[random.integers(len(parts))],
                           _NOISE_PAUSE_S, random)
        yield (set_level(minute, -26) * 32767).astype(np.int16)


def main(command_line: list[str] | None = None) -> None:
    """Write a shard, and the reference texts of an evaluation set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--eval-set', metavar='NAME', help='write an evaluation set')
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument('--noise', type=Path, metavar='DIR')
    kind.add_argument('--foreign', type=Path, metavar='DIR')
    kind.add_argument('--untranscribed', type=Path, metavar='DIR')
    kind.add_argument('--manifest', type=Path, help='table of file and text; needs --eval-set')
    arguments = parser.parse_args(command_line)
    speech = arguments.foreign or arguments.untranscribed
    if speech and arguments.eval_set:
        parser.error('speech without texts is for training: it makes no evaluation set')
    if arguments.manifest and not arguments.eval_set:
        parser.error('speech to train on needs word ends: use training.forced_alignment')
    texts: list[str] = []
    recordings: Iterable[np.ndarray]
    if arguments.manifest:
        rows = load_manifest(arguments.manifest)
        texts = [text for _, text in rows]
        recordings = ((read_audio(path) * 32767).astype(np.int16) for path, _ in rows)
    elif arguments.eval_set:
        recordings = noise_minutes(arguments.noise)
    else:
        recordings = noise_clips(arguments.noise or speech)
    kind_name = next(name for name in ('noise', 'foreign', 'untranscribed', 'manifest')
                     if getattr(arguments, name))
    name = f'eval_{arguments.eval_set}' if arguments.eval_set else kind_name
    shard = name if arguments.eval_set else f'{name}0'
    writer = ShardWriter(arguments.out / 'shards' / shard)
    for number, samples in enumerate(recordings):
        writer.add(number if texts else 0, samples, [])
    writer.flush()
    if arguments.eval_set or speech:
        (arguments.out / f'{name}.txt').write_text('\n'.join(texts) + '\n', encoding='utf-8')
    print(f'{name}: {writer.seconds / 60:.1f} minutes')


if __name__ == '__main__':
    main()
