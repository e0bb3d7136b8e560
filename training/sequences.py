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
Training sequences: utterances, pauses and silence on one time line, and the target tokens.

A sequence is N tokens of 80 ms, laid out as in the streaming protocol: 32 tokens of left pad, then
audio. For a word that ends at e seconds, token k = round(e / 80 ms) is [STREAMING_WORD], and its
pieces follow from k + 1 on, one a token. If the next word ends while pieces are still being
written, its pieces follow in the same group. Each sequence has a random delay, so that one model
serves all delays.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import random
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import get_worker_info, IterableDataset
from training.sound_effects import SoundEffects
from training.utterances import RATE_HZ, Source, tail
from training.vocabulary import load_pieces, WordEncoder

BOS, PAD, WORD = 1, 32, 33
UNKNOWN = -100  # target of speech without a transcript: no loss
LEFT_PAD = 32
TOKEN_S = 0.08
TOKEN_SAMPLES = 1280
MIN_SPEED, MAX_SPEED = 0.84, 1.2
DELAYS = (*range(1, 16), 30)
_REFRESH = 400  # sequences between refreshes of the shards
_NO_SPEECH = 0.1  # fraction of sequences without speech
_SOUND_EFFECTS = 0.7, 0.2  # fraction with sound effects, without and with speech
_BACKGROUND = 0.4, 0.25  # the same with a recording in the background
_NO_LEADING_PAUSE = 0.15  # fraction that starts with speech, half of them within an utterance
_MAX_MISFITS = 20  # utterances that do not fit before a sequence is left as it is


class Sequence(NamedTuple):
    """One training sequence."""

    samples: np.ndarray  # int16 [n_audio_tokens * 1280], without the left pad
    tokens: np.ndarray  # int64 [N + 1]
    delay: int


def write_tokens(words: list[tuple[list[int], float]], n_generated: int) -> np.ndarray:
    """
    Return the target tokens after the prompt.

    :param words: token ids and end in seconds of each word, in order
    """
    tokens = np.full(n_generated, PAD, np.int64)
    at = 0
    for ids, end_s in words:
        word_at = round(end_s / TOKEN_S)
        if word_at >= at:
            at = word_at
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
                 seed: int = 0, untranscribed: tuple[str, float] = ('', 0.0)) -> None:
        """
        Take sources: (shard prefix, sentences file, spliced fraction) -> sampling weight.

        Sources without a sentences file are left out.

        :param n_tokens: length of a sequence, the left pad included
        :param untranscribed: prefix of shards of speech without transcripts, and the fraction of
            the sequences that are made of it, with UNKNOWN for their tokens
        :raises ValueError: no room for left pad and delay
        """
        if n_tokens <= LEFT_PAD + max(DELAYS):
            raise ValueError(f'sequences of {n_tokens} tokens: take more than '
                             f'{LEFT_PAD + max(DELAYS)}, for left pad and the longest delay')
        self.root, self.sources, self.n_tokens, self.seed = root, sources, n_tokens, seed
        self.untranscribed = untranscribed

    def __iter__(self) -> Iterator[Sequence]:
        info = get_worker_info()
        seed = self.seed * 1000 + (info.id if info else 0)
        random.seed(seed)
        np.random.seed(seed)
        encode = WordEncoder(load_pieces(self.root / 'tekken.json'))
        sources = {Source(self.root, *key): weight for key, weight in self.sources.items()
                   if (self.root / key[1]).exists()}
        prefix, fraction = self.untranscribed
        untranscribed = Source(self.root, prefix, f'{prefix}.txt') \
            if fraction and (self.root / f'{prefix}.txt').exists() else None
        sound_effects = SoundEffects(self.root)
        count = 0
        while True:
            if count % _REFRESH == 0:
                sound_effects.shards.refresh()
                for source in (*sources, *filter(None, (untranscribed,))):
                    source.shards.refresh()
            count += 1
            if untranscribed and untranscribed.shards.n_clips and random.random() < fraction:
                sequence = self._compose({untranscribed: 1.0}, encode, sound_effects)
                sequence.tokens[1 + LEFT_PAD + sequence.delay:] = UNKNOWN
                yield sequence
                continue
            ready = {source: weight for source, weight in sources.items() if source.shards.n_clips}
            yield self._compose(ready, encode, sound_effects)

    def _compose(self, sources: dict[Source, float], encode: WordEncoder,
                 sound_effects: SoundEffects) -> Sequence:
        samples = np.zeros((self.n_tokens - LEFT_PAD) * TOKEN_SAMPLES, np.float32)
        limit = len(samples)
        delay = 6 if random.random() < 0.4 else random.choice(DELAYS)
        words: list[tuple[list[int], float]] = []
        at = int(random.uniform(0.0, 1.2) * RATE_HZ)
        if random.random() < _NO_SPEECH:
            at = limit
        elif random.random() < _NO_LEADING_PAUSE:
            at = 0
        misfits = 0
        while sources and at < limit - RATE_HZ:
            source = random.choices(list(sources), list(sources.values()))[0]
            utterance = source.draw(MIN_SPEED, MAX_SPEED)
            if at == 0 and utterance.words and random.random() < 0.5:
                utterance = tail(utterance, random.uniform(0.0, 0.8 * float(utterance.ends[-1])))
            stop = at + len(utterance.samples)
            if stop > limit:
                misfits += 1
                if at > limit / 2 or misfits == _MAX_MISFITS:
                    break
                continue
            samples[at:stop] = utterance.samples * 10 ** (random.uniform(-9, 3) / 20)
            words += [(encode(word), at / RATE_HZ + float(end))
                      for word, end in zip(utterance.words, utterance.ends, strict=True)]
            pause_s = random.uniform(0, 0.6) if random.random() < 0.7 else random.uniform(0, 4)
            at = stop + int(pause_s * RATE_HZ)
        if random.random() < _SOUND_EFFECTS[bool(words)]:
            sound_effects.scatter(samples)
        if random.random() < _BACKGROUND[bool(words)]:
            background = sound_effects.background(limit)
            samples += 0 if background is None else background
        tokens = lay_out(words, delay, self.n_tokens)
        return Sequence(np.clip(samples, -32768, 32767).astype(np.int16), tokens, delay)


def collate(sequences: list[Sequence]) -> tuple[torch.Tensor, ...]:
    """Return samples [B, n], tokens [B, N + 1] and delays [B]."""
    return (
        torch.from_numpy(np.stack([sequence.samples for sequence in sequences])),
        torch.from_numpy(np.stack([sequence.tokens for sequence in sequences])),
        torch.tensor([sequence.delay for sequence in sequences]))
