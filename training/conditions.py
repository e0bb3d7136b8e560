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
What a robot's microphone does to speech: noise, other voices, rooms, clipping, a telephone.

All samples are float32 [n] at 16 kHz, -1..1; what comes back has the same length unless it says
otherwise. A signal-to-noise ratio is that of the active parts of the speech: its pauses would make
the noise too weak otherwise.
"""

from __future__ import annotations

import numpy as np
import soxr
from training.noise_test_set import coloured
from training.utterances import time_stretch as stretch_utterance, Utterance

RATE_HZ = 16000
_FRAME = 320  # samples, 20 ms
_ACTIVE_DB = 30  # below the loudest frame, speech has paused
_DIRECT_S = 0.0025  # after its first arrival, sound still counts as direct
_ROOM_M = (6.0, 4.5, 2.7)
_HEIGHT_M = 1.3  # of mouth and microphone
_SOUND_M_S = 343.0
_Random = np.random.Generator


def active_power(samples: np.ndarray) -> float:
    """Return the mean power of the frames that are at most 30 dB below the loudest one."""
    n = len(samples) // _FRAME * _FRAME
    powers = np.square(samples[:n], dtype=np.float64).reshape(-1, _FRAME).mean(1)
    return float(powers[powers >= powers.max() * 10 ** (-_ACTIVE_DB / 10)].mean())


def add_noise(speech: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Return speech plus noise of the same length, the peak lowered where it would clip."""
    power = np.square(noise, dtype=np.float64).mean()
    gain = np.sqrt(active_power(speech) / max(power, 1e-20) * 10 ** (-snr_db / 10))
    mixed = speech + gain * noise
    return (mixed / max(1.0, np.abs(mixed).max() / 0.99)).astype(np.float32)


def pink_noise(n: int, random: _Random) -> np.ndarray:
    """Return noise whose power falls by 3 dB an octave."""
    return coloured(n, 1.0, random)


def babble(n: int, voices: list[np.ndarray], random: _Random, count: int = 4) -> np.ndarray:
    """Return `count` of the voices at once, each equally loud and from a random place."""
    mixed = np.zeros(n)
    for voice in random.choice(len(voices), count, replace=False):
        samples = voices[voice]
        looped = np.resize(np.roll(samples, -int(random.integers(len(samples)))), n)
        mixed += looped / np.sqrt(active_power(samples))
    return mixed


def motor_noise(n: int, random: _Random) -> np.ndarray:
    """
    Return a geared motor that speeds up and slows down.

    Harmonics of the shaft, the whine of the gear teeth with side bands, and broadband hiss.
    """
    time = np.arange(n) / RATE_HZ
    shaft_hz = random.uniform(40, 110) * (1 + 0.25 * np.sin(
        2 * np.pi * random.uniform(0.15, 0.5) * time + random.uniform(0, 6)))
    turns = np.cumsum(shaft_hz) / RATE_HZ
    teeth = int(random.integers(9, 24))
    orders = (*range(1, 9), teeth - 1, teeth, teeth + 1, 2 * teeth)
    tones = sum(np.sin(2 * np.pi * (order * turns + random.random()))
                / (order if order < 9 else 3) for order in orders)
    hiss = coloured(n, 0.5, random)
    return tones + 0.4 * hiss / hiss.std()


def fan_noise(n: int, random: _Random) -> np.ndarray:
    """Return a fan: falling broadband noise, and the tones of its blades that pulsate a little."""
    time = np.arange(n) / RATE_HZ
    blades_hz = random.uniform(120, 320)
    tones = sum(np.sin(2 * np.pi * (k * blades_hz * time + random.random())) / k
                for k in range(1, 5))
    air = coloured(n, 1.3, random)
    pulse = 1 + 0.2 * np.sin(2 * np.pi * random.uniform(5, 15) * time)
    return air / air.std() * pulse + 0.3 * tones


def room_response(t60_s: float, distance_m: float, random: _Random) -> np.ndarray:
    """
    Return the impulse response of a room of 6 x 4.5 x 2.7 m by image sources, float32 [m].

    :param distance_m: from mouth to microphone, at a random place and in a random direction
    """
    import pyroomacoustics
    absorption, order = pyroomacoustics.inverse_sabine(t60_s, _ROOM_M)
    room = pyroomacoustics.ShoeBox(_ROOM_M, RATE_HZ, max_order=order,
                                   materials=pyroomacoustics.Material(absorption))
    mouth, microphone = _places(distance_m, random)
    room.add_source(mouth)
    room.add_microphone(microphone)
    room.compute_rir()
    return np.asarray(room.rir[0][0], np.float32)


