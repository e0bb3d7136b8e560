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
Shards of recordings whose words need no ends: sounds to train on, and sets to judge by.

    python -m training.recordings --out W --sounds DIR
    python -m training.recordings --out W --judge dev_reading --manifest dev_reading.tsv
    python -m training.recordings --out W --judge dev_noise --sounds OTHER_DIR

The first adds what is in a folder to what is heard beside speech (shard `noise0`). The others make
sets for training.train, which keeps the model that hears the sets `dev_...` best: what is in them,
people and sounds, must not be trained on. All recordings are FLAC or WAV, 16 kHz, one channel.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile
from training.noise_test_set import level, scattered
from training.synthesis.shards import ShardWriter
from training.utterances import RATE_HZ

_PART_S = 20  # longer sounds are kept in parts
_SHORTEST = 400  # samples
_NOISE_MINUTES = 8
_NOISE_S = 8  # of each sound in them
_NOISE_PAUSE_S = 0.5


def read(path: Path) -> np.ndarray:
    """
    Return samples, float32 [n], -1..1.

    :raises ValueError: not 16 kHz, or more than one channel
    """
    samples, rate = soundfile.read(path, dtype='float32')
    if rate != RATE_HZ or samples.ndim != 1:
        raise ValueError(f'{path} has {rate} Hz and the shape {samples.shape}: '
                         f'convert it to {RATE_HZ} Hz and one channel')
    return np.asarray(samples)


def read_table(manifest: Path) -> list[tuple[Path, str]]:
    """Return the recordings of a table and what is said in them, by its columns file and text."""
    header, *rows = (line.split('\t') for line in
                     manifest.read_text(encoding='utf-8').splitlines())
    file, text = header.index('file'), header.index('text')
    return [(manifest.parent / row[file], row[text]) for row in rows]


def sounds(folder: Path) -> Iterator[np.ndarray]:
    """Yield the recordings in a folder and its subfolders, without what is too short or silent."""
    for path in sorted(path for path in folder.rglob('*') if path.suffix in ('.flac', '.wav')):
        samples = read(path)
        if len(samples) >= _SHORTEST and np.abs(samples).max() > 1e-4:
            yield samples


def parts(folder: Path) -> Iterator[np.ndarray]:
    """Yield the sounds of a folder in parts, equally loud, int16."""
    for whole in sounds(folder):
        for at in range(0, len(whole), _PART_S * RATE_HZ):
            part = whole[at:at + _PART_S * RATE_HZ]
            if len(part) >= _SHORTEST and np.abs(part).max() > 1e-4:
                yield (part * (0.7 * 32767 / np.abs(part).max())).astype(np.int16)


def noise(folder: Path, minutes: int = _NOISE_MINUTES) -> Iterator[np.ndarray]:
    """Yield minutes in which the sounds of a folder follow each other in random order, int16."""
    random = np.random.default_rng(77)
    heard = [level(sound[:_NOISE_S * RATE_HZ], -20) for sound in sounds(folder)]
    for _ in range(minutes):
        minute = scattered(60 * RATE_HZ, lambda: heard[random.integers(len(heard))],
                           _NOISE_PAUSE_S, random)
        yield (level(minute, -26) * 32767).astype(np.int16)


def main(command_line: list[str] | None = None) -> None:
    """Write a shard, and the texts of a set to judge by."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--judge', metavar='NAME', help='make a set to judge by')
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument('--sounds', type=Path, metavar='DIR')
    kind.add_argument('--manifest', type=Path, help='table of file and text')
    arguments = parser.parse_args(command_line)
    if arguments.manifest and not arguments.judge:
        parser.error('speech to train on needs word ends: use training.forced_alignment')
    texts: list[str] = []
    recordings: Iterable[np.ndarray]
    if arguments.manifest:
        rows = read_table(arguments.manifest)
        texts = [text for _, text in rows]
        recordings = ((read(path) * 32767).astype(np.int16) for path, _ in rows)
    elif arguments.judge:
        recordings = noise(arguments.sounds)
    else:
        recordings = parts(arguments.sounds)
    name = f'judge_{arguments.judge}' if arguments.judge else 'noise0'
    writer = ShardWriter(arguments.out / 'shards' / name)
    for number, samples in enumerate(recordings):
        writer.add(number if texts else 0, samples, [])
    writer.flush()
    if arguments.judge:
        (arguments.out / f'{name}.txt').write_text('\n'.join(texts) + '\n', encoding='utf-8')
    print(f'{name}: {writer.seconds / 60:.1f} minutes')


if __name__ == '__main__':
    main()
