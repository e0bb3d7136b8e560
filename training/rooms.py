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
Room impulse responses of simulated rooms, for data augmentation.

    python -m training.rooms --out W --count 3000 --processes 16

Rooms are shoeboxes with one person and one microphone, by image sources and ray tracing
(pyroomacoustics, MIT). Writes `rooms.npy`, float16 [count, 12800]: impulse responses of 0.8 s of
unit energy that begin with the direct sound, so that convolving with one shifts no word in time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from training.conditions import direct_to_reverberant_db
from training.processes import map_in_processes

RATE_HZ = 16000
LENGTH = 12800  # samples of an impulse response
_BEFORE = 8  # samples kept before the direct sound, in which its interpolation filter rises
DIRECT_END = _BEFORE + 40  # sample at which the direct sound has ended
_FADE = 800  # samples at the end
_N_RAYS = 2000
_IMAGE_ORDER = 4  # reflections that are exact; rays make the later ones
_T60_S = (0.15, 1.1)
_DISTANCE_M = (0.4, 6.0)
_MARGIN_M = 0.25  # between walls and persons or microphones


def place(size: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return where a person and a microphone are in a room, in metres, log-uniformly distant."""
    low, high = np.log(_DISTANCE_M)
    while True:
        microphone = random.uniform(_MARGIN_M, size - _MARGIN_M)
        direction = random.normal(size=3) * (1, 1, 0.3)  # rarely above each other
        distance = np.exp(random.uniform(low, high))
        person = microphone + direction / np.linalg.norm(direction) * distance
        if np.all(person > _MARGIN_M) and np.all(person < size - _MARGIN_M):
            return person, microphone


def impulse_response(seed: int) -> np.ndarray:
    """Return the impulse response of a random room, float32 [12800]."""
    import pyroomacoustics
    random = np.random.default_rng(seed)
    pyroomacoustics.random.seed(seed)  # of the rays
    size = random.uniform((2.5, 2.5, 2.3), (9.0, 8.0, 4.0))
    person, microphone = place(size, random)
    try:
        absorption, _ = pyroomacoustics.inverse_sabine(random.uniform(*_T60_S), size)
    except ValueError:  # a large room cannot be so dry
        absorption = 0.9
    room = pyroomacoustics.ShoeBox(
        size, fs=RATE_HZ, materials=pyroomacoustics.Material(absorption, scattering=0.1),
        max_order=_IMAGE_ORDER, ray_tracing=True, air_absorption=True)
    room.set_ray_tracing(n_rays=_N_RAYS)
    room.add_source(person)
    room.add_microphone(microphone)
    room.compute_rir()
    response = np.asarray(room.rir[0][0], np.float32)
    filter_delay = pyroomacoustics.constants.get('frac_delay_length') // 2
    travel = np.linalg.norm(person - microphone) / pyroomacoustics.constants.get('c') * RATE_HZ
    start = round(travel) + filter_delay - _BEFORE
    response = np.pad(response[start:start + LENGTH], (0, max(0, LENGTH - len(response) + start)))
    response[-_FADE:] *= np.linspace(1, 0, _FADE, dtype=np.float32)
    return np.asarray(response / np.linalg.norm(response))


def main(command_line: list[str] | None = None) -> None:
    """Write the impulse responses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--count', type=int, default=2000)
    parser.add_argument('--processes', type=int, default=16)
    parser.add_argument('--seed', type=int, default=0)
    arguments = parser.parse_args(command_line)
    seeds = range(arguments.seed, arguments.seed + arguments.count)
    responses = np.stack([*map_in_processes(
        impulse_response, seeds, arguments.processes, 8)]).astype(np.float16)
    unfinished = arguments.out / 'rooms.unfinished.npy'
    np.save(unfinished, responses)
    unfinished.replace(arguments.out / 'rooms.npy')
    drr = np.percentile([direct_to_reverberant_db(response, DIRECT_END) for response in responses],
                        (5, 50, 95))
    print(f'{len(responses)} rooms, direct to reverberant sound {drr.round(1)} dB '
          '(5, 50, 95 % of them)')


if __name__ == '__main__':
    main()
