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
Training sequences: utterances, pauses and silence on one time line, and the tokens to write.

A sequence is N tokens of 80 ms as the streaming protocol lays them out: 32 tokens of left pad,
then sound. A word that ends at e seconds is announced by the token k = round(e / 80 ms) and
written from k + 1 on, one token after the other; while a word is still being written, the next one
follows in the same group. Delays are drawn for each sequence, so one model serves all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import random
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import get_worker_info, IterableDataset
from training.sound_effects import Sounds
from training.utterances import RATE_HZ, Source, tail
from training.vocabulary import load_pieces, WordEncoder

BOS, PAD, WORD = 1, 32, 33
LEFT_PAD = 32
TOKEN_S = 0.08
TOKEN_SAMPLES = 1280
SLOWEST, FASTEST = 0.84, 1.2
DELAYS = (*range(1, 16), 30)
_REFRESH = 400  # sequences between looks for new shards
_NOBODY = 0.1  # share of sequences without speech
_SOUNDS = 0.7, 0.2  # share of these, and of the others, in which something knocks or beeps
_AT_ONCE = 0.15  # share that begins with speech, half of them in the middle of it
_MISFITS = 20  # utterances that may be too long before a sequence stays as it is


class Sequence(NamedTuple):
    """One training sequence."""

    samples: np.ndarray  # int16 [n_heard * 1280], without the left pad
    tokens: np.ndarray  # int64 [N + 1]
    delay: int


def write_tokens(words: list[tuple[list[int], float]], n_generated: int) -> np.ndarray:
    """
    Return the generated tokens of a time line.

    :param words: token ids and end in seconds of each word, in order
    """
    tokens = np.full(n_generated, PAD, np.int64)
    at = 0
    for ids, end_s in words:
        announced = round(end_s / TOKEN_S)
        if announced >= at:
            at = announced
            tokens[at:at + 1] = WORD
            at += 1
        tokens[at:at + len(ids)] = ids[:max(0, n_generated - at)]
        at += len(ids)
    return tokens


def lay_out(words: list[tuple[list[int], float]], delay: int, n_tokens: int) -> np.ndarray:
    """Return prompt and generated tokens, int64 [n_tokens + 1]."""
    prompt = [BOS] + [PAD] * (LEFT_PAD + delay)
    return np.concatenate(
        (np.array(prompt, np.int64), write_tokens(words, n_tokens + 1 - len(prompt))))


class Sequences(IterableDataset):  # type: ignore[type-arg]
    """Endless random sequences from weighted sources."""

    def __init__(self, root: Path, sources: dict[tuple[str, str, float], float], n_tokens: int,
                 seed: int = 0) -> None:
        """
        Take sources: (shard prefix, sentences file, spliced share) -> weight per utterance.

        :param n_tokens: length of a sequence, the left pad included
        :raises ValueError: no room for left pad and delay
        """
        if n_tokens <= LEFT_PAD + max(DELAYS):
            raise ValueError(f'sequences of {n_tokens} tokens: take more than '
                             f'{LEFT_PAD + max(DELAYS)}, for left pad and the longest delay')
        self.root, self.sources, self.n_tokens, self.seed = root, sources, n_tokens, seed

    def __iter__(self) -> Iterator[Sequence]:
        info = get_worker_info()
        seed = self.seed * 1000 + (info.id if info else 0)
        random.seed(seed)
        np.random.seed(seed)
        encode = WordEncoder(load_pieces(self.root / 'tekken.json'))
        sources = {Source(self.root, *key): weight for key, weight in self.sources.items()}
        sounds = Sounds(self.root)
        count = 0
        while True:
            if count % _REFRESH == 0:
                sounds.shards.refresh()
                for source in sources:
                    source.shards.refresh()
            count += 1
            ready = {source: weight for source, weight in sources.items() if source.shards.n_clips}
            yield self._compose(ready, encode, sounds)

    def _compose(self, sources: dict[Source, float], encode: WordEncoder,
                 sounds: Sounds) -> Sequence:
        samples = np.zeros((self.n_tokens - LEFT_PAD) * TOKEN_SAMPLES, np.float32)
        limit = len(samples)
        delay = 6 if random.random() < 0.4 else random.choice(DELAYS)
        words: list[tuple[list[int], float]] = []
        at = int(random.uniform(0.0, 1.2) * RATE_HZ)
        if random.random() < _NOBODY:
            at = limit
        elif random.random() < _AT_ONCE:
            at = 0
        misfits = 0
        while sources and at < limit - RATE_HZ:
            source = random.choices(list(sources), list(sources.values()))[0]
            speech = source.draw(SLOWEST, FASTEST)
            if at == 0 and random.random() < 0.5:
                speech = tail(speech, random.uniform(0.0, 0.8 * float(speech.ends[-1])))
            stop = at + len(speech.samples)
            if stop > limit:
                misfits += 1
                if at > limit / 2 or misfits == _MISFITS:
                    break
                continue
            samples[at:stop] = speech.samples * 10 ** (random.uniform(-9, 3) / 20)
            words += [(encode(word), at / RATE_HZ + float(end))
                      for word, end in zip(speech.words, speech.ends, strict=True)]
            pause_s = random.uniform(0, 0.6) if random.random() < 0.7 else random.uniform(0, 4)
            at = stop + int(pause_s * RATE_HZ)
        if random.random() < _SOUNDS[bool(words)]:
            sounds.scatter(samples)
        tokens = lay_out(words, delay, self.n_tokens)
        return Sequence(np.clip(samples, -32768, 32767).astype(np.int16), tokens, delay)


def collate(sequences: list[Sequence]) -> tuple[torch.Tensor, ...]:
    """Return samples [B, n], tokens [B, N + 1] and delays [B]."""
    return (
        torch.from_numpy(np.stack([sequence.samples for sequence in sequences])),
        torch.from_numpy(np.stack([sequence.tokens for sequence in sequences])),
        torch.tensor([sequence.delay for sequence in sequences]))
