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
The noise test set: an hour without speech, for counting false words.

    python -m training.noise_test_set --out build/test-sets --real DIR

Writes noise.tsv, with empty texts, and its recordings: generated noise, music and silence, and
real recordings. `--real` is a folder with a subfolder for each kind of recording, such as music
(Debian: asterisk-moh-opsound-wav), keyboard (bucklespring-data) and alarms
(sound-theme-freedesktop, without its audio-channel-* files, which are speech). No kind may have
voices in it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import soxr

_RATE_HZ = 16000
_Random = np.random.Generator


def silence(n: int, random: _Random) -> np.ndarray:
    """Return digital zeros."""
    return np.zeros(n)


def quiet_room(n: int, random: _Random) -> np.ndarray:
    """Return the noise of a good microphone in a quiet room, -65 dBFS."""
    return set_level(coloured(n, 1.0, random), -65)


def white(n: int, random: _Random) -> np.ndarray:
    """Return white noise at levels from -50 to -15 dBFS, 10 s each."""
    return _steps(random.standard_normal(n), -50, -15, random)


def pink(n: int, random: _Random) -> np.ndarray:
    """Return pink noise at levels from -50 to -15 dBFS, 10 s each."""
    return _steps(coloured(n, 1.0, random), -50, -15, random)


def wind(n: int, random: _Random) -> np.ndarray:
    """Return gusts: brown noise that swells within seconds."""
    return set_level(coloured(n, 2.0, random) * np.exp(1.2 * _slow(n, 0.5, random)), -28)


def motors(n: int, random: _Random) -> np.ndarray:
    """Return robot joints that start and stop: harmonics of a gliding pitch, hum and hiss."""
    pitch = 180 * np.exp(0.6 * _slow(n, 0.7, random))  # Hz
    phase = 2 * np.pi * np.cumsum(pitch) / _RATE_HZ
    whine = sum(np.sin(k * phase + random.uniform(0, 6)) / k for k in range(1, 12))
    running = np.clip(3 * _slow(n, 0.4, random), 0, 1)
    hum = np.sin(2 * np.pi * 50 * np.arange(n) / _RATE_HZ) ** 3
    return set_level(running * (whine + 0.5 * random.standard_normal(n)) + 0.1 * hum, -26)


def knocks(n: int, random: _Random) -> np.ndarray:
    """Return footsteps, knocks and dishes: decaying resonances at random times."""
    return set_level(scattered(
        n, lambda: _impact(random, random.uniform(0.02, 0.4), 5, 120, 5000), 0.5, random), -28)


def instruments(n: int, random: _Random) -> np.ndarray:
    """Return synthetic music: chords, a melody and drums, another tempo every 20 s."""
    scale = 220 * 2 ** (np.array([0, 2, 4, 5, 7, 9, 11, 12]) / 12)  # Hz
    audio = np.zeros(n + 4 * _RATE_HZ)
    at, beat = 0, 8000
    while at < n:
        if at // (20 * _RATE_HZ) != (at - beat) // (20 * _RATE_HZ):
            beat = int(random.uniform(0.2, 0.6) * _RATE_HZ)
        notes = [random.choice(scale) * random.choice((1, 2))]
        if random.random() < 0.3:
            root = random.integers(0, 4)
            notes += [scale[root] / 2, scale[root + 2] / 2, scale[root + 4] / 2]
        for pitch in notes:
            note = _plucked(pitch, random.uniform(0.3, 2.0), random)
            audio[at:at + len(note)] += note
        if random.random() < 0.7:
            drum = _impact(random, 0.15, 3, 60, 300) + 0.2 * _impact(random, 0.15, 8, 2000, 7000)
            audio[at:at + len(drum)] += drum
        at += beat
    return set_level(audio[:n], -22)


SYNTHETIC: tuple[Callable[[int, _Random], np.ndarray], ...] = (
    silence, quiet_room, white, pink, wind, motors, knocks, instruments)


