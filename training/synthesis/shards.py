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
Shards of speech: samples appended to one file, and an index of which sentence is where.

Each synthesizer process writes its own shard; readers may read a shard that is still growing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from multiprocessing import Process
from pathlib import Path
import random
import time
from typing import Any, NamedTuple, Protocol

import numpy as np

_TAIL = 3200  # samples kept after the end of the audio


class Synthesizer(Protocol):
    """A TTS engine."""

    def synthesize(self, text: str) -> tuple[np.ndarray, list[float]]:
        """Return audio at 16 kHz, in any scale, and its word ends in seconds."""


class Clip(NamedTuple):
    """One utterance in a shard."""

    sentence: int  # line of the sentences file
    start: int  # sample in the shard
    length: int  # samples
    ends: np.ndarray  # float32 [n_words], seconds from the start of the clip


class ShardWriter:
    """Appends utterances to `<path>.i16` and `<path>.index`."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._samples = path.with_suffix('.i16').open('wb')
        self._index = path.with_suffix('.index').open('wb')
        self._at = 0

    def add(self, sentence: int, samples: np.ndarray, ends: list[float]) -> None:
        """
        Append one utterance: int16 at 16 kHz, and its word ends in seconds.

        TTS engines count the final silence to the last word: its end is moved to the end of the
        audio, and the silence is cut.
        """
        loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max())
        stop = int(loud[-1]) + 1 if len(loud) else len(samples)
        ends = [min(end, stop / 16000) for end in ends]
        samples = samples[:stop + _TAIL]
        self._samples.write(samples.tobytes())
        record = np.array([sentence, self._at, len(samples), len(ends)], np.int64)
        self._index.write(record.tobytes() + np.array(ends, np.float32).tobytes())
        self._at += len(samples)

    def flush(self) -> None:
        """Make what was added visible to readers: the samples before the index."""
        self._samples.flush()
        self._index.flush()

    @property
    def seconds(self) -> float:
        return self._at / 16000


class ShardReader:
    """Reads a shard, also one that is still growing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self.clips: list[Clip] = []
        self.samples: np.ndarray = np.zeros(0, np.int16)

    def refresh(self) -> None:
        """Look for new utterances."""
        with self._path.with_suffix('.index').open('rb') as file:
            file.seek(self._read)
            data = file.read()
        at = 0
        while at + 32 <= len(data):
            sentence, start, length, n_words = np.frombuffer(data, np.int64, 4, at)
            if at + 32 + 4 * n_words > len(data):
                break
            ends = np.frombuffer(data, np.float32, n_words, at + 32)
            self.clips.append(Clip(int(sentence), int(start), int(length), ends))
            at += 32 + 4 * int(n_words)
        self._read += at
        samples = self._path.with_suffix('.i16')
        if samples.stat().st_size:
            self.samples = np.memmap(samples, np.int16, 'r')


class Shards:
    """All shards `<root>/shards/<prefix>*`, also those that are still to come."""

    def __init__(self, root: Path, prefix: str) -> None:
        self._root, self._prefix = root, prefix
        self._readers: dict[Path, ShardReader] = {}

    def refresh(self) -> None:
        """Look for new shards and new clips in old ones."""
        for path in sorted((self._root / 'shards').glob(f'{self._prefix}*.index')):
            self._readers.setdefault(path, ShardReader(path)).refresh()

    @property
    def n_clips(self) -> int:
        return sum(len(reader.clips) for reader in self._readers.values())

    def draw(self) -> tuple[ShardReader, Clip]:
        """Return a random clip and the shard that it is in; there must be one."""
        readers = [reader for reader in self._readers.values() if reader.clips]
        reader = random.choices(readers, [len(reader.clips) for reader in readers])[0]
        return reader, random.choice(reader.clips)


def synthesize_sentences(root: Path, name: str, seed: int, seconds: float,
                         make: Callable[[Any], Synthesizer], voices: Any) -> None:
    """
    Synthesize random sentences, at the same peak level, into the shard `name` for some seconds.

    Sentences for which the synthesizer make(voices) reports another number of words are skipped.
    """
    random.seed(seed)
    synthesize = make(voices).synthesize
    begin = time.time()
    lines = (root / 'sentences.txt').read_text(encoding='utf-8').splitlines()
    writer = ShardWriter(root / 'shards' / name)
    while time.time() - begin < seconds:
        for n in random.sample(range(len(lines)), 20):
            samples, ends = synthesize(lines[n])
            if len(ends) != len(lines[n].split()):  # such as "'s", which flite splits
                continue
            gain = 0.7 * 32767 / (np.abs(samples.astype(np.float32)).max() + 1)
            writer.add(n, (samples * gain).astype(np.int16), ends)
        writer.flush()
    print(f'{name}: {writer.seconds / 3600:.2f} h', flush=True)


def run_processes(work: Callable[..., None], calls: list[tuple[Any, ...]]) -> None:
    """Run work(*arguments) for all `calls`, each in a process of its own, and wait for them."""
    processes = [Process(target=work, args=arguments) for arguments in calls]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def synthesis_parser(description: str, processes: int | None) -> argparse.ArgumentParser:
    """Return a parser with the options of every synthesizer on a CPU."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('--root', type=Path, required=True)
    parser.add_argument('--processes', type=int, default=processes)
    parser.add_argument('--seconds', type=float, required=True)
    return parser


def synthesize_in_processes(arguments: argparse.Namespace, name: str, seed: int,
                            make: Callable[[Any], Synthesizer], voices: Any) -> None:
    """Write the shards `name`0, `name`1, ... in parallel, each with a make(voices) of its own."""
    run_processes(synthesize_sentences, [
        (arguments.root, f'{name}{n}', seed + n, arguments.seconds, make, voices)
        for n in range(arguments.processes)])
