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
Sessions in real time on the demo model: through the server's socket, and without it.

    source .venv/ros.bash && PYTHONPATH=.:$PYTHONPATH python bench/server.py
    ... python bench/server.py --connected 1 40 --seconds 240

Every session sends the spoken orders in blocks of 80 ms at their own pace, each at its own phase.
Both ways run the same engine thread; once behind `voxtral serve` in a process of its own with
clients in this one, once in this process without sockets, JSON and base64.

The delay of a word counts from when the block was sent that let its first token be computed to
when the word came, so the delay of the model (480 ms) is not in it. The last words come from a
flush, which has to compute 17 tokens of silence more.

With --connected the sessions are robots: each hears an order once in a while, at times of its own,
and the noise of a room (-60 dBFS) all the time. Its text is right if it is that of the orders,
each transcribed by itself in a stream that is alone.
"""

import argparse
import asyncio
import base64
import json
import os
from pathlib import Path
import platform
import re
import subprocess
import sys
import threading
import time
from urllib.request import urlopen

sys.path[0] = str(Path(__file__).resolve().parents[1])  # instead of bench/

from aiohttp import ClientSession  # noqa: E402
from bench.machine import processor  # noqa: E402
import numpy as np  # noqa: E402
import soundfile  # noqa: E402
import torch  # noqa: E402

from voxtral_ros.recognizer.engine import Engine  # noqa: E402
from voxtral_ros.recognizer.events import Transcript  # noqa: E402
from voxtral_ros.server.metrics import Metrics  # noqa: E402
from voxtral_ros.server.worker import Worker  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / 'models' / 'voxtral-tiny-en'
ORDERS = ROOT / 'test' / 'data' / 'orders.flac'
RATE, BLOCK = 16000, 1280  # Hz; samples in 80 ms
BLOCK_S = BLOCK / RATE
DELAY = 6  # tokens
CONTEXT_S = 0.0025  # audio beyond a token that it is computed from


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--sessions', type=int, nargs='+', default=[1, 2, 4, 8, 12])
    parser.add_argument('--seconds', type=float, default=30, help='of audio per session [30]')
    parser.add_argument('--connected', type=int, nargs='+', default=[],
                        help='instead: robots that are connected, through the socket only')
    parser.add_argument('--speech', type=float, default=0.1, help='share of their audio [0.1]')
    parser.add_argument('--streams', type=int, default=16, help='of the server [16]')
    parser.add_argument('--idle-slot-s', type=float, default=1, help='of the server [1]')
    arguments = parser.parse_args()
    print(f'{processor()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the '
          f'start; one torch thread; torch {torch.__version__}, Python '
          f'{platform.python_version()}; {arguments.seconds:g} s of audio per session\n',
          flush=True)
    if arguments.connected:
        robots(arguments)
        return
    print('| sessions | way | delay of a word: p50 | p95 | max | words | last words after the end '
          'of audio, worst |\n|---|---|---|---|---|---|---|', flush=True)
    for n_sessions in arguments.sessions:
        for name, run in {'engine': without_socket, 'server': through_socket}.items():
            sessions = [Session(n, arguments.seconds) for n in range(n_sessions)]
            run(sessions)
            delays = np.concatenate([session.delays_s() for session in sessions]) * 1000
            p50, p95 = np.percentile(delays, (50, 95))
            tail = max(session.tail_s for session in sessions)
            print(f'| {n_sessions} | {name} | {p50:.0f} ms | {p95:.0f} ms | {delays.max():.0f} ms '
                  f'| {len(delays)} | {tail:.2f} s |', flush=True)


def robots(arguments):
    """Measure sessions in which somebody speaks once in a while."""
    print(f'{arguments.streams} streams, {arguments.speech:.0%} speech, a stream is given '
          f'away after {arguments.idle_slot_s:g} s\n\n'
          '| connected | delay of a word: p50 | p95 | max | words | texts that are right | waits '
          'for a stream | audio given to the model | engine busy |\n'
          '|---|---|---|---|---|---|---|---|---|', flush=True)
    orders, texts = split(soundfile.read(ORDERS, dtype='float32')[0])
    for n_sessions in arguments.connected:
        sessions = [Session(n, arguments.seconds) for n in range(n_sessions)]
        n_said = 0
        for n, session in enumerate(sessions):
            heard = session.hear(orders, arguments.speech, n)
            session.expected = ' '.join(texts[k] for k in heard)
            n_said += len(heard)
        metrics = through_socket(sessions, '--max-streams', arguments.streams,
                                 '--idle-slot-s', arguments.idle_slot_s)
        delays = np.concatenate([session.delays_s() for session in sessions]) * 1000
        n_right = sum(session.text == session.expected for session in sessions)
        audio_s, skipped_s, busy_s, waits = (metrics[f'voxtral_{name}_total'] for name in (
            'audio_seconds', 'skipped_audio_seconds', 'compute_seconds', 'stream_waits'))
        p50, p95 = np.percentile(delays, (50, 95))
        print(f'| {n_sessions} | {p50:.0f} ms | {p95:.0f} ms | {delays.max():.0f} ms | '
              f'{len(delays)} | {n_right} of {n_sessions} | {waits:.0f} of {n_said} | '
              f'{1 - skipped_s / audio_s:.0%} | {busy_s / arguments.seconds:.0%} |', flush=True)
        for session in sessions:
            if session.text != session.expected:
                print(f'<!-- {session.text!r} -->', flush=True)


def split(audio):
    """Return the utterances of a recording and their texts."""
    engine = Engine.load(DEMO, 'cpu', threads=1)

    def finals(samples):
        stream = engine.open()
        stream.feed(samples)
        return [event for event in stream.close()
                if isinstance(event, Transcript) and event.is_final]
    parts = []
    for event in finals(audio):
        start, stop = (round(RATE * time_s) for time_s in (event.start_s, event.end_s))
        parts.append(audio[max(0, start - RATE // 5):stop + RATE // 5])
    silence = np.zeros(RATE, np.float32)
    return parts, [' '.join(event.text for event in finals(
        np.concatenate((silence, part, silence)))) for part in parts]


class Session:
    """One speaker: what to send when, and when which word came."""

    def __init__(self, n, seconds):
        audio = soundfile.read(ORDERS, dtype='float32')[0]
        audio = np.append(audio, np.zeros(RATE, np.float32))
        audio = np.roll(audio, -n * 5 * BLOCK)  # nobody says the same at the same time
        audio = np.tile(audio, int(np.ceil(seconds * RATE / len(audio))))
        self.blocks = audio[:round(seconds / BLOCK_S) * BLOCK].reshape(-1, BLOCK)
        self.phase_s = 0.0371 * n % BLOCK_S
        self.sent = []  # time of every block
        self.words = []  # end of the word in the audio, when it came
        self.tail_s = 0.0
        self.text = ''

    def hear(self, parts, share, seed):
        """Send noise instead, and speech as often as the share says; return which parts."""
        rng = np.random.default_rng(seed)
        audio = 10 ** (-60 / 20) * rng.standard_normal(self.blocks.size, np.float32)
        heard, start = [], RATE
        while True:
            part = parts[(seed + len(heard)) % len(parts)]
            period = round(len(part) / share)
            if start + period > len(audio):
                break
            at = start + rng.integers(0, period - len(part) - 2 * RATE)
            audio[at:at + len(part)] += part
            heard.append((seed + len(heard)) % len(parts))
            start += period
        self.blocks = audio.reshape(-1, BLOCK)
        return heard

    def due(self, begin, n):
        """Return when block n is complete in the microphone."""
        return begin + self.phase_s + (n + 1) * BLOCK_S

    def came(self, delta, words):
        """Note the words that a delta begins."""
        now, n_parts = time.monotonic(), len(delta.split())
        for end_s in words[len(words) - n_parts + (not delta[0].isspace() and bool(self.words)):]:
            self.words.append((end_s, now))

    def delays_s(self):
        """Return the delay of every word."""
        delays = []
        for end_s, came in self.words:
            token = round(end_s / BLOCK_S) + 1
            needed_s = (DELAY + 1 + token) * BLOCK_S + CONTEXT_S
            block = int(needed_s / BLOCK_S)
            if end_s > 0 and block < len(self.sent):  # else the flush brought it out
                delays.append(came - self.sent[block])
        return np.array(delays)


def without_socket(sessions):
    """Run the engine thread of the server in this process."""
    engine = Engine.load(DEMO, 'cpu', max_streams=len(sessions), threads=1)
    worker = Worker(engine, Metrics())
    done = [threading.Event() for _ in sessions]

    def publisher(session, ended):
        def publish(update):
            for event in update.events:
                if isinstance(event, Transcript) and event.delta:
                    lead = '' if event.revision else ' '
                    session.came(lead + event.delta, [word.end_s for word in event.words])
            if update.usage:
                session.tail_s = time.monotonic() - session.sent[-1]
                ended.set()
        return publish
    jobs = [worker.open(publisher(*pair)) for pair in zip(sessions, done, strict=True)]
    begin = time.monotonic()
    plan = sorted((session.due(begin, n), n, k) for k, session in enumerate(sessions)
                  for n in range(len(session.blocks)))
    for due, n, k in plan:
        time.sleep(max(0.0, due - time.monotonic()))
        sessions[k].sent.append(time.monotonic())
        jobs[k].feed(sessions[k].blocks[n])
        if n == len(sessions[k].blocks) - 1:
            jobs[k].finish()
    for event in done:
        event.wait()
    worker.stop()


def through_socket(sessions, *options):
    """Run `voxtral serve` and a client per session; return the metrics of the server."""
    server = subprocess.Popen(
        [sys.executable, '-m', 'voxtral_ros', 'serve', '--port', '0', '--threads', '1',
         '--overload', '--max-sessions', str(len(sessions)), *map(str, options)],
        stdout=subprocess.PIPE, text=True)
    try:
        url = re.search(r'ws://\S+/realtime', server.stdout.readline())[0]
        asyncio.run(all_clients(url, sessions))
        address = url.replace('ws:', 'http:').replace('v1/realtime', 'metrics')
        with urlopen(address) as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, value in
                (line.rsplit(' ', 1) for line in lines if not line.startswith('#'))}
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


async def all_clients(url, sessions):
    async with ClientSession() as http:
        begin = time.monotonic() + 0.5
        await asyncio.gather(*(client(http, url, session, begin) for session in sessions))


async def client(http, url, session, begin):
    """Talk as one session."""
    async with http.ws_connect(url) as socket:
        await socket.send_json({'type': 'session.update', 'words': True})
        sending = asyncio.ensure_future(send(socket, session, begin))
        async for message in socket:
            event = json.loads(message.data)
            if event['type'] == 'transcription.delta':
                session.came(event['delta'], [word['end_s'] for word in event['words']])
            elif event['type'] == 'transcription.done':
                session.tail_s = time.monotonic() - session.sent[-1]
                session.text = event['text']
                break
        await sending


async def send(socket, session, begin):
    for n, block in enumerate(session.blocks):
        await asyncio.sleep(session.due(begin, n) - time.monotonic())
        pcm = np.clip(block * 32768, -32768, 32767).astype('<i2').tobytes()
        session.sent.append(time.monotonic())
        await socket.send_json({'type': 'input_audio_buffer.append',
                                'audio': base64.b64encode(pcm).decode()})
    await socket.send_json({'type': 'input_audio_buffer.commit'})


if __name__ == '__main__':
    main()
