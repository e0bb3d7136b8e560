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
What the idle state saves, and what it costs: audio given to the model, wakes, words lost.

    python bench/idle.py [--parts hours onsets] [--speech DIR] [--seconds 3600] [--onsets 300]

hours: a quiet room with clicks, keys and chairs now and then, a fan, babble of seven talkers, and
people who talk now and then. onsets: speech that sets in after 5 to 60 s of silence or noise,
soft and whispered, too, with idle on beside idle off. Speech is that of test/data, or the
recordings in --speech, a folder with a manifest.tsv (columns file and text, as in test/data).
"""

import argparse
from collections import defaultdict
from dataclasses import replace
from itertools import chain
import os
from pathlib import Path
from time import process_time

import numpy as np

from voxtral_ros.evaluation.manifest import read_manifest
from voxtral_ros.evaluation.word_error_rate import normalize, word_errors
from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.recognizer.events import Transcript
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.vad import VadOptions, VoiceActivity
from voxtral_ros.resources import demo_model

ROOT = Path(__file__).resolve().parents[1]
RATE, BLOCK = 16000, 1280  # Hz; samples in 80 ms
TAIL_S = 2.5  # of background after an onset's speech: its text comes in it
WINDOW, HOP, ORDER = 400, 200, 20  # samples of a frame of whispering; coefficients


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parts = {'hours': hours, 'onsets': onsets}
    parser.add_argument('--parts', nargs='+', choices=parts, default=list(parts), help='[all]')
    parser.add_argument('--model', default=demo_model(), help='folder [the demo model]')
    parser.add_argument('--speech', type=Path, default=ROOT / 'test' / 'data',
                        help='folder with a manifest.tsv [test/data]')
    parser.add_argument('--seconds', type=int, default=3600, help='of each background [3600]')
    parser.add_argument('--onsets', type=int, default=300, help='[300]')
    parser.add_argument('--seed', type=int, default=0, help='of what is drawn [0]')
    arguments = parser.parse_args()
    engine = Engine.load(arguments.model, threads=1)
    engine.warm_up()
    speech = read_speech(arguments.speech)
    idle = StreamOptions().idle
    print(f'{engine.description}, {os.cpu_count()} cores, load average '
          f'{os.getloadavg()[0]:.1f} at the start; {len(speech)} recordings; {idle}')
    for name in arguments.parts:
        parts[name](arguments, engine, speech, np.random.default_rng(arguments.seed))


# ---- parts ----

def hours(arguments, engine, speech, random):
    """Print what long backgrounds cost with idle on and off."""
    n = arguments.seconds * RATE
    kinds = {'quiet room': (quiet_room(n, random), ''), 'fan': (fans(n, random), ''),
             'babble': (babble(n, speech, random), ''), 'speech': conversation(n, speech, random)}
    print(f'\n## {arguments.seconds} s of each\n\n'
          '| audio | given to the model | wakes an hour | CPU on | CPU off '
          '| words written on / off | word errors on / off |\n|---|---|---|---|---|---|---|')
    for name, (samples, text) in kinds.items():
        on, off = (run(engine, [samples], is_on) for is_on in (True, False))
        said = normalize(text)
        rates = [f'{100 * word_errors(said, words_of(result)) / len(said):.1f} %' if said else '-'
                 for result in (on, off)]
        print(f'| {name} | {100 * on.share:.1f} % | {on.wakes * 3600 / arguments.seconds:.0f} '
              f'| {on.cpu_percent(n):.2f} % | {off.cpu_percent(n):.2f} % '
              f'| {len(words_of(on))} / {len(words_of(off))} | {rates[0]} / {rates[1]} |',
              flush=True)


def onsets(arguments, engine, speech, random):
    """Print what becomes of the first words, with idle on and off."""
    mixed = [mix_onset(number, speech, random) for number in range(arguments.onsets)]
    audio = [samples for samples, *_ in mixed]
    on, off = (run(engine, audio, is_on) for is_on in (True, False))
    rows = defaultdict(list)
    for number, (_, first, kind) in enumerate(mixed):
        heard = [words_of(result, number) for result in (on, off)]
        # One of the first two words: the model may write another one before it.
        row = [bool(heard[1]), bool(heard[0])] + [first in words[:2] for words in heard[::-1]]
        rows[kind].append(row)
        rows['all'].append(row)
    print(f'\n## First words of {len(mixed)} onsets, after 5 to 60 s of silence or noise\n\n'
          '| speech | onsets | anything written off / on | first word right off / on '
          '| right off, not on | right on, not off |\n|---|---|---|---|---|---|')
    for kind, row in sorted(rows.items(), key=lambda item: item[0] == 'all'):
        any_off, any_on, off_right, on_right = np.array(row).T
        print(f'| {kind} | {len(row)} | {any_off.sum()} / {any_on.sum()} '
              f'| {off_right.sum()} / {on_right.sum()} | {(off_right & ~on_right).sum()} '
              f'| {(on_right & ~off_right).sum()} |')
    seconds = sum(map(len, audio)) / RATE
    delays = [a - b for a, b in zip(on.first_text_s, off.first_text_s, strict=True)
              if np.isfinite(a) and np.isfinite(b)]
    print(f'\n{100 * on.share:.1f} % of {seconds:.0f} s given to the model; the first text comes '
          f'later by (s of audio) p50 {np.percentile(delays, 50):.3f}, '
          f'p95 {np.percentile(delays, 95):.3f}', flush=True)


# ---- running ----

class Result:
    """What a stream made of audio that it got in several parts."""

    def __init__(self, n_parts):
        self.share, self.wakes, self.cpu_s = 1.0, 0, 0.0
        self.words = [[] for _ in range(n_parts)]
        self.first_text_s = np.full(n_parts, np.inf)  # of audio fed of the part until then

    def cpu_percent(self, n_samples):
        """Return the share of one core that this took in real time."""
        return 100 * self.cpu_s * RATE / n_samples


def words_of(result, part=None):
    """Return the words of a part, or of all."""
    return result.words[part] if part is not None else list(chain(*result.words))


def run(engine, parts, is_on):
    """Feed one stream part by part in blocks of 80 ms; a word belongs to where it ends."""
    options = StreamOptions()
    if not is_on:
        options = replace(options, idle=replace(options.idle, after_s=0))
    stream, result, was_idle = engine.open(options=options), Result(len(parts)), False
    ends_s = np.cumsum([len(part) for part in parts]) / RATE
    texts = {}
    start = process_time()
    for number, part in enumerate(parts):
        for at in range(0, len(part), BLOCK):
            stream.feed(part[at:at + BLOCK])
            events = [event for event in stream.poll() if isinstance(event, Transcript)]
            texts.update((event.utterance_id, event) for event in events)
            # What the last part left is written within the first seconds.
            if events and at > TAIL_S * RATE:
                fed_s = (at + BLOCK) / RATE
                result.first_text_s[number] = min(result.first_text_s[number], fed_s)
            is_idle = stream.stats.idle_s > 0
            result.wakes += was_idle and not is_idle
            was_idle = is_idle
    stats = stream.stats
    result.share = 1 - stats.skipped_s / stats.fed_s
    texts.update((event.utterance_id, event) for event in stream.close()
                 if isinstance(event, Transcript))
    result.cpu_s = process_time() - start
    for _, text in sorted(texts.items()):
        for word in text.words:
            part = min(int(np.searchsorted(ends_s, word.end_s)), len(parts) - 1)
            result.words[part] += normalize(word.text)
    return result


# ---- speech ----

def read_speech(folder):
    """Return (samples, text), at -25 dBFS, from the first sample that is heard to be speech."""
    recordings = read_manifest(folder / 'manifest.tsv')
    speech = []
    for recording in recordings:
        samples = recording.samples()
        start = first_sample(samples)
        if start is not None:
            speech.append((set_speech_level(samples[start:], -25), recording.text))
    return speech


def first_sample(samples):
    """Return where speech begins, or None: where it rises out of what was before it."""
    voice = VoiceActivity(VadOptions())
    voice.push(samples)
    changes = [change.time_s for change in voice.changes if change.active]
    if not changes:
        return None
    frames = samples[:len(samples) // 80 * 80].reshape(-1, 80)
    rising = np.diff(frames, axis=1)  # lifts the breath of an h and the hiss of an f
    power = 10 * np.log10(np.square(rising).mean(1) + 1e-12)
    loud = power > max(np.percentile(power, 4) + 7, np.percentile(power, 95) - 42)
    at = first = int(changes[0] * RATE) // 80
    while at >= 0 and first - at < 10:  # 50 ms without anything: before that is silence
        first = at if loud[at] else first
        at -= 1
    return first * 80


def set_speech_level(samples, dbfs):
    """Return speech whose frames within 25 dB of the loudest have this level."""
    power = np.square(samples[:len(samples) // 320 * 320].reshape(-1, 320)).mean(1)
    active = power[power > power.max() * 10 ** -2.5].mean()
    return (samples * np.sqrt(10 ** (dbfs / 10) / active)).astype(np.float32)


def whispered(samples, random):
    """Return speech without its voice: noise through the envelopes of its spectrum."""
    window = np.hanning(WINDOW + 1)[:WINDOW]
    out = np.zeros(len(samples) + WINDOW)
    lags = np.abs(np.subtract.outer(np.arange(ORDER), np.arange(ORDER)))
    for at in range(0, len(samples) - WINDOW, HOP):
        frame = samples[at:at + WINDOW] * window
        power = np.fft.irfft(np.abs(np.fft.rfft(frame, 2 * WINDOW)) ** 2)[:WINDOW]
        power[0] = power[0] * 1.001 + 1e-9
        filters = np.linalg.solve(power[:ORDER][lags], power[1:ORDER + 1])
        error = max(power[0] - filters @ power[1:ORDER + 1], 1e-12) / WINDOW
        # Vowels, whose waves repeat, lose their voice and most of their strength.
        is_voiced = power[40:260].max() > 0.45 * power[0]
        envelope = np.fft.rfft(np.append(1, -filters), 2 * WINDOW)
        noise = np.fft.rfft(random.standard_normal(WINDOW), 2 * WINDOW) / envelope
        gain = np.sqrt(error) * (0.3 if is_voiced else 1)
        out[at:at + WINDOW] += np.fft.irfft(noise)[:WINDOW] * window * gain
    spectrum = np.fft.rfft(out[:len(samples)])
    frequency = np.fft.rfftfreq(len(samples), 1 / RATE)
    return np.fft.irfft(spectrum * frequency / np.hypot(frequency, 500), len(samples))


def mix_onset(number, speech, random):
    """Return background and then 3 s of speech, float32, its first word, and what it is."""
    samples, text = speech[random.integers(len(speech))]
    samples = samples[:3 * RATE].copy()
    samples[-800:] *= np.linspace(1, 0, 800)
    is_whispered = number % 4 == 3
    level = float(random.choice((-30, -35) if is_whispered else (-20, -25, -30, -35)))
    if is_whispered:
        samples = whispered(samples, random)
    samples = set_speech_level(samples, level)
    pause = int(np.exp(random.uniform(np.log(5), np.log(60))) * RATE)
    n = pause + len(samples) + int(TAIL_S * RATE)
    background = random.choice(('zeros', 'room', 'fan', 'pink'))
    if background == 'zeros':
        mixed = np.zeros(n)
    elif background == 'room':
        mixed = room(n, min(random.uniform(-60, -50), level - 20), random)
    else:
        mixed = (fan if background == 'fan' else pink)(n, level - 20, random)
    mixed[pause:pause + len(samples)] += samples
    kind = 'whispered' if is_whispered else f'{level:.0f} dBFS'
    return clipped(mixed), normalize(text)[0], kind


def babble(n, speech, random):
    """Return seven talkers at once, -32 dBFS."""
    return clipped(set_level(
        sum(conversation(n, speech, random, 0.3)[0] for _ in range(7)), -32))


def conversation(n, speech, random, pause_s=8.0):
    """Return recordings with pauses in a quiet room, and their text; the last one is whole."""
    audio, texts = room(n, -60, random), []
    at = int(2 * RATE)
    while True:
        samples, text = speech[random.integers(len(speech))]
        if at + len(samples) + 2 * RATE > n:
            return clipped(audio), ' '.join(texts)
        audio[at:at + len(samples)] += samples
        texts.append(text)
        at += len(samples) + int((0.3 + random.exponential(pause_s)) * RATE)


# ---- noise ----

def set_level(samples, dbfs):
    """Return samples with this level."""
    return samples * (10 ** (dbfs / 20) / np.sqrt(np.mean(np.square(samples)) + 1e-20))


def clipped(samples):
    """Return what a microphone gives."""
    return np.clip(samples, -1, 1).astype(np.float32)


def coloured(n, slope, random):
    """Return noise whose power falls with frequency to the power of `slope`."""
    spectrum = np.fft.rfft(random.standard_normal(n))
    frequency = np.maximum(np.fft.rfftfreq(n, 1 / RATE), 30)
    return np.fft.irfft(spectrum * frequency ** (-slope / 2), n)


def pink(n, dbfs, random):
    """Return pink noise."""
    return set_level(coloured(n, 1, random), dbfs)


def room(n, dbfs, random):
    """Return the noise of a room and of its microphone."""
    air = set_level(coloured(n, random.uniform(0.5, 2), random), 0)
    hiss = set_level(random.standard_normal(n), random.uniform(-20, -5))
    return set_level(air + hiss + hum(n, random, -20), dbfs)


def hum(n, random, level):
    """Return the harmonics of the mains, each up to `level` dB."""
    mains, time = random.choice((50, 60)), np.arange(n) / RATE
    return sum(10 ** (random.uniform(level - 15, level) / 20)
               * np.sin(2 * np.pi * mains * k * time + random.uniform(0, 6)) for k in (1, 2, 3, 5))


def fan(n, dbfs, random):
    """Return a fan: air, hum, and blades whose rate wanders a little."""
    air = set_level(coloured(n, random.uniform(0.8, 2.2), random), 0)
    seconds = np.arange(n // RATE + 2)
    wander = np.interp(np.arange(n) / RATE, seconds, random.standard_normal(len(seconds)))
    phase = 2 * np.pi * np.cumsum(random.uniform(60, 400) * (1 + 0.003 * wander)) / RATE
    blades = sum(10 ** (random.uniform(-20, -3) / 20) / k * np.sin(k * phase) for k in range(1, 6))
    return set_level(air + hum(n, random, 0) + blades, dbfs)


def in_parts(n, generate, low, high, random):
    """Return noise in parts of 5 minutes, each with a level between these."""
    size = 300 * RATE
    return np.concatenate([generate(min(size, n - at), random.uniform(low, high), random)
                           for at in range(0, n, size)])


def fans(n, random):
    """Return fans at -45 to -30 dBFS."""
    return clipped(in_parts(n, fan, -45, -30, random))


def quiet_room(n, random):
    """Return a room at -60 to -50 dBFS, with a sound twice a minute that is not speech."""
    audio = in_parts(n, room, -60, -50, random)
    sounds = (click, knocks, keys, chair, footsteps)
    at = int(random.exponential(30) * RATE)
    while at < n:
        sound = sounds[random.integers(len(sounds))](random)[:n - at]
        peak = 10 ** (random.uniform(-45, -12) / 20)
        audio[at:at + len(sound)] += sound * (peak / np.abs(sound).max())
        at += len(sound) + int(random.exponential(30) * RATE)
    return clipped(audio)


def click(random):
    """Return a click."""
    return random.standard_normal(random.integers(2, 60))


def impact(random, decay_s, n_modes, low_hz, high_hz):
    """Return decaying resonances."""
    time = np.arange(int(5 * decay_s * RATE)) / RATE
    modes = np.exp(random.uniform(np.log(low_hz), np.log(high_hz), n_modes))
    return sum(np.exp(-time / decay_s / random.uniform(0.5, 2))
               * np.sin(2 * np.pi * mode * time + random.uniform(0, 6)) for mode in modes)


def repeated(random, n, pause_s, sound):
    """Return a sound several times, each a little different."""
    at = (np.cumsum(random.exponential(pause_s / 2, n) + pause_s / 2) * RATE).astype(int)
    out = np.zeros(at[-1] + 2 * RATE)
    for start in at:
        new = sound() * random.uniform(0.3, 1)
        out[start:start + len(new)] += new
    return out


def knocks(random):
    """Return knocks at a door."""
    return repeated(random, random.integers(1, 5), 0.25,
                    lambda: impact(random, 0.03, 5, 80, 2000))


def keys(random):
    """Return somebody who types."""
    return repeated(random, random.integers(3, 60), 0.2,
                    lambda: impact(random, 0.004, 6, 700, 6000))


def footsteps(random):
    """Return footsteps."""
    return repeated(random, random.integers(2, 14), 0.55,
                    lambda: impact(random, 0.03, 5, 60, 900))


def chair(random):
    """Return a chair that is moved: it sticks and slips, and its wood rings."""
    n = int(random.uniform(0.2, 1) * RATE)
    knots = np.exp(0.5 * random.standard_normal(12))
    rate = random.uniform(30, 250) * np.interp(np.linspace(0, 11, n), np.arange(12), knots)
    slips = np.diff(np.floor(np.cumsum(rate) / RATE), prepend=0) * random.uniform(0.3, 1, n)
    return np.convolve(slips, impact(random, 0.01, 6, 150, 4000))[:n] * np.hanning(n) ** 0.5 \
        + 0.01 * random.standard_normal(n)


if __name__ == '__main__':
    main()
