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
Scenes in which somebody interrupts a robot, simulated: a room, a loudspeaker, a microphone.

The rooms are boxes with walls of one material, by the image source method of pyroomacoustics. The
loudspeaker is near the microphone, the person further off. How loud the robot is beside the
person is set at the microphone, by the power of the parts in which each of them speaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np
import pyroomacoustics
from scipy.signal import fftconvolve

from voxtral_ros.audio.block import Samples
from voxtral_ros.evaluation.manifest import Recording

RATE = 16000
FRAME = 160  # samples, of the level
ACTIVE_DB = 30.0  # under the loudest frame
PERSON_DBFS = -30.0  # at the microphone, while they speak
NOISE_DBFS = -70.0  # of the microphone itself
ROBOT_FIRST_S = 3.0  # before the person begins
ROBOT_LAST_S = 1.0  # after they have ended
BEFORE_S, AFTER_S = 0.5, 2.0  # of silence around the robot's speech
EARLIER_S = 10.0  # for which it has spoken before, in which a canceller gets to know the room
WALLS_M = 0.5  # that everything keeps away from them
FITS = 12  # steps towards the reverberation time


@dataclass(frozen=True)
class Room:
    """How the robot stands in its room."""

    t60_s: float  # reverberation time: until a sound has decayed by 60 dB
    loudspeaker_m: float  # from the microphone
    person_m: float
    seed: int = 0  # of its size, and of the places in it

    def impulse_responses(self) -> tuple[Samples, Samples]:
        """Return those from the loudspeaker and from the person to the microphone, float32."""
        random = np.random.default_rng(self.seed)
        size = random.uniform((4.0, 3.5, 2.4), (6.0, 5.0, 2.9))
        microphone, loudspeaker, person = self._places(random, size)
        t60_s = self.t60_s
        for _ in range(FITS):
            responses = _impulse_responses(t60_s, size, microphone, (loudspeaker, person))
            measured_s = decay_s(responses[1])
            if abs(measured_s / self.t60_s - 1) < 0.08:
                break
            t60_s *= (self.t60_s / measured_s) ** 0.7
        return responses[0], responses[1]

    def _places(self, random: np.random.Generator, size: np.ndarray) -> list[np.ndarray]:
        """Return where the microphone, the loudspeaker and the mouth of the person are."""
        while True:
            microphone = random.uniform((WALLS_M, WALLS_M, 0.6),
                                        (size[0] - WALLS_M, size[1] - WALLS_M, 1.2))
            places = [microphone]
            for distance, height in (self.loudspeaker_m, 0.0), (self.person_m, 0.4):
                angle = random.uniform(0, 2 * math.pi)
                flat = math.sqrt(distance ** 2 - height ** 2)
                places.append(microphone + (flat * math.cos(angle), flat * math.sin(angle),
                                            height))
            if all(np.all(place > WALLS_M / 2) and np.all(place < size - WALLS_M / 2)
                   for place in places):
                return places


def _impulse_responses(t60_s: float, size: np.ndarray, microphone: np.ndarray,
                       sources: Sequence[np.ndarray]) -> list[Samples]:
    absorption, n_reflections = pyroomacoustics.inverse_sabine(t60_s, size)
    room = pyroomacoustics.ShoeBox(size, fs=RATE, materials=pyroomacoustics.Material(absorption),
                                   max_order=n_reflections)
    for source in sources:
        room.add_source(source)
    room.add_microphone(microphone)
    room.compute_rir()
    return [np.asarray(response, np.float32) for response in room.rir[0]]


def decay_s(response: Samples) -> float:
    """Return the reverberation time of an impulse response, by its decay from -5 to -25 dB."""
    energy = np.cumsum(np.square(response[::-1], dtype=np.float64))[::-1]
    level = 10 * np.log10(energy / energy[0] + 1e-12)
    begin, end = (int(np.argmax(level < edge)) for edge in (-5.0, -25.0))
    slope = np.polyfit(np.arange(begin, end) / RATE, level[begin:end], 1)[0]
    return float(-60 / slope)


@dataclass(frozen=True)
class Scene:
    """Somebody speaks while the robot does; all samples float32 at 16 kHz, of one length."""

    room: Room
    person: Recording
    said: tuple[tuple[float, str], ...]  # what the robot says, and when it begins to
    robot_db: float  # louder than the person, at the microphone
    playback: Samples  # what the robot plays
    robot: Samples  # what of it the microphone records, and nothing else
    voice: Samples  # the same of the person
    noise: Samples
    start_s: float  # of the person's first word
    end_s: float  # of their last
    robot_s: tuple[float, float]  # from when to when the robot speaks
    begin_s: float  # of the scene; before there is what the robot has said earlier

    @property
    def robot_text(self) -> str:
        return ' '.join(text for _, text in self.said)

    @property
    def together(self) -> Samples:
        return self.robot + self.voice + self.noise

    @property
    def person_alone(self) -> Samples:
        return self.voice + self.noise

    @property
    def robot_alone(self) -> Samples:
        return self.robot + self.noise