def _places(distance_m: float, random: _Random) -> tuple[np.ndarray, np.ndarray]:
    """Return two points of the room with this distance, half a metre or more from its walls."""
    high = np.array(_ROOM_M[:2]) - 0.5
    while True:
        mouth, angle = random.uniform(0.5, high), random.uniform(0, 2 * np.pi)
        microphone = mouth + distance_m * np.array([np.cos(angle), np.sin(angle)])
        if (microphone >= 0.5).all() and (microphone <= high).all():
            return np.append(mouth, _HEIGHT_M), np.append(microphone, _HEIGHT_M)


def direct_to_reverberant_db(response: np.ndarray, end: int | None = None) -> float:
    """
    Return how much stronger the direct sound of an impulse response is than all the rest.

    :param end: sample at which the direct sound ends; None: 2.5 ms after its peak
    """
    end = _direct_end(response) if end is None else end
    direct, rest = (np.square(part, dtype=np.float64).sum()
                    for part in (response[:end], response[end:]))
    return float(10 * np.log10(direct / rest))


def set_direct_to_reverberant(response: np.ndarray, ratio_db: float) -> np.ndarray:
    """Return the response with its direct sound scaled, as if the speaker turned away."""
    changed = response.copy()
    gain_db = ratio_db - direct_to_reverberant_db(response)
    changed[:_direct_end(response)] *= 10 ** (gain_db / 20)
    return changed


def _direct_end(response: np.ndarray) -> int:
    """Return where the direct sound ends: 2.5 ms after its peak, the first large one."""
    loud = np.abs(response) > 0.5 * np.abs(response).max()
    return int(loud.argmax()) + int(_DIRECT_S * RATE_HZ)


def reverberate(speech: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Return the speech in a room, as loud as before; it lasts longer by the reverberation."""
    n = len(speech) + len(response) - 1
    wet = np.fft.irfft(np.fft.rfft(speech, n) * np.fft.rfft(response, n), n)
    wet *= np.sqrt(active_power(speech) / active_power(wet))
    return (wet / max(1.0, np.abs(wet).max() / 0.99)).astype(np.float32)


def clip(speech: np.ndarray, over_db: float) -> np.ndarray:
    """Return the speech with its peak `over_db` above full scale, cut off there."""
    return np.clip(speech / np.abs(speech).max() * 10 ** (over_db / 20), -1, 1).astype(np.float32)


def telephone(speech: np.ndarray) -> np.ndarray:
    """Return what a telephone transmits: 300 to 3400 Hz, at 8 kHz in 8-bit mu-law."""
    narrow = soxr.resample(_band(speech, 300, 3400), RATE_HZ, RATE_HZ // 2)
    narrow = np.clip(narrow, -1, 1)
    companded = np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log(256)
    companded = np.round(companded * 127) / 127
    decoded = np.sign(companded) * (256 ** np.abs(companded) - 1) / 255
    wide = soxr.resample(decoded, RATE_HZ // 2, RATE_HZ)
    return np.resize(np.pad(wide, (0, 8)), len(speech)).astype(np.float32)


def _band(samples: np.ndarray, low_hz: float, high_hz: float) -> np.ndarray:
    """Return the samples without what is below and above; the edges fall within 100 Hz."""
    padded = len(samples) + RATE_HZ // 10
    hz = np.fft.rfftfreq(padded, 1 / RATE_HZ)
    gain = np.clip((hz - low_hz) / 100 + 1, 0, 1) * np.clip((high_hz - hz) / 100 + 1, 0, 1)
    return np.fft.irfft(np.fft.rfft(samples, padded) * gain, padded)[:len(samples)]


def set_speech_level(speech: np.ndarray, dbfs: float) -> np.ndarray:
    """Return the speech with its active parts at this level; peaks beyond full scale are cut."""
    gain = 10 ** (dbfs / 20) / np.sqrt(active_power(speech))
    return np.clip(gain * speech, -1, 1).astype(np.float32)


def change_tempo(speech: np.ndarray, tempo: float) -> np.ndarray:
    """Return the speech `tempo` times as fast at the same pitch: shorter by as much."""
    return stretch_utterance(Utterance(speech, [], np.zeros(0)), tempo).samples
