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
Word error rate of a checkpoint on the evaluation sets, through the streaming engine.

    python -m training.evaluate --root W --model DIR
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
from training.synthesis.shards import ShardReader
from training.utterances import RATE_HZ

from voxtral_ros.evaluation.word_error_rate import word_errors
from voxtral_ros.recognizer.engine import Engine

_SLOTS = 64


class Recording(NamedTuple):
    """A recording and its reference transcript."""

    samples: np.ndarray  # int16 at 16 kHz
    text: str


def load_sets(root: Path) -> dict[str, list[Recording]]:
    """Return the evaluation sets: shards `eval_<name>` with references in `eval_<name>.txt`."""
    sets = {}
    for path in sorted((root / 'shards').glob('eval_*.index')):
        texts = (root / f'{path.stem}.txt').read_text(encoding='utf-8').splitlines()
        reader = ShardReader(path)
        reader.refresh()
        sets[path.stem.removeprefix('eval_')] = [
            Recording(np.array(reader.samples[clip.start:clip.start + clip.length]),
                      texts[clip.sentence]) for clip in reader.clips]
    return sets


def transcribe(engine: Engine, recordings: list[Recording], delay_ms: float | None = None,
               ) -> list[str]:
    """Return transcripts, streamed in parallel slots, without voice activity detection."""
    protocol, tokenizer = engine.protocol, engine.tokenizer
    delay = protocol.delay_tokens(delay_ms)
    texts = [''] * len(recordings)
    # Longest first, so that no batch waits for one recording much longer than the others.
    order = sorted(range(len(recordings)), key=lambda n: -len(recordings[n].samples))
    for at in range(0, len(order), _SLOTS):
        chosen = order[at:at + _SLOTS]
        slots = [engine.take_slot(delay) for _ in chosen]
        for slot, n in zip(slots, chosen, strict=True):
            slot.feed(recordings[n].samples.astype(np.float32) / 32768)
            slot.feed(np.zeros(protocol.right_pad(slot.n_samples, delay), np.float32))
        while engine.step():
            continue
        for slot, n in zip(slots, chosen, strict=True):
            texts[n] = tokenizer.decode([token.id for token in slot.tokens]).strip()
            engine.release(slot)
    return texts


def evaluate(folder: Path, sets: dict[str, list[Recording]], device: str,
             examples: int = 0) -> dict[str, float]:
    """Return the word error rate on each set; for sets without speech, words per hour."""
    engine = Engine.load(folder, device, 'float32', max_streams=_SLOTS)
    rates = {}
    for name, recordings in sets.items():
        texts = transcribe(engine, recordings)
        errors = sum(word_errors(recording.text.split(), text.split())
                     for recording, text in zip(recordings, texts, strict=True))
        n_words = sum(len(recording.text.split()) for recording in recordings)
        hours = sum(len(recording.samples) for recording in recordings) / RATE_HZ / 3600
        rates[name] = round(errors / (n_words or hours or 1), 4)
        for recording, text in list(zip(recordings, texts, strict=True))[:examples]:
            print(f'  {name} | {recording.text} | {text}', flush=True)
    return rates


def main() -> None:
    """Print the rates that training.train prints at each evaluation, with a few transcripts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--root', type=Path, required=True,
                        help='working folder: shards/eval_* and eval_*.txt')
    parser.add_argument('--model', type=Path, required=True)
    parser.add_argument('--device', default='cpu')
    arguments = parser.parse_args()
    print(evaluate(arguments.model, load_sets(arguments.root), arguments.device, examples=3))


if __name__ == '__main__':
    main()