def scene(room: Room, person: Recording, robot: Sequence[Recording], robot_db: float,
          distortion: float = 0.0, seed: int = 0, earlier_s: float = EARLIER_S) -> Scene:
    """
    Simulate somebody who interrupts a robot that does not care.

    :param robot: what it says, one after the other until the person has ended
    :param robot_db: how much louder than the person it is at the microphone
    :param distortion: of the loudspeaker, 0 for none: it plays tanh(distortion * x) / distortion,
        x being 1 at the loudest sample
    :param earlier_s: for which the robot has spoken before the scene begins
    """
    said = person.samples()
    begin, end = sound_s(said)
    said = said[:round(end * RATE) + RATE // 2]
    earlier, _ = _speech(robot[::-1], earlier_s)
    begin_s = len(earlier) / RATE
    robot_s = begin_s + BEFORE_S
    start_s = robot_s + ROBOT_FIRST_S
    speech, sentences = _speech(robot, end - begin + ROBOT_FIRST_S + ROBOT_LAST_S, robot_s)
    robot_end_s = robot_s + len(speech) / RATE
    n_samples = round((robot_end_s + AFTER_S) * RATE)
    playback = placed(speech, robot_s, n_samples)
    playback[:len(earlier)] = earlier
    from_robot, from_person = room.impulse_responses()
    echo = fftconvolve(distorted(playback, distortion), from_robot)[:n_samples]
    delay_s = int(np.argmax(np.abs(from_person))) / RATE
    voice = fftconvolve(placed(said, start_s - begin - delay_s, n_samples),
                        from_person)[:n_samples]
    voice *= gain(voice, PERSON_DBFS)
    echo *= gain(echo, PERSON_DBFS + robot_db)
    noise = np.random.default_rng(seed).normal(0, 10 ** (NOISE_DBFS / 20), n_samples)
    return Scene(room, person, sentences, robot_db, *(part.astype(np.float32) for part in
                 (playback, echo, voice, noise)), start_s=start_s, end_s=start_s + end - begin,
                 robot_s=(robot_s, robot_end_s), begin_s=begin_s)


def _speech(robot: Sequence[Recording], length_s: float, from_s: float = 0.0
            ) -> tuple[Samples, tuple[tuple[float, str], ...]]:
    """Return speech of at least a length, and what is said in it, from when."""
    samples, sentences, n_samples = [np.zeros(0, np.float32)], [], 0
    while n_samples < length_s * RATE:
        recording = robot[len(sentences) % len(robot)]
        sentences.append((from_s + n_samples / RATE, recording.text))
        samples.append(recording.samples())
        n_samples += len(samples[-1])
    speech = np.concatenate(samples)
    return speech / np.abs(speech).max(initial=1e-9), tuple(sentences)


def placed(samples: Samples, at_s: float, n_samples: int) -> Samples:
    """Return samples that begin at a moment of a longer silence; at_s may be negative."""
    silence = np.zeros(n_samples, np.float32)
    at = round(at_s * RATE)
    samples = samples[max(0, -at):n_samples - at]
    silence[max(0, at):max(0, at) + len(samples)] = samples
    return silence


def distorted(samples: Samples, distortion: float) -> Samples:
    """Return what a loudspeaker makes of samples whose loudest is 1."""
    return np.tanh(distortion * samples) / distortion if distortion else samples


def powers(samples: Samples) -> np.ndarray:
    """Return the power of each 10 ms."""
    frames = samples[:len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    return np.square(frames, dtype=np.float64).mean(1)


def active_db(samples: Samples) -> float:
    """Return the level of what is within 30 dB of the loudest 10 ms, in dB of full scale."""
    power = powers(samples)
    return float(10 * np.log10(power[power > power.max() * 10 ** (-ACTIVE_DB / 10)].mean()))


def gain(samples: Samples, level_db: float) -> float:
    """Return the factor that brings samples to an active level."""
    return 10 ** ((level_db - active_db(samples)) / 20)


def sound_s(samples: Samples) -> tuple[float, float]:
    """Return from when to when there is sound: 30 ms in a row within 30 dB of the loudest."""
    power = powers(samples)
    loud = power > power.max() * 10 ** (-ACTIVE_DB / 10)
    runs = np.flatnonzero(loud[2:] & loud[1:-1] & loud[:-2])
    return float(runs[0] * FRAME / RATE), float((runs[-1] + 3) * FRAME / RATE)