def real(folder: Path, n: int, random: _Random) -> np.ndarray:
    """Return the recordings of a folder: long ones concatenated, short ones scattered."""
    recordings = []
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        samples, rate = soundfile.read(path, dtype='float32', always_2d=True)
        recordings.append(set_level(soxr.resample(samples.mean(1), rate, _RATE_HZ), -20))
    long = [audio for audio in recordings if len(audio) > 30 * _RATE_HZ]
    if long:
        part = -(-n // len(long))
        return np.concatenate([np.resize(audio, part) for audio in long])[:n]
    pause_s = 0.15 if max(map(len, recordings)) < _RATE_HZ else 1.5
    return scattered(n, lambda: recordings[random.integers(len(recordings))], pause_s, random)


def coloured(n: int, slope: float, random: _Random) -> np.ndarray:
    """Return noise whose power falls with frequency to the power of `slope`."""
    spectrum = np.fft.rfft(random.standard_normal(n))
    frequency = np.maximum(np.fft.rfftfreq(n, 1 / _RATE_HZ), 20)
    return np.fft.irfft(spectrum * frequency ** (-slope / 2), n)


def _slow(n: int, seconds: float, random: _Random) -> np.ndarray:
    """Return a smooth random curve of unit variance that changes within some seconds."""
    knots = random.standard_normal(int(n / _RATE_HZ / seconds) + 2)
    return np.interp(np.arange(n) / _RATE_HZ / seconds, np.arange(len(knots)), knots)


def scattered(n: int, audio: Callable[[], np.ndarray], pause_s: float, random: _Random,
              ) -> np.ndarray:
    """Return noises with exponentially distributed pauses, over the noise floor of a room."""
    out = set_level(coloured(n, 1.0, random), -60)
    at = 0
    while at < n:
        part = audio()[:n - at]
        out[at:at + len(part)] += part * 10 ** (random.uniform(-20, 0) / 20)
        at += len(part) + int(random.exponential(pause_s) * _RATE_HZ)
    return out


def _impact(random: _Random, decay_s: float, n_modes: int, low_hz: float, high_hz: float,
            ) -> np.ndarray:
    """Return an impact noise: decaying resonances."""
    t = np.arange(int(5 * decay_s * _RATE_HZ)) / _RATE_HZ
    modes = np.exp(random.uniform(np.log(low_hz), np.log(high_hz), n_modes))
    return sum(np.exp(-t / decay_s / random.uniform(0.5, 2)) * np.sin(2 * np.pi * mode * t)
               for mode in modes) / n_modes


def _plucked(pitch_hz: float, decay_s: float, random: _Random) -> np.ndarray:
    t = np.arange(int(min(4.0, 3 * decay_s) * _RATE_HZ)) / _RATE_HZ
    bright = random.uniform(0.8, 2)
    n_partials = min(12, int(7500 / pitch_hz))
    return sum(np.exp(-t * k / decay_s) * np.sin(2 * np.pi * k * pitch_hz * t) / k ** bright
               for k in range(1, n_partials + 1))


def set_level(audio: np.ndarray, dbfs: float) -> np.ndarray:
    """Return the audio at this RMS level, clipped to -1..1."""
    scaled = audio * (10 ** (dbfs / 20) / np.sqrt(np.mean(np.square(audio)) + 1e-20))
    return np.clip(scaled, -1, 1)


def _steps(audio: np.ndarray, low_dbfs: float, high_dbfs: float, random: _Random) -> np.ndarray:
    parts = [set_level(audio[at:at + 10 * _RATE_HZ], random.uniform(low_dbfs, high_dbfs))
             for at in range(0, len(audio), 10 * _RATE_HZ)]
    return np.concatenate(parts)


def main() -> None:
    """Write the test set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--real', type=Path,
                        help='folder with a subfolder for each kind of real noise')
    parser.add_argument('--seconds', type=int, default=3600, help='length of the whole set [3600]')
    arguments = parser.parse_args()
    folder = arguments.out / 'noise'
    folder.mkdir(parents=True, exist_ok=True)
    kinds: dict[str, Callable[[int, _Random], np.ndarray]] = {
        generate.__name__: generate for generate in SYNTHETIC}
    if arguments.real:
        for path in sorted(path for path in arguments.real.iterdir() if path.is_dir()):
            kinds[f'real_{path.name}'] = partial(real, path)
    n = arguments.seconds * _RATE_HZ // len(kinds)
    rows = ['file\ttext\tspeaker\tends']
    for number, (name, generate) in enumerate(kinds.items()):
        samples = generate(n, np.random.default_rng(number))
        soundfile.write(folder / f'{name}.flac', samples, _RATE_HZ)
        rows.append(f'noise/{name}.flac\t\t{name}\t')
    (arguments.out / 'noise.tsv').write_text('\n'.join(rows) + '\n', encoding='utf-8')
    print(f'{len(kinds)} kinds of {n / _RATE_HZ:.0f} s each')


if __name__ == '__main__':
    main()
