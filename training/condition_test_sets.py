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
Make test sets in the conditions of a robot from clean ones: noise, voices, rooms, clipping.

    python -m training.condition_test_sets --test-sets T --clean people:30 reading:10 orders:20 \
        --babble reading [--noise DIR]

Writes `T/<condition>.tsv` and its recordings for each of CONDITIONS. `--clean` names the sets that
the recordings are of and how many of each, drawn with the seed; the voices behind them are of
`--babble`, of recordings that are not among these. `--noise` is a folder of recordings whose names
begin with `motor` or `fan`; without it both are synthesized. The rooms need the package
pyroomacoustics. The same seed makes the same sets.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple
import zlib

import numpy as np
import soundfile
from tqdm import tqdm
from training import conditions

from voxtral_ros.evaluation.manifest import read_manifest, Recording

_MAX_S = 12.0  # a clean recording that is longer costs too much time in every condition
_N_PLACES = 8  # of mouth and microphone in a room
_SEED = 25


class Sources(NamedTuple):
    """Audio that conditions mix in, float32 at 16 kHz."""

    voices: list[np.ndarray]
    motors: list[np.ndarray]  # empty: synthesized
    fans: list[np.ndarray]


# speech, random numbers, sources -> speech under the condition
Condition = Callable[[np.ndarray, np.random.Generator, Sources], np.ndarray]


def _pink(snr_db: float, speech: np.ndarray, random: np.random.Generator, sources: Sources,
          ) -> np.ndarray:
    return conditions.add_noise(speech, conditions.pink_noise(len(speech), random), snr_db)


def _babble(snr_db: float, speech: np.ndarray, random: np.random.Generator, sources: Sources,
            ) -> np.ndarray:
    noise = conditions.babble(len(speech), sources.voices, random)
    return conditions.add_noise(speech, noise, snr_db)


def _motor(snr_db: float, speech: np.ndarray, random: np.random.Generator, sources: Sources,
           ) -> np.ndarray:
    noise = _excerpt(sources.motors, len(speech), random) if sources.motors \
        else conditions.motor_noise(len(speech), random)
    return conditions.add_noise(speech, noise, snr_db)


def _fan(snr_db: float, speech: np.ndarray, random: np.random.Generator, sources: Sources,
         ) -> np.ndarray:
    noise = _excerpt(sources.fans, len(speech), random) if sources.fans \
        else conditions.fan_noise(len(speech), random)
    return conditions.add_noise(speech, noise, snr_db)


def _excerpt(recordings: list[np.ndarray], n: int, random: np.random.Generator) -> np.ndarray:
    """Return n samples from a random place of a random recording, repeated where it is short."""
    samples = recordings[random.integers(len(recordings))]
    return np.resize(np.roll(samples, -int(random.integers(len(samples)))), n)


def _room(t60_s: float, distance_m: float, ratio_db: float | None, speech: np.ndarray,
          random: np.random.Generator, sources: Sources) -> np.ndarray:
    response = _response(t60_s, distance_m, int(random.integers(_N_PLACES)))
    if ratio_db is not None:
        response = conditions.set_direct_to_reverberant(response, ratio_db)
    return conditions.reverberate(speech, response)


@lru_cache
def _response(t60_s: float, distance_m: float, place: int) -> np.ndarray:
    """Return the impulse response at one of few places: each takes seconds to compute."""
    return conditions.room_response(t60_s, distance_m, np.random.default_rng(place))


def _alone(change: Callable[[np.ndarray], np.ndarray]) -> Condition:
    """Return a condition that takes nothing but the speech."""
    return lambda speech, random, sources: change(speech)


CONDITIONS: dict[str, Condition] = {
    'clean': _alone(lambda speech: speech),
    **{f'pink-{snr}dB': partial(_pink, snr) for snr in (20, 10, 5)},
    **{f'babble-{snr}dB': partial(_babble, snr) for snr in (20, 10, 5)},
    **{f'motor-{snr}dB': partial(_motor, snr) for snr in (10, 5)},
    **{f'fan-{snr}dB': partial(_fan, snr) for snr in (10, 5)},
    **{f'room-{t60:.1f}s-{distance}m': partial(_room, t60, distance, None)
       for t60 in (0.4, 0.7) for distance in (1, 3)},
    'room-0.7s-turned-away': partial(_room, 0.7, 3, -12.0),
    **{f'clipping-{over}dB': _alone(partial(conditions.clip, over_db=over)) for over in (10, 20)},
    'telephone': _alone(conditions.telephone),
    **{f'level{level}dBFS': _alone(partial(conditions.set_speech_level, dbfs=level))
       for level in (-20, -40)},
    **{f'tempo-{tempo}': _alone(partial(conditions.change_tempo, tempo=tempo))
       for tempo in (0.8, 1.3)},
}


def draw(folder: Path, wanted: list[tuple[str, int]], seed: int = _SEED) -> list[Recording]:
    """Return so many recordings of each set, at most 12 s long, from all of its speakers."""
    chosen = []
    for name, count in wanted:
        short = [recording for recording in read_manifest(folder / f'{name}.tsv')
                 if soundfile.info(recording.path).duration <= _MAX_S]
        if len(short) < count:
            raise ValueError(f'{name} has {len(short)} recordings of at most {_MAX_S:.0f} s, '
                             f'{count} are needed: ask for fewer')
        order = np.random.default_rng(seed).permutation(len(short))
        chosen += [short[at] for at in sorted(order[:count])]
    return chosen


def write(folder: Path, recordings: list[Recording], sources: Sources, seed: int = _SEED) -> None:
    """Write all sets: recordings that two sets share have the same name in both."""
    names = [f'{number:02d}_{recording.path.stem}.flac'
             for number, recording in enumerate(recordings)]
    for condition, change in tqdm(CONDITIONS.items(), unit='set'):
        (folder / condition).mkdir(parents=True, exist_ok=True)
        rows = ['file\ttext\tspeaker']
        for name, recording in zip(names, recordings, strict=True):
            random = np.random.default_rng([seed, zlib.crc32(f'{condition}/{name}'.encode())])
            samples = change(recording.samples(), random, sources)
            soundfile.write(folder / condition / name, samples, conditions.RATE_HZ)
            rows.append('\t'.join((f'{condition}/{name}', recording.text,
                                   recording.columns.get('speaker', ''))))
        (folder / f'{condition}.tsv').write_text('\n'.join(rows) + '\n', encoding='utf-8')


def read_noise(folder: Path | None, kind: str) -> list[np.ndarray]:
    """Return the recordings of a folder whose names begin with `kind`, none without a folder."""
    paths = sorted(folder.glob(f'{kind}*')) if folder else []
    return [Recording(path, '', {}).samples() for path in paths]


def main() -> None:
    """Make the sets."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('--test-sets', type=Path, required=True, help='folder with the manifests')
    parser.add_argument('--clean', nargs='+', required=True, metavar='SET:COUNT')
    parser.add_argument('--babble', required=True, metavar='SET', help='voices in the background')
    parser.add_argument('--noise', type=Path, help='folder of motors and fans [synthesized]')
    arguments = parser.parse_args()
    wanted = [(name, int(count)) for name, _, count in
              (item.partition(':') for item in arguments.clean)]
    recordings = draw(arguments.test_sets, wanted)
    used = {recording.path for recording in recordings}
    voices = [recording.samples()
              for recording in read_manifest(arguments.test_sets / f'{arguments.babble}.tsv')
              if recording.path not in used]
    write(arguments.test_sets, recordings,
          Sources(voices, *(read_noise(arguments.noise, kind) for kind in ('motor', 'fan'))))


if __name__ == '__main__':
    main()
