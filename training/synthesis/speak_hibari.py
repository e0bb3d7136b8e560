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
Synthesize sentences with hibari-tts, each in a random pseudo-speaker, until the time is up.

    python -m training.synthesis.speak_hibari --root build/training --processes 16 --seconds 400

hibari has one voice, but its network predicts pitch and spectral envelopes for a vocoder. Warping
these makes pseudo-speakers of any vocal tract length, pitch, intonation, spectral tilt and
breathiness.
"""

from __future__ import annotations

import os
from pathlib import Path
import random
import sys
import time
from typing import Any

import numpy as np
from training.synthesis.shards import run_processes, ShardWriter, synthesis_parser

_DURATIONS = '/Clip_output_0'  # per phoneme, in frames of 25 ms
_FRAME_S = 0.025
_BINS = 601  # of the spectral envelopes, 0 to 12 kHz
_KHZ = np.linspace(0, 12, _BINS)


def _with_durations(path: Path) -> bytes:
    """Return the ONNX model with the phoneme durations as one more output."""
    import onnx
    model = onnx.load(str(path))
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(_DURATIONS))
    return bytes(model.SerializeToString())


def _warp(envelope: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Resample an envelope in frequency: a longer or shorter vocal tract."""
    low = index.astype(int)
    part = (index - low)[:, None].astype(np.float32)
    return envelope[low] * (1 - part) + envelope[low + 1] * part


class Morpher:
    """A synthesizer of random pseudo-speakers."""

    def __init__(self, sources: Path, seed: int) -> None:
        sys.path.insert(0, str(sources))
        from hibari import dsp, Hibari
        import onnxruntime
        self._dsp: Any = dsp
        self._hibari = Hibari(threads=1)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            _with_durations(sources / 'hibari' / 'assets' / 'hibari.onnx'), options,
            providers=['CPUExecutionProvider'])
        self._names = [output.name for output in self._session.get_outputs()]
        self._rng = np.random.default_rng(seed)

    def synthesize(self, phonemes: str) -> tuple[np.ndarray, list[float]]:
        """Return audio, float32 at 24 kHz, and its word ends in seconds."""
        rng = self._rng
        ids = self._hibari.ids(phonemes)
        speed = np.exp(rng.uniform(np.log(0.75), np.log(1.4)))
        outputs = dict(zip(self._names, self._session.run(None, {
            'ids': np.asarray([ids], np.int64), 'speed': np.asarray([speed], np.float32)}),
            strict=True))
        envelopes = [outputs[name][0] for name in self._names[:5]]
        pitch = outputs[self._names[5]][0].copy()
        audio = self._vocode(envelopes, pitch)
        ends = np.cumsum(outputs[_DURATIONS].reshape(-1)) * _FRAME_S
        scale = len(audio) / self._hibari.sample_rate / ends[-1]
        kept = [c for c in phonemes if c in self._hibari.vocab]
        last = len(kept) - 1
        return audio, [float(ends[n + (c != ' ')] * scale) for n, c in enumerate(kept)
                       if c == ' ' or n == last]

    def _vocode(self, envelopes: list[np.ndarray], pitch: np.ndarray) -> np.ndarray:
        rng = self._rng
        voiced = pitch > 40
        if voiced.any():
            log = np.log(pitch[voiced])
            intonation = rng.uniform(0.3, 1.7)
            shift = rng.uniform(-0.85, 0.3)
            pitch[voiced] = np.clip(
                np.exp(log.mean() + shift + (log - log.mean()) * intonation), 55, 520)
        tract = np.exp(rng.uniform(np.log(0.84), np.log(1.2)))
        index = np.clip(np.arange(_BINS) / tract, 0, _BINS - 1.001)
        harmonic, theta, noise, rest, phase = (_warp(part, index) for part in envelopes)
        tilt = rng.uniform(-6, 6) / 8.686 * (np.minimum(_KHZ, 8) / 4 - 0.5)
        tilt += np.interp(_KHZ, [0, 0.5, 1.5, 3, 5, 8], rng.normal(0, 0.25, 6))
        gain = tilt[:, None].astype(np.float32)
        breath = np.float32(rng.uniform(-1.0, 1.4))
        return self._dsp.synth(harmonic + gain, theta, noise + gain + breath, rest + gain, phase,
                               pitch, rng)


def work(root: Path, sources: Path, number: int, seconds: float) -> None:
    """Run one process: write the shard hibari<number>."""
    from scipy.signal import resample_poly
    begin = time.time()
    random.seed(number)
    morpher = Morpher(sources, number)
    lines = (root / 'sentences.phonemes.txt').read_text(encoding='utf-8').splitlines()
    writer = ShardWriter(root / 'shards' / f'hibari{number}')
    while time.time() - begin < seconds:
        for n in random.sample(range(len(lines)), 20):
            if not 0 < len(lines[n]) < 250:
                continue
            audio, ends = morpher.synthesize(lines[n])
            audio = resample_poly(audio, 2, 3)
            audio = audio / (np.abs(audio).max() + 1e-4) * 0.7
            writer.add(n, (audio * 32767).astype(np.int16), ends)
        writer.flush()
    print(f'hibari{number}: {writer.seconds / 3600:.2f} h', flush=True)


def main() -> None:
    """Start the processes and wait for them."""
    parser = synthesis_parser(__doc__.splitlines()[1], os.cpu_count())
    parser.add_argument('--sources', type=Path, required=True, help='folder with hibari/')
    arguments = parser.parse_args()
    os.environ['OMP_NUM_THREADS'] = '1'
    run_processes(work, [(arguments.root, arguments.sources, n, arguments.seconds)
                         for n in range(arguments.processes)])


if __name__ == '__main__':
    main()
